"""A helper organisation's process that is killed in the middle of a round, at a write or between requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mimo_fed.errors import PeerProtocolError, RoundAborted
from mimo_fed.events import EventLog
from mimo_fed.round import envelope
from mimo_fed.round.records import Plan
from mimo_fed.secagg import verify_manifest
from mimo_fed.secagg.messages import Ballot
from mimo_fed_client.helper_log import RoundLog, read_log, rounds_of
from mimo_fed_client.helper_member import HelperMember
from mimo_fed_client.helper_settings import HelperPolicy
from mimo_fed_client.journal import FileJournal
from tests.simulators.fleet import NOW_S, Killed, MemoryFleet, MemoryStore, Stream
from tests.unit.client.test_helper import HELPED
from tests.unit.round.test_round import run

NAMES = ("helper-1", "helper-2", "helper-3")


class DyingJournal(FileJournal):
    """A real journal whose process is killed right after a write."""

    dies: Callable[[str], bool] = staticmethod(lambda key: False)

    def put(self, key: str, value: bytes) -> None:
        super().put(key, value)
        if self.dies(key):
            raise Killed


class HelpedFleet(MemoryFleet):
    """`MemoryFleet` with helpers on disk, which remember what they were asked."""

    def __init__(
        self, folder: Path, *, interval_s: float = 0.0, now_s: Callable[[], float] = lambda: NOW_S
    ) -> None:
        super().__init__(folder, helpers=3, now_s=now_s)
        self.folder = folder
        self.policy_of_helpers = HelperPolicy(n_min_floor=3, interval_s=interval_s)
        self.members: dict[str, HelperMember] = {}
        self.journals: dict[str, DyingJournal] = {}
        self.requests: dict[tuple[str, str], bytes] = {}
        for name in NAMES:
            self.start(name)

    def start(self, name: str) -> HelperMember:
        """Start a helper's process, or start it again, from what is on its disk."""
        home = self.folder / name
        self.journals[name] = DyingJournal(home / "journal", bytes(32))
        self.members[name] = HelperMember(
            self.journals[name],
            RoundLog(self.log(name)),
            key=self.helpers[name].key,
            certificate=self.helpers[name].certificate,
            anchors=lambda: self.anchors,
            policy=self.policy_of_helpers,
            entropy=Stream(name),
            now_s=self.now_s,
            events=EventLog(home / "events.jsonl"),
        )
        return self.members[name]

    def log(self, name: str) -> Path:
        return self.folder / name / "rounds.jsonl"

    def answer(self, stage: str, name: str, payload: bytes) -> bytes:
        if name not in self.members:
            return super().answer(stage, name, payload)
        self.requests[stage, name] = payload
        return self.members[name].handle(stage, payload)

    def total(self, plan: Plan = HELPED) -> list[int]:
        """Run a round and return the opened statistics."""
        outcome = run(self, MemoryStore(), plan, self.folder)
        assert outcome.votes == len(NAMES)
        total: list[int] = outcome.result.sums["statistics"].total_D.tolist()
        return total


def is_member(key: str) -> bool:
    """Whether a record of the journal is a member's state."""
    return key.endswith("/member")


def test_killed_before_every_request_it_answers_as_one_that_is_not(tmp_path: Path) -> None:
    class Restarting(HelpedFleet):
        def answer(self, stage: str, name: str, payload: bytes) -> bytes:
            if name in self.members:
                self.start(name)
            return super().answer(stage, name, payload)

    assert Restarting(tmp_path / "killed").total() == HelpedFleet(tmp_path / "whole").total()


@pytest.mark.parametrize("stage", ["join", "shares", "ballot"])
def test_killed_between_its_write_and_its_answer_it_gives_that_answer(tmp_path: Path, stage: str) -> None:
    class Dying(HelpedFleet):
        killed = 0

        def answer(self, asked: str, name: str, payload: bytes) -> bytes:
            if (asked, name) != (stage, "helper-1") or self.killed:
                return super().answer(asked, name, payload)
            self.killed += 1
            self.journals[name].dies = is_member
            with pytest.raises(Killed):
                super().answer(asked, name, payload)
            first = self.start(name).handle(asked, payload)
            assert self.start(name).handle(asked, payload) == first
            return first

    fleet = Dying(tmp_path)
    assert fleet.total()
    assert fleet.killed == 1
    assert [line["kind"] for line in read_log(fleet.log("helper-1"))] == ["joined", "voted", "opened"]


def test_a_vote_that_was_stored_but_never_left_binds_it(tmp_path: Path) -> None:
    """The kill comes after the journal's write: the auditors' log does not tell of the vote yet."""
    first, again = HelpedFleet(tmp_path / "first"), HelpedFleet(tmp_path / "again")
    first.total()
    asked = {stage: payload for (stage, name), payload in first.requests.items() if name == "helper-1"}
    for stage in ("prekey", "join", "shares"):  # the second fleet's keys are the first one's
        envelope.unwrap(again.answer(stage, "helper-1", asked[stage]))
    again.journals["helper-1"].dies = is_member
    with pytest.raises(Killed):
        again.answer("ballot", "helper-1", asked["ballot"])
    assert [line["kind"] for line in read_log(again.log("helper-1"))] == ["joined"]
    signed = verify_manifest(asked["join"], again.anchors, int(NOW_S))
    ballot = Ballot.decode(asked["ballot"][32:], signed)
    other = replace(ballot, survivors=ballot.survivors[1:]).encode(signed.mh)
    with pytest.raises(PeerProtocolError, match="has voted for another one"):
        envelope.unwrap(again.start("helper-1").handle("ballot", signed.mh + other))
    envelope.unwrap(again.start("helper-1").handle("ballot", asked["ballot"]))
    (told,) = rounds_of(read_log(again.log("helper-1")))
    assert told["sums"]["statistics"] == len(ballot.survivors)


def test_the_pause_between_rounds_outlives_a_restart_and_ends(tmp_path: Path) -> None:
    now = [NOW_S]
    fleet = HelpedFleet(tmp_path, interval_s=3600.0, now_s=lambda: now[0])
    plans = [replace(HELPED, round_id=f"train-{i}-aa", sequence=i) for i in range(1, 4)]
    fleet.total(plans[0])
    evaluate = replace(HELPED.config, kind="evaluate")
    fleet.total(replace(plans[0], round_id="evaluate-1-aa", sequence=2, config=evaluate))
    for name in NAMES:
        fleet.start(name)
    with pytest.raises(RoundAborted, match="took their places"):
        fleet.total(replace(plans[2], sequence=3))
    now[0] += 3600.0
    for device in fleet.devices.values():
        device.trained.clear()
    fleet.total(replace(plans[2], round_id="train-4-aa", sequence=4))
    told = rounds_of(read_log(fleet.log("helper-1")))
    assert [one["sequence"] for one in told] == [1, 2, 4]
