"""Every threat of docs/threat-model.md points at tests that exist, or says why there is none."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "threat-model.md"
ROW = re.compile(r"^\| T(\d+) \|")
TEST = re.compile(r"`([a-z_/0-9]+\.py)::([A-Za-z_0-9]+)`")
CLAUSE = re.compile(r"(?<![\w.])(A )?(\d+(?:\.\d+)?)(?![\w%])")


@cache
def rows() -> dict[int, list[str]]:
    """Number of a threat to its cells."""
    found = {}
    for line in PAGE.read_text().splitlines():
        if match := ROW.match(line):
            found[int(match[1])] = [cell.strip() for cell in line.strip("|").split("|")]
    return found


@cache
def names_in(path: str) -> frozenset[str]:
    """Tests of a file: functions, and cases of state machines."""
    names = set()
    for node in ast.parse((ROOT / "tests" / path).read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            names.add(node.name)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names.add(node.targets[0].id)
    return frozenset(names)


def test_threats_are_numbered_without_a_gap() -> None:
    assert list(rows()) == list(range(1, len(rows()) + 1))
    assert len(rows()) >= 50


def test_a_number_stands_in_one_row_of_seven_cells() -> None:
    """A row is found by its number: of two with the same one, only the last would be looked at."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| T")]
    assert len(lines) == len(rows())
    assert {number: len(cells) for number, cells in rows().items()} == dict.fromkeys(rows(), 7)


@pytest.mark.parametrize("number", sorted(rows()))
def test_a_threat_has_a_test_that_exists_or_a_reason_why_not(number: int) -> None:
    *_, left, cell = rows()[number]
    named = TEST.findall(cell)
    assert named or re.search(r"\*accepted:\* \w+", cell), f"T{number}: {cell}"
    for path, name in named:
        assert name in names_in(path), f"T{number}: no test {name} in tests/{path}"
    assert left, f"T{number} does not say what is left"


@pytest.mark.parametrize("number", sorted(rows()))
def test_a_clause_that_is_cited_exists(number: int) -> None:
    pages = {
        "": (ROOT / "docs" / "protocol.md").read_text(),
        "A ": (ROOT / "docs" / "security-argument.md").read_text(),
    }
    cited = CLAUSE.findall(rows()[number][4])
    assert cited, f"T{number} cites no clause"
    for page, clause in cited:
        heading = rf"^## {clause}\." if "." not in clause else rf"^{re.escape(clause)} "
        assert re.search(heading, pages[page], re.MULTILINE), f"T{number} cites {page}{clause}"


def test_threats_that_other_threats_point_at_exist() -> None:
    pointed = {
        int(n) for cells in rows().values() for cell in cells[1:] for n in re.findall(r"\bT(\d+)\b", cell)
    }
    assert pointed <= set(rows())
    assert pointed, "rows do point at one another"


def test_every_file_of_attacks_is_cited() -> None:
    cited = {path for cells in rows().values() for path, _ in TEST.findall(cells[-1])}
    attacks = {f"adversary/{path.name}" for path in (ROOT / "tests" / "adversary").glob("test_*.py")}
    assert attacks <= cited
