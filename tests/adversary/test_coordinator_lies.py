"""A coordinator that wants to see one device's update; honest devices must refuse each step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mimo_fed.codec import Writer
from mimo_fed.errors import LocalProtocolError, PeerProtocolError
from mimo_fed.secagg import (
    Coordinator,
    DevicePolicy,
    MemorySpool,
    contribute,
    make_manifest,
    verify_manifest,
)
from mimo_fed.secagg.crypto import digest
from mimo_fed.secagg.messages import Ballot, Entry, ballot_digest, encode_quorum, vote_body
from tests.unit.secagg.rig import NOW_S, Rig

SUMS = {"a": 40}


def voting_rig(n: int = 4, n_min: int = 2) -> Rig:
    """A round where every member holds its shares and nobody has voted."""
    rig = Rig(n, SUMS, n_min=n_min)
    rig.gather(rig.random_inputs(1))
    rig.check_shares(rig.ids)
    return rig


def shrunk(rig: Rig, count: int) -> bytes:
    """The honest ballot with only the first `count` survivors."""
    ballot = Ballot.decode(rig.coordinator.ballot(), rig.signed)
    return Ballot(survivors=(ballot.survivors[0][:count],)).encode(rig.signed.mh)


def test_n_min_lowered_below_the_owners_floor() -> None:
    rig = Rig(4, SUMS, n_min=2)
    with pytest.raises(PeerProtocolError, match="fewer than 3: 2"):
        DevicePolicy(n_min_floor=3).check(rig.manifest)


def test_a_ballot_below_n_min() -> None:
    rig = voting_rig(n_min=3)
    with pytest.raises(PeerProtocolError, match="not within 3 and 4: 2"):
        rig.members[rig.ids[0]].vote(shrunk(rig, 2))


def test_a_ballot_above_n_max() -> None:
    rig = Rig(4, SUMS, n_min=2, n_max=3)
    rig.gather(rig.random_inputs(1))
    rig.check_shares(rig.ids)
    everyone = tuple(
        Entry(index=i, rank=c.header.rank, contribution=digest("contribution", c.encoded))
        for i, c in sorted(rig.coordinator._contributions.items())
    )
    with pytest.raises(PeerProtocolError, match="not within 2 and 3: 4"):
        rig.members[rig.ids[0]].vote(Ballot(survivors=(everyone,)).encode(rig.signed.mh))


def test_a_ballot_that_opens_nothing() -> None:
    rig = voting_rig()
    with pytest.raises(PeerProtocolError, match="opens nothing"):
        rig.members[rig.ids[0]].vote(Ballot(survivors=((),)).encode(rig.signed.mh))


def test_a_ballot_with_another_contribution_or_another_rank() -> None:
    rig = voting_rig()
    honest = Ballot.decode(rig.coordinator.ballot(), rig.signed).survivors[0]
    for change in ({"contribution": bytes(32)}, {"rank": 16}):
        forged = (dataclasses.replace(honest[0], **change), *honest[1:])  # type: ignore[arg-type]
        with pytest.raises(PeerProtocolError, match="another contribution of device-00"):
            rig.members[rig.ids[0]].vote(Ballot(survivors=(forged,)).encode(rig.signed.mh))


def test_survivors_shown_differently_to_different_members() -> None:
    """U to some, U minus a victim to others: no two ballots can both gather a quorum of honest votes."""
    rig = voting_rig()
    whole, without_victim = rig.coordinator.ballot(), shrunk(rig, 3)
    for d in rig.ids[:2]:
        rig.members[d].vote(whole)
    votes = {i: rig.members[rig.ids[i]].vote(without_victim)[-64:] for i in (2, 3)}
    forged = encode_quorum(rig.signed.mh, ballot_digest(without_victim), votes)
    with pytest.raises(PeerProtocolError, match="too few votes, 3: 2"):
        rig.members[rig.ids[3]].open(forged)


def test_a_second_ballot_for_the_same_member() -> None:
    rig = voting_rig()
    member = rig.members[rig.ids[0]]
    member.vote(rig.coordinator.ballot())
    with pytest.raises(PeerProtocolError, match="voted for another"):
        member.vote(shrunk(rig, 3))


def test_a_second_opening_of_a_smaller_set() -> None:
    rig = voting_rig()
    rig.vote(rig.ids)
    rig.open(rig.ids)
    smaller = ballot_digest(shrunk(rig, 3))
    votes = {i: rig.keys[d].sign("vote", vote_body(rig.signed.mh, i, smaller)) for i, d in enumerate(rig.ids)}
    with pytest.raises(PeerProtocolError, match="voted for another ballot"):
        rig.members[rig.ids[0]].open(encode_quorum(rig.signed.mh, smaller, votes))


def test_a_certificate_of_forged_votes() -> None:
    rig = voting_rig()
    ballot = rig.coordinator.ballot()
    own = rig.members[rig.ids[0]].vote(ballot)[-64:]
    mh, name = rig.signed.mh, ballot_digest(ballot)
    for votes in (
        {0: own, 1: own, 2: own},
        {i: rig.coordinator_key.sign("vote", vote_body(mh, i, name)) for i in range(3)},
        {i: bytes(64) for i in range(4)},
    ):
        with pytest.raises(PeerProtocolError, match="signature is not valid"):
            rig.members[rig.ids[0]].open(encode_quorum(mh, name, votes))


def test_one_vote_counted_several_times() -> None:
    rig = voting_rig()
    ballot = rig.coordinator.ballot()
    own = rig.members[rig.ids[0]].vote(ballot)[-64:]
    writer = Writer().text("quorum").raw(rig.signed.mh).raw(ballot_digest(ballot)).u16(3)
    for _ in range(3):
        writer.u16(0).raw(own)
    with pytest.raises(PeerProtocolError, match="not distinct"):
        rig.members[rig.ids[0]].open(writer.bytes())


def test_a_contribution_hidden_from_one_member() -> None:
    """A member that was not shown a contribution does not vouch for it."""
    rig = Rig(4, SUMS)
    inputs = rig.random_inputs(1)
    partial = Coordinator(rig.signed, rig.anchors, MemorySpool())
    for d in rig.ids:
        m2 = rig.m2(d, inputs[d])
        rig.coordinator.add(m2)
        if d != rig.ids[3]:
            partial.add(m2)
    rig.coordinator.close()
    partial.close()
    rig.members[rig.ids[0]].receive(partial.share_request(rig.ids[0]))
    rig.check_shares(rig.ids[1:])
    with pytest.raises(PeerProtocolError, match="no good share of a from device-03"):
        rig.members[rig.ids[0]].vote(rig.coordinator.ballot())


def test_shares_exchanged_for_those_of_another_contributor() -> None:
    rig = Rig(3, SUMS)
    rig.gather(rig.random_inputs(1))
    request = rig.coordinator.share_request(rig.ids[0])
    mine = [c.sealed[0] for _, c in sorted(rig.coordinator._contributions.items())]
    swapped = request.replace(mine[0], b"#" * len(mine[0])).replace(mine[1], mine[0])
    with pytest.raises(PeerProtocolError, match="not what the contributor signed"):
        rig.members[rig.ids[0]].receive(swapped)


def test_a_second_set_of_shares() -> None:
    rig = voting_rig()
    empty = Writer().text("shares").raw(rig.signed.mh).u16(0).bytes()
    with pytest.raises(PeerProtocolError, match="another set"):
        rig.members[rig.ids[0]].receive(empty)


def test_a_member_that_was_shown_nothing_vouches_for_nothing() -> None:
    rig = Rig(3, SUMS)
    rig.gather(rig.random_inputs(1))
    member = rig.members[rig.ids[0]]
    member.receive(Writer().text("shares").raw(rig.signed.mh).u16(0).bytes())
    rig.check_shares(rig.ids[1:])
    rig.coordinator.add_complaints(member.receive(Writer().text("shares").raw(rig.signed.mh).u16(0).bytes()))
    with pytest.raises(PeerProtocolError, match="no good share"):
        member.vote(rig.coordinator.ballot())


def test_messages_of_another_round_replayed() -> None:
    old, new = voting_rig(), Rig(4, SUMS, round_id="round-2", sequence=2)
    new.gather(new.random_inputs(1))
    member = new.members[new.ids[0]]
    with pytest.raises(PeerProtocolError, match="another round"):
        member.receive(old.coordinator.share_request(new.ids[0]))
    new.check_shares(new.ids)
    with pytest.raises(PeerProtocolError, match="another round"):
        member.vote(old.coordinator.ballot())
    member.vote(new.coordinator.ballot())
    old.vote(old.ids)
    with pytest.raises(PeerProtocolError, match="another round"):
        member.open(old.coordinator.quorum_certificate())


def test_prekeys_of_another_round_in_a_manifest() -> None:
    old = Rig(4, SUMS)
    replayed = dataclasses.replace(old.manifest, round_id="round-2", sequence=2)
    with pytest.raises(PeerProtocolError, match="made for another round"):
        verify_manifest(make_manifest(old.coordinator_key, replayed), old.anchors, NOW_S)


def test_two_manifests_in_one_round_share_no_key() -> None:
    """Same members and prekeys, another base: shares sealed under one do not open under the other."""
    rig = Rig(3, SUMS)
    second = verify_manifest(
        make_manifest(rig.coordinator_key, dataclasses.replace(rig.manifest, base_digest="11" * 32)),
        rig.anchors,
        NOW_S,
    )
    d = rig.ids[0]
    m2 = contribute(second, rig.keys[d], rig.certificates[d], 4, {"a": np.zeros(40, np.uint32)}, rig.entropy)
    with pytest.raises(PeerProtocolError, match="another round"):
        rig.coordinator.add(m2)


def test_a_device_lends_its_name_to_no_other_key() -> None:
    rig = Rig(3, SUMS)
    a, b = rig.ids[:2]
    with pytest.raises(LocalProtocolError):
        contribute(
            rig.signed, rig.keys[a], rig.certificates[b], 4, {"a": np.zeros(40, np.uint32)}, rig.entropy
        )
