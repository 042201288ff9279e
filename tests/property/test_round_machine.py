"""Whole rounds with anything going wrong in any order: the right sum, or a refusal; never a wrong one.

Devices contribute, drop out, come late, repeat themselves and lie; members receive, vote and open in any
order, crash, accuse and answer falsely; the coordinator crashes and replays; bytes are spoiled on the way.
Only `MimoFedError` comes out, and what is opened is the sum over the survivors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mimo_fed.errors import MimoFedError, PeerProtocolError, RoundAborted
from mimo_fed.secagg import CLASSIC, MODULUS, REFERENCE, Coordinator, Member, Mode, RoundResult
from mimo_fed.secagg.messages import Ballot
from mimo_fed.secagg.words import error_bound
from tests.adversary.forge import Dealer, complaints_of
from tests.unit.secagg.rig import Rig, plain_sum

SUMS = {"a": 6, "b": 40}
HOW = ("honest", "honest", "honest", "one sum", "bad share", "no seal", "another key")
PLACE = st.integers(0, 63)
Step = tuple[str, bytes]


class RoundMachine(RuleBasedStateMachine):
    """One round; what is expected of it is kept beside it, in plain terms."""

    MODES: tuple[tuple[Mode, int], ...] = (("all", 0), ("helper", 3), ("helper", 5))
    DEVICES = (3, 7)

    @initialize(data=st.data(), suite=st.sampled_from([REFERENCE, CLASSIC]), seed=st.integers(0, 99))
    def begin(self, data: st.DataObject, suite: str, seed: int) -> None:
        mode, helpers = data.draw(st.sampled_from(self.MODES), label="mode")
        n = data.draw(st.integers(*self.DEVICES), label="devices")
        self.rig = Rig(n, SUMS, mode=mode, helpers=helpers, suite=suite, seed=f"machine {seed}")
        self.inputs = self.rig.random_inputs(seed)
        self.member_ids = sorted(self.rig.member_ids)
        self.log: list[Step] = []
        self.sent: dict[str, bytes] = {}
        self.how: dict[str, str] = {}
        self.cheated: dict[str, str] = {}  # contributor to the member it gave a bad share
        self.accused: set[str] = set()
        self.checked: set[str] = set()
        self.ballot = b""
        self.opened_by: set[str] = set()
        self.lying: set[str] = set()
        self.result: RoundResult | None = None
        self.liars = {self.member(i) for i in data.draw(st.sets(PLACE, max_size=2), label="members that lie")}
        first = st.lists(st.tuples(st.sampled_from(HOW), PLACE), min_size=min(n, 7) - 2, max_size=min(n, 7))
        for i, (how, victim) in enumerate(data.draw(first, label="contribute first")):
            self.contribute(i, how, victim)

    @rule(first=PLACE, count=PLACE)
    def go_on(self, first: int, count: int) -> None:
        """Some members take the next step of an undisturbed round, so that rounds get somewhere."""
        if not self.rig.coordinator.is_closed:
            self.close()
        elif not self.ballot:
            self.check_shares(first, count, False, 0)
            self.fix_survivors()
        elif not self.rig.coordinator.has_quorum:
            self.vote(first, count)
        else:
            self.open(first, count, 0)

    # What devices do

    @rule(place=PLACE, how=st.sampled_from(HOW), victim=PLACE)
    def contribute(self, place: int, how: str, victim: int) -> None:
        d = self.device(place)
        if d not in self.sent:
            self.sent[d] = self.made(d, how, self.member(victim))
        if self.deliver("add", self.sent[d]) is None:
            assert self.rig.coordinator.is_closed
            assert d not in self.rig.coordinator.contributors

    @precondition(lambda self: self.sent)
    @rule(place=PLACE, at=st.integers(0, 10**9), byte=st.integers(1, 255), cut=st.booleans())
    def spoil_a_contribution(self, place: int, at: int, byte: int, cut: bool) -> None:
        good = bytearray(self.sent[sorted(self.sent)[place % len(self.sent)]])
        good[at % len(good)] ^= byte
        with pytest.raises(PeerProtocolError):
            self.rig.coordinator.add(bytes(good[: at % len(good)] if cut else good))

    @precondition(lambda self: self.rig.coordinator.contributors)
    @rule(place=PLACE)
    def contribute_something_else(self, place: int) -> None:
        d = self.rig.coordinator.contributors[place % len(self.rig.coordinator.contributors)]
        with pytest.raises(PeerProtocolError, match="a second one"):
            self.rig.coordinator.add(self.rig.m2(d, self.inputs[d]))

    @rule()
    def close(self) -> None:
        self.deliver("close", b"")

    # What members do

    @rule(first=PLACE, count=PLACE, accuse=st.booleans(), whom=st.integers(0, 2**7 - 1))
    def check_shares(self, first: int, count: int, accuse: bool, whom: int) -> None:
        for d in self.members(first, count):
            self.check(d, whom if accuse and d == self.member(first) else 0)

    @rule(first=PLACE, count=PLACE)
    def vote(self, first: int, count: int) -> None:
        for d in self.members(first, count):
            vote = self.attempt(self.rig.members[d].vote, self.ballot or b"none yet")
            if vote is not None:
                self.deliver("add_vote", vote)

    @precondition(lambda self: self.ballot)
    @rule(place=PLACE)
    def ask_for_another_vote(self, place: int) -> None:
        """A member that has voted refuses a smaller ballot; one that has not is left alone."""
        member = self.rig.members[self.member(place)]
        if not member._vote:
            return
        whole = Ballot.decode(self.ballot, self.rig.signed)
        smaller = Ballot(survivors=whole.survivors[1:], opened=whole.opened).encode(self.rig.signed.mh)
        with pytest.raises(PeerProtocolError, match="voted for another"):
            member.vote(smaller)

    @rule(first=PLACE, count=PLACE, column=st.integers(0, 10**6))
    def open(self, first: int, count: int, column: int) -> None:
        certificate = self.attempt(self.rig.coordinator.quorum_certificate) or b"none yet"
        for d in self.members(first, count):
            opening = self.attempt(self.rig.members[d].open, certificate)
            if opening is None or d in self.opened_by:
                continue
            if d in self.liars:
                opening = self.falsified(d, opening, column)
            if self.deliver("add_opening", opening) is not None:
                self.opened_by.add(d)

    @rule(place=PLACE)
    def crash_a_member(self, place: int) -> None:
        d, rig = self.member(place), self.rig
        state = rig.members[d].to_bytes()
        rig.members[d] = Member.from_bytes(rig.signed, rig.keys[d], rig.certificates[d], state)

    # What the coordinator does

    @rule()
    def fix_survivors(self) -> None:
        try:
            self.ballot = self.rig.coordinator.ballot()
        except RoundAborted:
            assert len(self.checked) < self.rig.manifest.committee.quorum or not self.openable()
            return
        except MimoFedError:
            assert not self.rig.coordinator.is_closed
            return
        if ("ballot", b"") not in self.log:
            self.log.append(("ballot", b""))

    @rule()
    def read_result(self) -> None:
        coordinator, c = self.rig.coordinator, self.rig.manifest.committee
        try:
            self.result = coordinator.result()
        except RoundAborted:
            surplus = len(self.opened_by) - c.threshold
            spoilt = all(self.spoilt(name) for name in self.openable()) if self.ballot else True
            assert not coordinator.can_open or 2 * len(self.lying) > surplus or spoilt
            return
        self.judge(self.result)

    @rule()
    def crash_the_coordinator(self) -> None:
        """A new session is given what the old one had taken, in the same order."""
        rig = self.rig
        rig.coordinator = Coordinator(rig.signed, rig.anchors, rig.spool, rig.arithmetic)
        for name, data in self.log:
            getattr(rig.coordinator, name)(*([data] if data else []))

    @invariant()
    def nothing_is_opened_twice(self) -> None:
        known: RoundResult | None = getattr(self, "result", None)
        if known is not None and self.rig.coordinator.can_open:
            again = self.rig.coordinator.result()
            assert (again.survivors, again.evidence) == (known.survivors, known.evidence)

    def teardown(self) -> None:
        """Whatever happened, everybody who is left now does what is right."""
        if not hasattr(self, "rig"):
            return
        self.close()
        self.check_shares(0, 63, False, 0)
        self.fix_survivors()
        self.vote(0, 63)
        self.open(0, 63, 0)
        self.read_result()

    # The means

    def device(self, place: int) -> str:
        return self.rig.ids[place % len(self.rig.ids)]

    def member(self, place: int) -> str:
        return self.member_ids[place % len(self.member_ids)]

    def members(self, first: int, count: int) -> list[str]:
        return [self.member(first + i) for i in range(min(count + 1, len(self.member_ids)))]

    def attempt(self, act: Callable[..., bytes], *arguments: object) -> bytes | None:
        try:
            return act(*arguments)
        except MimoFedError:
            return None

    def deliver(self, name: str, data: bytes) -> Step | None:
        """Hand something to the coordinator; what it takes is kept for a replay."""
        try:
            getattr(self.rig.coordinator, name)(*([data] if data else []))
        except MimoFedError:
            return None
        self.log.append((name, data))
        return name, data

    def made(self, d: str, how: str, victim: str) -> bytes:
        inputs = {"b": self.inputs[d]["b"]} if how == "one sum" else self.inputs[d]
        self.inputs[d], self.how[d] = inputs, how
        dealer, index = Dealer(self.rig, d, inputs), self.member_ids.index(victim)
        if how == "bad share":
            dealer.rows[index, 0] = (int(dealer.rows[index, 0]) + 1) % MODULUS
            self.cheated[d] = victim
        elif how == "no seal":
            dealer.sealed[index] = bytes(len(dealer.seal_to(index, dealer.rows[index].tobytes())))
            self.cheated[d] = victim
        elif how == "another key":
            dealer.words[0] = Dealer(self.rig, d, inputs).words[0]
        return dealer.m2()

    def check(self, d: str, whom: int) -> None:
        coordinator = self.rig.coordinator
        request = self.attempt(coordinator.share_request, d)
        if request is None:
            assert not coordinator.is_closed
            return
        m2b = self.rig.members[d].receive(request, self.rig.anchors)
        named = {c for c, victim in self.cheated.items() if victim == d and c in coordinator.contributors}
        if d not in self.checked and whom:
            named |= {c for i, c in enumerate(coordinator.contributors) if whom >> i & 1}
            m2b = complaints_of(self.rig, self.member_ids.index(d), dict.fromkeys(sorted(named), 1))
        if self.deliver("add_complaints", m2b) is not None and d not in self.checked:
            self.checked.add(d)
            self.accused |= named

    def falsified(self, d: str, opening: bytes, column: int) -> bytes:
        body = bytearray(opening[:-64])
        groups = -(-2048 // self.rig.manifest.committee.packing)
        at = len(body) - 4 * (1 + column % groups)
        value = (int.from_bytes(body[at : at + 4], "little") + 1) % MODULUS
        body[at : at + 4] = value.to_bytes(4, "little")
        self.lying.add(d)
        return bytes(body) + self.rig.keys[d].sign("opening", bytes(body))

    def survivors(self, name: str) -> tuple[str, ...]:
        taken = self.rig.coordinator.contributors
        return tuple(d for d in taken if d not in self.accused and name in self.inputs[d])

    def openable(self) -> list[str]:
        n_min = self.rig.manifest.sums[0].n_min
        return [name for name in SUMS if len(self.survivors(name)) >= n_min]

    def spoilt(self, name: str) -> bool:
        """Somebody gave this sum words under another key than it shared."""
        return name == "a" and any(self.how[d] == "another key" for d in self.survivors(name))

    def judge(self, result: RoundResult) -> None:
        bits = self.rig.manifest.word_bits
        for name, opened in result.sums.items():
            assert opened.devices == self.survivors(name)
            assert not self.spoilt(name)
            error = np.abs(opened.total_D - plain_sum(self.inputs[d][name] for d in opened.devices)).max()
            assert error <= (0 if self.rig.suite == REFERENCE else error_bound(len(opened.devices), bits))
        assert set(result.sums) | set(result.closed) == set(SUMS)
        assert set(result.liars) <= self.lying
        assert {accused for _, accused, _ in result.accused} == self.accused


class SampledMachine(RoundMachine):
    """The same with 64 members, of whom 16 may be away."""

    MODES = (("sampled", 0),)
    DEVICES = (64, 66)


TestRound = RoundMachine.TestCase
TestRound.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestSampledRound = SampledMachine.TestCase
TestSampledRound.settings = settings(TestRound.settings, max_examples=5, stateful_step_count=12)
