"""The report's tables, once: the page and `docs/evaluation.md` show these very cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mimo_fed.evaluate.bootstrap import LEVEL, MIN_USERS, NUM_RESAMPLES, Estimate
from mimo_fed.evaluate.findings import Findings, Section
from mimo_fed.evaluate.metrics import BITS, Summary
from mimo_fed.evaluate.records import ENCRYPTED, ArmRecord
from mimo_fed.evaluate.verdict import Goal

GROUP_TITLES: Final = {"federated": "Users that took part", "cold": "Cold-start users, who took no part"}
STATUS: Final = {True: "met", False: "not met", None: "not measured"}
NOTHING: Final = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Plain text in cells; the first column names the row.

    Attributes:
        title: in words.
        head: one word or two a column.
        rows: as many cells each as there are in `head`.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def about(findings: Findings) -> str:
    """Say in a sentence or two what was measured and how intervals came about."""
    results = findings.results
    counts = [
        f"{len(one.panel.users)} users {words}"
        for group, words in (("federated", "took part"), ("cold", "did not (cold start)"))
        if (one := findings.section(group)) is not None
    ]
    languages = {user.language for one in findings.sections for user in one.panel.users}
    seeds = {record.seed for record in results.arms}
    return (
        f"{' and '.join(counts)}, {_count(len(languages), 'language')}, {_count(len(seeds), 'seed')}. "
        f"Seeds are averaged within a user. In brackets: {100 * LEVEL:.0f} % intervals of a paired bootstrap "
        f"over users, {NUM_RESAMPLES:,} resamples; none for fewer than {MIN_USERS} users. Where a share is 0 "
        "or 100 %, the interval has no width, which says only that these users were all alike."
    )


def goals(findings: Findings) -> Table:
    """List the goals, and how each stands."""
    return Table(
        title="Goals",
        head=("goal", "measured", "verdict"),
        rows=tuple((goal.text, goal_figure(goal), goal_verdict(goal)) for goal in findings.goals),
    )


def goal_figure(goal: Goal) -> str:
    """Write what was measured for a goal."""
    return share(goal.figure) if goal.percent else gain(goal.figure)


def goal_verdict(goal: Goal) -> str:
    """Say met or not met, and whether the interval leaves it open."""
    if goal.figure is None or goal.clear:
        return STATUS[goal.met]
    doubt = (
        "too few users for an interval" if goal.figure.low is None else "the interval reaches across the line"
    )
    return f"{STATUS[goal.met]}, but {doubt}"


def all_tables(findings: Findings) -> tuple[Table, ...]:
    """Return every table but the goals, in the order of the report."""
    made: list[Table] = []
    for section in findings.sections:
        made += [levels(section), comparisons(section)]
    for section in findings.sections:
        made += breakdowns(section, findings)
    federated = findings.section("federated")
    if federated is not None and (encrypted := agreement(federated)).rows:
        made.append(encrypted)
    return (*made, costs(findings.results.arms))


def levels(section: Section) -> Table:
    """Show each arm's mean, median and worst decile."""
    write, write_gain = (level, gain) if section.measure == BITS else (share, gain_share)
    columns: dict[str, Callable[[Summary], str]] = {
        "mean": lambda s: write(s.mean),
        "median": lambda s: write(s.median),
        "worst decile": lambda s: write(s.worst_decile),
        "its gain over local": lambda s: write_gain(s.worst_over_local),
    }
    return _columns(_title(section), columns, section.summaries)


def comparisons(section: Section) -> Table:
    """Show each arm against base, local only and global; columns that no arm fills are left out."""
    write = gain if section.measure == BITS else gain_share
    columns: dict[str, Callable[[Summary], str]] = {
        "gain over base": lambda s: write(s.gain_over_base),
        "users harmed": lambda s: share(s.harmed),
        "gain over local": lambda s: write(s.gain_over_local),
        "better than local": lambda s: share(s.better_than_local),
        "gain over global": lambda s: write(s.gain_over_global),
    }
    return _columns(
        f"{GROUP_TITLES[section.panel.group]}: gains in {section.measure.title}, more is better",
        columns,
        section.summaries,
    )


def breakdowns(section: Section, findings: Findings) -> list[Table]:
    """Show means and gains by language and by device class, for the arms that have a role."""
    parts = (("language", section.languages), ("device class", section.classes))
    return [_breakdown(section, word, by, findings) for word, by in parts if by]


def agreement(section: Section) -> Table:
    """Show how far an arm and its encrypted twin are apart: quantisation, and nothing else, may part them."""
    rows = []
    for arm in section.panel.arms:
        if (twin := arm + ENCRYPTED) in section.panel.arms:
            apart_N = np.abs(section.panel.gain(twin, arm))
            rows.append((arm, f"{apart_N.mean():.6f}", f"{apart_N.max():.6f}"))
    head = ("arm", "mean over users", "largest of any user")
    return Table(
        title=f"With and without encryption: {section.measure.title} apart", head=head, rows=tuple(rows)
    )


