"""The report's four figures as SVG: gains per user, the worst decile, loss by round, bytes against bits."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mimo_fed.evaluate.bootstrap import Estimate, Float64
from mimo_fed.evaluate.findings import Findings, Section
from mimo_fed.evaluate.history import Curve, loss_curves
from mimo_fed.evaluate.labels import SIZE, Label, place, spread
from mimo_fed.evaluate.metrics import Summary
from mimo_fed.evaluate.records import Roles
from mimo_fed.page.svg import INK, new_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = ("#3b82c4", "#e08a2c", "#3d845e", "#915480", "#cd1c1c", "#5656dd", "#afa161")
"""told apart, with `OTHER`, by readers without red or green cones too: 20 or more apart in CIELAB"""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
OTHER: Final = "#9aa3ad"
"""languages beyond the seventh"""


@dataclass(frozen=True, kw_only=True)
class _End:
    """Where a line meets the right edge."""

    text: str
    y: float
    colour: str
    style: str


def draw_all(findings: Findings) -> dict[str, str]:
    """Draw every figure that the run has numbers for, by name, in the order of the report."""
    federated = findings.section("federated")
    drawn: dict[str, str] = {}
    if federated is None:
        return drawn
    roles = findings.results.roles
    if {roles.full, roles.local} <= set(federated.panel.arms):
        drawn["gains"] = gains_svg(federated, roles)
    drawn["worst"] = worst_svg(federated.summaries, roles)
    if curves := loss_curves(findings.results.arms):
        drawn["loss"] = loss_svg(curves, roles)
    sent = {
        arm: float(np.mean([r.bytes_up_per_device for r in findings.results.arms if r.arm == arm]))
        for arm in {r.arm for r in findings.results.arms}
    }
    if any(sent.get(s.arm, 0) > 0 for s in federated.summaries):
        drawn["bytes"] = bytes_svg(federated.summaries, sent, roles)
    return drawn


def gains_svg(section: Section, roles: Roles) -> str:
    """Draw one mark per user: training bytes against the full arm's gain over local only."""
    users, gain_N = section.panel.users, section.panel.gain(roles.full, roles.local)
    figure = new_figure(width=9.0, height=4.2)
    axes = figure.add_subplot()
    axes.axhline(0, color=INK, lw=1)
    parts = list(section.panel.split(lambda user: user.language))
    for index, language in enumerate(parts[: len(COLOURS)]):
        mine = [i for i, user in enumerate(users) if user.language == language]
        colour, marker = COLOURS[index], MARKERS[index]
        _marks(axes, [users[i].train_bytes for i in mine], gain_N[mine], colour, marker, language)
    rest = [i for i, user in enumerate(users) if user.language in parts[len(COLOURS) :]]
    if rest:
        name = f"{len(parts) - len(COLOURS)} others"
        _marks(axes, [users[i].train_bytes for i in rest], gain_N[rest], OTHER, "*", name)
    axes.set_xscale("log")
    _plain_log_ticks(axes)
    axes.set_xlabel("bytes of the user's own training text")
    axes.set_ylabel(f"gain over {roles.local}, bits per byte")
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        labelcolor="linecolor",
        fontsize=SIZE,
        handletextpad=0.2,
        title="language: users",
        title_fontproperties={"size": SIZE},
    ).get_title().set_color(INK)
    axes.annotate(
        f"above the line: {roles.full} is better, {100 * np.mean(gain_N > 0):.0f} % of {len(users)} users",
        (0, 1),
        xycoords="axes fraction",
        xytext=(2, 6),
        textcoords="offset points",
        color=INK,
        fontsize=SIZE,
    )
    return to_svg(figure, "gains")


def worst_svg(summaries: Sequence[Summary], roles: Roles) -> str:
    """Draw each arm's mean and worst decile with intervals, the best worst decile on top."""
    ordered = sorted(summaries, key=lambda s: s.worst_decile.value)
    figure = new_figure(width=9.0, height=1.2 + 0.34 * len(ordered))
    axes = figure.add_subplot()
    local = next((s for s in ordered if s.arm == roles.local), None)
    if local is not None:
        axes.axvline(local.worst_decile.value, color=INK, lw=0.8, ls=":")
    for y, s in enumerate(ordered):
        colour = arm_colour(s.arm, roles)
        _interval(axes, s.mean, y, colour, filled=False)
        _interval(axes, s.worst_decile, y, colour, filled=True)
        end = s.worst_decile.high if s.worst_decile.high is not None else s.worst_decile.value
        _beside(axes, f"{s.worst_decile.value:.3f}", end, y, colour)
    first = ordered[0]
    for estimate, word in ((first.mean, "mean"), (first.worst_decile, "worst decile")):
        axes.annotate(
            word,
            (estimate.value, 0),
            xytext=(0, 10),
            textcoords="offset points",
            ha="center",
            color=INK,
            fontsize=SIZE,
        )
    axes.set_yticks(range(len(ordered)), [s.arm for s in ordered])
    axes.set_ylim(len(ordered) - 0.5, -0.9)
    axes.margins(x=0.1)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("bits per byte on the users' test text, 95 % intervals; lower is better")
    return to_svg(figure, "worst")


