"""The bench as a figure: nanoseconds and bytes a parameter on the client, ours beside the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mimo_fed.bench.table import number
from mimo_fed.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Json = dict[str, Any]
LABELS: Final = {
    "ideal_32": "AES-CTR alone, 32 neighbours",
    "ideal_96": "AES-CTR alone, 96 neighbours",
    "flower_8": "Flower SecAgg+, 8 neighbours",
    "flower_32": "Flower SecAgg+, 32 neighbours",
    "ckks_short": "TenSEAL CKKS, 60-40-60",
    "ckks": "TenSEAL CKKS, 60-40-40-60",
}
OURS, OTHERS, INK = "#3b82c4", "#9aa3ad", "#7d8590"
FORMATS: Final = (".svg", ".png")


def check_path(path: Path) -> None:
    """Refuse a file that is neither SVG nor PNG.

    Raises:
        ConfigError: it has another ending.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"a figure is written as .svg or .png, not: {path.name}")


def write_plot(document: Json, path: Path) -> None:
    """Draw both panels into a file.

    Raises:
        ConfigError: the file is neither SVG nor PNG, or matplotlib is not installed.
    """
    figure = open_figure(path, width=9.0, height=3.4)
    left, right = figure.subplots(1, 2, sharey=True)
    names, nanoseconds, num_bytes = _bars(document)
    _panel(left, names, nanoseconds, "nanoseconds a parameter, client")
    _panel(right, names, num_bytes, "bytes a parameter, uploaded")
    save_figure(figure, path)


def open_figure(path: Path, *, width: float, height: float) -> Figure:
    """Open a figure of this size in inches for a file.

    Raises:
        ConfigError: the file is neither SVG nor PNG, or matplotlib is not installed.
    """
    check_path(path)
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ConfigError(
            "a figure needs a package that is not installed: matplotlib", hint="install the extra [bench]"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure; the same numbers give the same bytes."""
    from matplotlib import rc_context

    settings: Any = {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif"}
    with rc_context(settings):
        metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {}
        figure.savefig(path, transparent=path.suffix == ".svg", dpi=150, metadata=metadata)


def _bars(document: Json) -> tuple[list[str], list[float], list[float]]:
    """Return names, nanoseconds and bytes, ours first."""
    num_params, ours = document["params"], document["client"]
    shown = [(label, document["vs"][key]) for key, label in LABELS.items() if key in document["vs"]]
    names = ["ours", *(label for label, _ in shown)]
    seconds = [ours["s"], *(entry["client_s"] for _, entry in shown)]
    sent = [ours["bytes"], *(entry["bytes"] for _, entry in shown)]
    return names, [s / num_params * 1e9 for s in seconds], [b / num_params for b in sent]


def _panel(axes: Axes, names: list[str], values: list[float], title: str) -> None:
    """Draw horizontal bars on a logarithmic scale, each with its number."""
    places = range(len(names))
    axes.barh(places, values, color=[OURS, *[OTHERS] * (len(names) - 1)], height=0.65)
    for place, value in zip(places, values, strict=True):
        axes.text(value * 1.1, place, number(value), va="center", color=INK)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 3, max(values) * 5)
    axes.set_yticks(list(places), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(title, color=INK)
    axes.tick_params(which="both", colors=INK)
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(INK)
