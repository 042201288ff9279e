"""Everything that a report says, computed once from `users.csv` and `results.json`.

The page, the section of `docs/evaluation.md` and the figures take their numbers from here and compute none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mimo_fed.errors import DataError
from mimo_fed.evaluate.files import read_folder
from mimo_fed.evaluate.metrics import ACCURACY, BITS, Measure, Panel, Summary, panel, summarise
from mimo_fed.evaluate.records import GROUPS, Results, Row
from mimo_fed.evaluate.verdict import Goal, judge


@dataclass(frozen=True, kw_only=True)
class Section:
    """One measure of one group of users.

    Attributes:
        panel: the values, per user and arm.
        summaries: one per arm.
        languages: the same summaries by language, largest first; empty if there is but one.
        classes: likewise by device class.
    """

    panel: Panel
    summaries: tuple[Summary, ...]
    languages: dict[str, tuple[Summary, ...]]
    classes: dict[str, tuple[Summary, ...]]

    @property
    def measure(self) -> Measure:
        """What was measured."""
        return self.panel.measure


@dataclass(frozen=True, kw_only=True)
class Findings:
    """One evaluation, computed.

    Attributes:
        results: how it came about.
        goals: met or not.
        sections: federated users first, bits per byte first; what nobody measured is left out.
    """

    results: Results
    goals: tuple[Goal, ...]
    sections: tuple[Section, ...]

    def section(self, group: str, measure: Measure = BITS) -> Section | None:
        """Return the section of a group and measure, if there is one."""
        found = (s for s in self.sections if s.panel.group == group and s.measure == measure)
        return next(found, None)


def compute(results: Results, rows: Sequence[Row]) -> Findings:
    """Compute all figures.

    A cold-start user has trained nothing: local only would be the base over again, and is left out there.

    Raises:
        DataError: there are no rows, or arms cannot be paired.
    """
    rows = [r for r in rows if not (r.group == "cold" and r.arm == results.roles.local)]
    panels = [panel(rows, group, measure) for group in GROUPS for measure in (BITS, ACCURACY)]
    sections = tuple(_section(one, results) for one in panels if one is not None)
    if not sections:
        raise DataError(f"no rows to compute from: {results.key}")
    made = Findings(results=results, goals=(), sections=sections)
    federated, cold = (made.section(group) for group in GROUPS)
    goals = judge(
        federated.summaries if federated else (), cold.summaries if cold else (), roles=results.roles
    )
    return Findings(results=results, goals=goals, sections=sections)


def read(folder: Path) -> Findings:
    """Read a run's folder and compute.

    Raises:
        DataError: a file is malformed, or arms cannot be paired.
    """
    return compute(*read_folder(folder))


def _section(one: Panel, results: Results) -> Section:
    languages, classes = one.split(lambda user: user.language), one.split(lambda user: user.device_class)
    return Section(
        panel=one,
        summaries=summarise(one, results.roles),
        languages=_each(languages, results),
        classes=_each(classes, results),
    )


def _each(parts: dict[str, Panel], results: Results) -> dict[str, tuple[Summary, ...]]:
    if len(parts) == 1:
        return {}
    return {key: summarise(part, results.roles) for key, part in parts.items()}
