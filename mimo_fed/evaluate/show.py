"""The findings on a terminal, and as one document for programs."""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Console
from rich.table import Table as RichTable

from mimo_fed.evaluate import tables
from mimo_fed.evaluate.bootstrap import Estimate
from mimo_fed.evaluate.findings import Findings
from mimo_fed.evaluate.records import Json


def show(findings: Findings, console: Console) -> None:
    """Print the goals, every arm's figures, and what it takes of a device."""
    console.print(tables.about(findings), highlight=False, markup=False)
    sections = [table for s in findings.sections for table in (tables.levels(s), tables.comparisons(s))]
    for one in (tables.goals(findings), *sections, tables.costs(findings.results.arms)):
        shown = RichTable(title=one.title, title_justify="left", box=None)
        for number, word in enumerate(one.head):
            shown.add_column(word, justify="left" if number == 0 else "right")
        for row in one.rows:
            shown.add_row(*row)
        console.print()
        console.print(shown)


def document(findings: Findings) -> Json:
    """Return the figures as plain values.

    Stable keys: `dataset`, `base`, `goals`, `groups.GROUP.MEASURE.ARM.FIGURE` (value, low, high).
    """
    groups: Json = {}
    for section in findings.sections:
        by_arm = {
            summary.arm: {
                key: asdict(figure) if isinstance(figure, Estimate) else figure
                for key, figure in vars(summary).items()
                if key != "arm"
            }
            for summary in section.summaries
        }
        groups.setdefault(section.panel.group, {})[section.measure.field] = by_arm
    goals = [
        {
            "text": goal.text,
            "met": goal.met,
            "clear": goal.clear,
            "figure": asdict(goal.figure) if goal.figure else None,
        }
        for goal in findings.goals
    ]
    return {
        "dataset": findings.results.dataset,
        "base": findings.results.base,
        "goals": goals,
        "groups": groups,
    }