def costs(arms: Sequence[ArmRecord]) -> Table:
    """Show what each arm took of a device, in the whole run."""
    head = ("arm", "seeds", "steps a user", "learning rate", "rounds", "MB up", "MB down", "CPU s")
    rows = []
    for arm in dict.fromkeys(record.arm for record in arms):
        mine = [record for record in arms if record.arm == arm]
        rows.append(
            (
                arm,
                str(len(mine)),
                f"{_mean(mine, 'steps_per_user'):.4g}",
                ", ".join(f"{rate:.3g}" for rate in sorted({r.learning_rate for r in mine})),
                ", ".join(str(rounds) for rounds in sorted({r.rounds for r in mine})),
                f"{_mean(mine, 'bytes_up_per_device') / 1e6:.3g}",
                f"{_mean(mine, 'bytes_down_per_device') / 1e6:.3g}",
                f"{_mean(mine, 'device_cpu_s'):.3g}",
            )
        )
    return Table(title="What it takes of a device, whole run", head=head, rows=tuple(rows))


def level(estimate: Estimate | None) -> str:
    """Write 1.707 (1.623-1.791)."""
    return _written(estimate, "{:.3f}", "-")


def gain(estimate: Estimate | None) -> str:
    """Write +0.123 (0.101 to 0.145)."""
    return _written(estimate, "{:+.3f}", " to ")


def share(estimate: Estimate | None) -> str:
    """Write 84.0 % (80.1-88.2)."""
    return _written(_percent(estimate), "{:.1f}", "-", unit=" %")


def gain_share(estimate: Estimate | None) -> str:
    """Write +3.1 pp (2.0 to 4.2): percentage points."""
    return _written(_percent(estimate), "{:+.1f}", " to ", unit=" pp")


def _breakdown(section: Section, word: str, by: dict[str, tuple[Summary, ...]], findings: Findings) -> Table:
    roles, bits = findings.results.roles, section.measure == BITS
    last = roles.full if section.panel.group == "federated" else roles.cold
    wanted = [roles.base, roles.local, roles.shared, roles.cold, last]
    arms = [arm for arm in dict.fromkeys(wanted) if arm in section.panel.arms]
    rows = []
    for key, summaries in by.items():
        found = {s.arm: s for s in summaries}
        means = [f"{found[arm].mean.value:.3f}" if bits else share(_bare(found[arm].mean)) for arm in arms]
        gains = ["", ""]
        if arms:
            one = found[arms[-1]]
            gains = [(gain if bits else gain_share)(one.gain_over_base), share(one.better_than_local)]
        rows.append((key, str(summaries[0].num_users), *means, *gains))
    head = (word, "users", *arms, "gain over base", "better than local")
    title = f"{GROUP_TITLES[section.panel.group]}, by {word}: mean {section.measure.title}"
    if arms:
        title += f"; on the right, {arms[-1]}"
    return _filled(Table(title=title, head=head, rows=tuple(rows)))


def _columns(title: str, columns: dict[str, Callable[[Summary], str]], summaries: Sequence[Summary]) -> Table:
    rows = tuple((s.arm, *(write(s) for write in columns.values())) for s in summaries)
    return _filled(Table(title=title, head=("arm", *columns), rows=rows))


def _filled(table: Table) -> Table:
    """Leave out columns without a single figure."""
    keep = [i for i in range(len(table.head)) if any(row[i] for row in table.rows)]
    return Table(
        title=table.title,
        head=tuple(table.head[i] for i in keep),
        rows=tuple(tuple(row[i] for i in keep) for row in table.rows),
    )


def _title(section: Section) -> str:
    better = "lower" if section.measure.better < 0 else "higher"
    return f"{GROUP_TITLES[section.panel.group]}: {section.measure.title}, {better} is better"


def _written(estimate: Estimate | None, form: str, between: str, *, unit: str = "") -> str:
    if estimate is None:
        return NOTHING
    text = _number(estimate.value, form) + unit
    if estimate.low is None or estimate.high is None:
        return text
    low, high = (_number(end, form.replace("+", "")) for end in (estimate.low, estimate.high))
    return f"{text} ({low}{between}{high})"


def _number(value: float, form: str) -> str:
    """Write a number; what rounds to nothing has no minus."""
    text = form.format(value)
    return text if any(digit in text for digit in "123456789") else form.format(0.0)


def _bare(estimate: Estimate) -> Estimate:
    """Leave the interval out."""
    return Estimate(estimate.value)


def _percent(estimate: Estimate | None) -> Estimate | None:
    if estimate is None:
        return None
    low, high = (None if end is None else 100 * end for end in (estimate.low, estimate.high))
    return Estimate(100 * estimate.value, low, high)


def _mean(records: Sequence[ArmRecord], field: str) -> float:
    return sum(float(getattr(record, field)) for record in records) / len(records)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
