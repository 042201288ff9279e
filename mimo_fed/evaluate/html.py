"""The report as one page: the verdict, the figures, the tables, and how to make it again."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Final

from mimo_fed.evaluate import tables
from mimo_fed.evaluate.findings import Findings, read
from mimo_fed.evaluate.method import method_tables
from mimo_fed.evaluate.plots import draw_all
from mimo_fed.evaluate.records import Json
from mimo_fed.page.html import document, table, wide

PAGE: Final = "report.html"
CAPTIONS: Final = {
    "gains": "Each user: how much own text, and what the others' text added",
    "worst": "Every arm: the mean user and the worst-off tenth",
    "loss": "Loss by round",
    "bytes": "What it costs to send, and what it gives",
}


def write_page(folder: Path) -> Path:
    """Read a run's folder and write `report.html` into it.

    Raises:
        DataError: `users.csv` or `results.json` is malformed, or arms cannot be paired.
        ConfigError: matplotlib is not installed.
    """
    path = folder / PAGE
    path.write_text(page(read(folder)), encoding="utf-8")
    return path


def page(findings: Findings) -> str:
    """Write the whole page."""
    results = findings.results
    parts = [
        f"<h1>{escape(results.dataset)} on {escape(results.base)}: does it help?</h1>",
        f'<p class="faint">{escape(tables.about(findings))}</p>',
        _verdict(findings),
        *(f"<h2>{CAPTIONS[name]}</h2>\n{wide(svg)}" for name, svg in draw_all(findings).items()),
        *(_table(one) for one in (*tables.all_tables(findings), *method_tables(results))),
        "<h2>How to make this again</h2>",
        f"<pre>{escape(results.command)}</pre>",
        "<p>Every figure above comes from <code>users.csv</code>, one row per user, arm and seed, and "
        "<code>results.json</code>, both beside this page.</p>",
        _settings("Settings", results.settings),
        _settings("The data set", results.provenance),
        _settings("Versions and machine", {**results.versions, **results.machine}),
    ]
    return document(f"MiMo-Fed: {results.key}", parts)


def _verdict(findings: Findings) -> str:
    lines = []
    for goal in findings.goals:
        style = {True: "good", False: "bad", None: "faint"}[goal.met]
        figure = tables.goal_figure(goal)
        lines.append(
            f'<li class="{style}"><strong>{escape(tables.goal_verdict(goal))}</strong>: {escape(goal.text)}'
            + (f": {escape(figure)}" if figure else "")
            + "</li>"
        )
    return "<ul>\n" + "\n".join(lines) + "\n</ul>"


def _table(one: tables.Table) -> str:
    rows = [[_cell(text) for text in row] for row in one.rows]
    return f"<h2>{escape(one.title)}</h2>\n" + table([escape(word) for word in one.head], rows)


def _cell(text: str) -> str:
    """Write the interval, in brackets at the end, fainter than the figure."""
    figure, bracket, interval = text.partition(" (")
    if not (bracket and interval.endswith(")")):
        return escape(text)
    return f'{escape(figure)} <span class="faint">({escape(interval)}</span>'


def _settings(title: str, values: Json) -> str:
    rows = [
        (escape(key), escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
        for key, value in values.items()
    ]
    if not rows:
        return ""
    return f"<details>\n<summary>{title}</summary>\n{table(('name', 'value'), rows)}\n</details>"