def loss_svg(curves: Mapping[tuple[str, ...], Curve], roles: Roles) -> str:
    """Draw the devices' mean loss at the start of each round, under the adapter it starts from, by arm."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(width=9.0, height=4.2)
    axes = figure.add_subplot()
    ends: list[_End] = []
    plain = itertools.cycle([(colour, style) for style in ("-", "--", ":") for colour in COLOURS[3:]])
    for names, points in curves.items():
        own = [colour for name in names if (colour := arm_colour(name, roles)) != INK]
        colour, style = (own[0], "-") if own else next(plain)
        rounds, losses = zip(*points, strict=True)
        axes.plot(rounds, losses, color=colour, lw=1.6, ls=style)
        label = ", ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} more"
        ends.append(_End(text=label, y=losses[-1], colour=colour, style=style))
    _at_right(axes, ends)
    last = max(points[-1][0] for points in curves.values())
    axes.set_xlim(min(points[0][0] for points in curves.values()), last)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("round")
    axes.set_ylabel("loss before the round, nats per token")
    return to_svg(figure, "loss")


def bytes_svg(summaries: Sequence[Summary], sent: Mapping[str, float], roles: Roles) -> str:
    """Draw what a device uploads in the whole run against mean bits per byte; who sends nothing is a line."""
    figure = new_figure(width=9.0, height=4.2)
    axes = figure.add_subplot()
    senders = [s for s in summaries if sent.get(s.arm, 0) > 0]
    silent = [s for s in summaries if sent.get(s.arm, 0) == 0]
    for s in senders:
        colour = arm_colour(s.arm, roles)
        if s.mean.low is not None and s.mean.high is not None:
            axes.vlines(sent[s.arm], s.mean.low, s.mean.high, color=colour, lw=1.2, alpha=0.5)
        axes.plot(sent[s.arm], s.mean.value, "o", color=colour)
    for s in silent:
        axes.axhline(s.mean.value, color=arm_colour(s.arm, roles), lw=1, ls=":")
    axes.set_xscale("log")
    sizes = [sent[s.arm] for s in senders]
    axes.set_xlim(min(sizes) / 2.5, max(sizes) * 4)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    _plain_log_ticks(axes)
    axes.set_xlabel("bytes that a device uploads in the whole run")
    axes.set_ylabel("bits per byte, mean over users; lower is better")
    if silent:
        _at_right(
            axes,
            [_End(text=s.arm, y=s.mean.value, colour=arm_colour(s.arm, roles), style=":") for s in silent],
        )
    place(
        axes,
        [Label(text=s.arm, x=sent[s.arm], y=s.mean.value, colour=arm_colour(s.arm, roles)) for s in senders],
    )
    return to_svg(figure, "bytes")


def arm_colour(arm: str, roles: Roles) -> str:
    """Return the same colour for an arm in every figure: full, local and shared stand out."""
    return {roles.full: COLOURS[0], roles.local: COLOURS[1], roles.shared: COLOURS[2]}.get(arm, INK)


def _marks(axes: Axes, x: Sequence[int], y: Float64, colour: str, marker: str, language: str) -> None:
    label = f"{language}: {len(x)}"
    axes.plot(x, y, marker, color=colour, ms=5, alpha=0.75, mew=0, label=label)


def _interval(axes: Axes, estimate: Estimate, y: float, colour: str, *, filled: bool) -> None:
    if estimate.low is not None and estimate.high is not None:
        axes.hlines(y, estimate.low, estimate.high, color=colour, lw=1.6, alpha=0.55)
    axes.plot(estimate.value, y, "o", color=colour, mfc=colour if filled else "none", ms=6)


def _beside(axes: Axes, text: str, x: float, y: float, colour: str) -> None:
    axes.annotate(
        text, (x, y), xytext=(7, 0), textcoords="offset points", va="center", color=colour, fontsize=SIZE
    )


def _at_right(axes: Axes, ends: Sequence[_End]) -> None:
    """Write words at the right edge, none on another, each tied to the end of its line."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.06
    heights = spread([end.y for end in ends], gap)
    axes.set_ylim(min(low, *(y - gap for y in heights)), max(high, *(y + gap for y in heights)))
    for end, y in zip(ends, heights, strict=True):
        tie = axes.plot(
            (1, 1.03), (end.y, y), color=end.colour, ls=end.style, lw=1, transform=axes.get_yaxis_transform()
        )
        tie[0].set_clip_on(False)
        axes.annotate(
            end.text,
            (1.03, y),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            color=end.colour,
            fontsize=SIZE,
            annotation_clip=False,
        )


def _plain_log_ticks(axes: Axes) -> None:
    """Write 2 kB rather than 2 x 10^3."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(EngFormatter(unit="B"))
    axes.xaxis.set_minor_formatter(NullFormatter())
