"""What the fleet in memory keeps of a round, and that a round can be repeated."""

from __future__ import annotations

from pathlib import Path

from tests.simulators.fleet import MemoryFleet, MemoryStore
from tests.unit.round.test_round import PLAN, run


def test_nothing_of_a_round_is_kept_but_what_was_agreed_to(tmp_path: Path) -> None:
    fleet = MemoryFleet(tmp_path)
    run(fleet, MemoryStore(), PLAN, tmp_path)
    assert all(journal.keys("round/") for journal in fleet.journals.values())
    fleet.end_round()
    assert {key for journal in fleet.journals.values() for key in journal.values} == {"agreed"}


def test_a_round_of_one_number_draws_the_same_whatever_was_before_it(tmp_path: Path) -> None:
    fleet, spools = MemoryFleet(tmp_path), []
    for name in ("first", "second", "other"):
        twin = MemoryFleet(tmp_path) if name == "second" else fleet
        if name == "second":
            twin.streams["device-1"](32)
        twin.begin_round(2 if name == "other" else 1)
        spools.append(twin.streams["device-1"](32))
    assert spools[0] == spools[1] != spools[2]
