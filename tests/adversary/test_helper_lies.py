"""A helper organisation, alone or with as many others as may be corrupt; and what one more could do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mimo_fed.errors import LocalProtocolError, PeerProtocolError, RoundAborted
from mimo_fed.secagg import HELPER_SIZES, REFERENCE, verify_manifest
from mimo_fed.secagg.crypto import Box
from mimo_fed.secagg.messages import ballot_digest, encode_quorum
from mimo_fed.secagg.modular import MODULUS, Residues, multiply
from mimo_fed.secagg.shamir import Sharing, base_points, lagrange
from tests.adversary.forge import Dealer, ballot_of, entries_of, vote_of, voting_rig
from tests.adversary.strawmen import collude
from tests.unit.secagg.rig import NOW_S, Rig, plain_sum

SUMS = {"a": 40}


def helped(n: int, helpers: int) -> Rig:
    return voting_rig(n, mode="helper", helpers=helpers, suite=REFERENCE)


@pytest.mark.parametrize("helpers", HELPER_SIZES)
def test_corrupt_helpers_cannot_gather_votes_for_two_ballots(helpers: int) -> None:
    """Whatever split of the honest helpers: one ballot lacks votes."""
    rig = helped(4, helpers)
    c = rig.manifest.committee
    whole, without_victim = rig.coordinator.ballot(), ballot_of(rig, entries_of(rig)[:3])
    corrupt, honest = range(c.corrupt), list(range(c.corrupt, helpers))
    voting, others = honest[: c.quorum - c.corrupt], honest[c.quorum - c.corrupt :]
    votes = {i: vote_of(rig, i, ballot_digest(without_victim))[-64:] for i in corrupt}
    for i in voting:
        rig.members[rig.member_ids[i]].vote(whole)
    for i in others:
        votes[i] = rig.members[rig.member_ids[i]].vote(without_victim)[-64:]
    assert len(votes) < c.quorum
    for i in others or voting:
        with pytest.raises(PeerProtocolError, match=f"too few votes, {c.quorum}: {len(votes)}"):
            rig.members[rig.member_ids[i]].open(
                encode_quorum(rig.signed.mh, ballot_digest(without_victim), votes)
            )


@pytest.mark.parametrize("helpers", HELPER_SIZES)
def test_what_corrupt_helpers_hold_fits_any_other_key_as_well(helpers: int) -> None:
    """For a key of the coordinator's choice there is a sharing that gives them the rows which they hold."""
    rig = Rig(4, SUMS, mode="helper", helpers=helpers)
    c = rig.manifest.committee
    dealer = Dealer(rig, rig.ids[0], rig.random_inputs(1)[rig.ids[0]])
    held = dealer.rows[: c.corrupt].astype(np.uint64)
    other: Residues = np.random.default_rng(helpers).integers(0, MODULUS, (held.shape[1],)).astype(np.uint64)
    assert not np.array_equal(other[:2048], dealer.secrets[0])
    known = np.vstack([other, held])
    points, base = (-1, *range(1, c.corrupt + 1)), base_points(c.threshold)
    rest = multiply(lagrange(points, base[1:]), known)
    sharing = Sharing(values=np.vstack([other, rest]), size=helpers)
    assert np.array_equal(sharing.shares()[: c.corrupt], held)


@pytest.mark.parametrize("helpers", HELPER_SIZES)
def test_one_helper_more_than_may_be_corrupt_reads_every_device(helpers: int) -> None:
    """The limit of the mode, shown: f + 1 helpers need no ballot at all."""
    rig = Rig(4, SUMS, mode="helper", helpers=helpers, suite=REFERENCE)
    inputs = rig.random_inputs(1)
    rig.gather(inputs)
    c, victim = rig.manifest.committee, rig.ids[2]
    boxes = {i: Box(rig.suite, rig.secrets[rig.member_ids[i]]) for i in range(c.corrupt + 1)}
    assert np.array_equal(collude(rig, boxes, victim), plain_sum([inputs[victim]["a"]]))


def test_one_of_three_helpers_can_stop_every_round() -> None:
    rig = helped(4, 3)
    rig.vote(rig.member_ids[:2])
    assert not rig.coordinator.has_quorum
    with pytest.raises(LocalProtocolError, match="there is no quorum: 2 votes"):
        rig.coordinator.quorum_certificate()


@pytest.mark.parametrize("helpers", [5, 7])
def test_one_of_five_or_seven_helpers_that_refuses_stops_nothing(helpers: int) -> None:
    rig = Rig(4, SUMS, mode="helper", helpers=helpers, suite=REFERENCE)
    inputs = rig.random_inputs(1)
    rig.gather(inputs)
    result = rig.finish(rig.member_ids[1:])
    assert np.array_equal(result.sums["a"].total_D, plain_sum(v["a"] for v in inputs.values()))


def test_a_helper_that_refuses_to_open_after_all_have_voted() -> None:
    rig = helped(4, 3)
    rig.vote()
    rig.open(rig.member_ids[:1])
    with pytest.raises(RoundAborted, match="too few members opened: 1"):
        rig.coordinator.result()
    rig.open(rig.member_ids[1:2])
    assert rig.coordinator.result().survivors == tuple(rig.ids)


def test_a_helper_that_has_been_revoked() -> None:
    rig = Rig(4, SUMS, mode="helper")
    serial = rig.certificates["helper-0"].serial
    anchors = dataclasses.replace(rig.anchors, revoked=frozenset({serial}))
    with pytest.raises(PeerProtocolError, match="revoked: helper-0"):
        verify_manifest(rig.m1, anchors, NOW_S)
