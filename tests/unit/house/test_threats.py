"""Every threat of docs/threat-model.md points at tests that exist, or says why there is none."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROW = re.compile(r"^\| T(\d+) \|")
TEST = re.compile(r"`([a-z_/0-9]+\.py)::([A-Za-z_0-9]+)`")
CLAUSE = re.compile(r"(?<![\w.])(A )?(\d+(?:\.\d+)?)(?![\w%])")


@cache
def rows() -> dict[int, list[str]]:
    """Number of a threat to its cells."""
    found = {}
    for line in (ROOT / "docs" / "threat-model.md").read_text().splitlines():
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
    for page, clause in CLAUSE.findall(rows()[number][4]):
        heading = rf"^## {clause}\." if "." not in clause else rf"^{re.escape(clause)} "
        assert re.search(heading, pages[page], re.MULTILINE), f"T{number} cites {page}{clause}"


def test_every_file_of_attacks_is_cited() -> None:
    cited = {path for cells in rows().values() for path, _ in TEST.findall(cells[-1])}
    attacks = {f"adversary/{path.name}" for path in (ROOT / "tests" / "adversary").glob("test_*.py")}
    assert attacks <= cited
