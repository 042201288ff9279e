"""The package, and a second implementation, against the vectors of docs/protocol.md: tests/vectors/secagg."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mimo_fed.secagg import choose
from tests.vectors import make_secagg, store
from tests.vectors.replay import Package
from tests.vectors.second.operations import Sessions

ROOT = Path(__file__).parents[3]
NAMES = [path.stem for path in store.paths()]
FILES = {path.stem: store.load(path) for path in store.paths()}
EXACT = 0.0

ALONE = """
import runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        ours = name.split(".")[0].startswith("mimo_fed") or name.startswith("tests.unit")
        if ours or name in ("numpy", "tests.vectors.replay", "tests.vectors.making"):
            raise ImportError(f"a second implementation imports: {name}")

sys.meta_path.insert(0, Refuse())
sys.argv[1:] = ["--json"]
runpy.run_path("tests/vectors/verify_secagg.py", run_name="__main__")
"""


def test_there_is_a_file_for_each_maker() -> None:
    assert sorted(make_secagg.MAKERS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_vectors_are_what_their_generator_writes(name: str) -> None:
    assert (store.FOLDER / f"{name}.json").read_text() == make_secagg.text(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_package_does_what_the_vectors_say(name: str) -> None:
    report = store.check(FILES[name], Package(choose("numpy")).execute, EXACT)
    assert report.failed == []
    assert report.passed == len(FILES[name]["operations"])


@pytest.mark.parametrize("name", ["round_all", "round_reference"])
def test_the_plain_back_end_does_what_the_vectors_say(name: str) -> None:
    assert store.check(FILES[name], Package(choose("plain")).execute, EXACT).failed == []


def test_a_second_implementation_that_imports_nothing_of_ours_does_what_the_vectors_say() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=ROOT, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    reports = json.loads(done.stdout)
    assert {name: report["failed"] for name, report in reports.items()} == {f"{n}.json": [] for n in NAMES}
    assert {name: report["passed"] for name, report in reports.items()} == {
        f"{name}.json": len(file["operations"]) for name, file in FILES.items()
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("new", [Package, Sessions])
def test_vectors_that_say_something_else_are_noticed(name: str, new: Callable[[], Any]) -> None:
    file = copy.deepcopy(FILES[name])
    changed = [op for op in file["operations"] if op["op"] != "contribute"]
    for operation in changed:
        _say_something_else(operation)
    report = store.check(file, new().execute)
    assert [line.split(": ")[0] for line in report.failed] == [op["name"].split(": ")[0] for op in changed]


def _say_something_else(operation: store.Operation) -> None:
    if not operation["success"]:
        operation["error"] = "protocol.other"
    elif operation["out"] is None:
        operation |= {"success": False, "error": "protocol.peer"}
    else:
        operation["out"] = _other(operation["out"])


def _other(out: Any) -> Any:
    """Another value of the same shape."""
    if isinstance(out, str):
        return out[:-1] + ("1" if out.endswith("0") else "0") if out else "00"
    if isinstance(out, dict):
        key = next((k for k in out if k != "length"), None)
        return {**out, key: _other(out[key])} if key else {"": 0}
    if isinstance(out, list):
        return [*out[:-1], _other(out[-1])] if out else [0]
    return out + 1


def test_operations_that_fail_are_named_so() -> None:
    for file in FILES.values():
        for operation in file["operations"]:
            assert operation["name"].startswith("bad_") != operation["success"]
            assert ("error" in operation) != operation["success"]


def test_recorded_rows_that_hold_something_else_are_noticed() -> None:
    file = copy.deepcopy(FILES["round_all"])
    first, second, _ = (op for op in file["operations"] if op["op"] == "contribute" and op["success"])
    first["out"] = second["out"]
    with pytest.raises(ValueError, match="do not hold what is to be sealed"):
        store.check(file, Package(choose("numpy")).execute)
    assert any("device-0 contributes" in line for line in store.check(file, Sessions().execute).failed)
