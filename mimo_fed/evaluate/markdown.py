"""One evaluation's section of `docs/evaluation.md`, between two comments; the rest is left alone."""

from __future__ import annotations

import re
from pathlib import Path

from mimo_fed.errors import DataError
from mimo_fed.evaluate import tables
from mimo_fed.evaluate.findings import Findings
from mimo_fed.evaluate.html import CAPTIONS
from mimo_fed.evaluate.method import method_tables
from mimo_fed.evaluate.plots import draw_all


def update_page(path: Path, findings: Findings) -> None:
    """Write an evaluation's section into a page, and its figures into the folder named like the page.

    A page that is missing is made. A section that is missing is added at the end.

    Raises:
        DataError: the page has one of the section's two comments but not the other, or has them twice.
        ConfigError: matplotlib is not installed.
    """
    figures = path.with_suffix("")
    drawn = draw_all(findings)
    links = {name: f"{figures.name}/{_slug(findings.results.key)}-{name}.svg" for name in drawn}
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    after = replace_section(before, findings.results.key, section(findings, links))
    figures.mkdir(parents=True, exist_ok=True)
    for name, svg in drawn.items():
        (path.parent / links[name]).write_text(svg, encoding="utf-8")
    path.write_text(after, encoding="utf-8")


def section(findings: Findings, links: dict[str, str]) -> str:
    """Write the section, without its comments.

    Args:
        findings: what to say.
        links: path of each figure, by name.
    """
    results = findings.results
    every = (*tables.all_tables(findings), *method_tables(results))
    parts = [
        f"## {results.dataset} on {results.base}",
        tables.about(findings),
        _table(tables.goals(findings)),
        *(f"![{CAPTIONS[name]}]({link})" for name, link in links.items()),
        *(f"### {one.title}\n\n{_table(one)}" for one in every),
        f"Made by:\n\n```console\n$ {results.command}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def replace_section(page: str, key: str, text: str) -> str:
    """Put a section between its two comments; add both at the end of a page that has neither.

    Raises:
        DataError: there is one comment without the other, or one twice.
    """
    begin, end = f"<!-- evaluation {key}: generated, do not edit -->", f"<!-- end of evaluation {key} -->"
    whole = f"{begin}\n\n{text}\n{end}\n"
    counts = page.count(begin), page.count(end)
    if counts == (0, 0):
        return f"{page.rstrip()}\n\n{whole}" if page.strip() else whole
    start, stop = page.find(begin), page.find(end)
    if counts != (1, 1) or stop < start:
        raise DataError(f"a page needs one of each, in this order: {begin} and {end}")
    return page[:start] + whole.rstrip("\n") + page[stop + len(end) :]


def _table(one: tables.Table) -> str:
    head = "| " + " | ".join(_cell(word) for word in one.head) + " |"
    rule = "|---" + "|---:" * (len(one.head) - 1) + "|"
    rows = ["| " + " | ".join(_cell(text) for text in row) + " |" for row in one.rows]
    return "\n".join([head, rule, *rows])


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")


def _slug(key: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")
