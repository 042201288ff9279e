"""A committee member on its own: its order, its one life, and what it forgets."""

from __future__ import annotations

import pytest

from mimo_fed.errors import LocalProtocolError, PeerProtocolError
from mimo_fed.secagg import Member
from mimo_fed.secagg.shares import Received
from tests.unit.secagg.rig import Rig

DIMS = {"r1-4": 3000, "statistics": 100}


def restored(rig: Rig, d: str, member: Member) -> Member:
    return Member.from_bytes(rig.signed, rig.keys[d], rig.certificates[d], member.to_bytes())


def test_a_member_stored_at_every_step_gives_the_same_answers() -> None:
    rig = Rig(3, DIMS)
    rig.gather(rig.random_inputs(7))
    for d in rig.ids:
        request, member = rig.coordinator.share_request(d), rig.members[d]
        answer = restored(rig, d, member).receive(request, rig.anchors)
        assert answer == member.receive(request, rig.anchors) == member.receive(request, rig.anchors)
        rig.coordinator.add_complaints(answer)
    ballot = rig.coordinator.ballot()
    for d in rig.ids:
        answer = restored(rig, d, rig.members[d]).vote(ballot)
        assert answer == rig.members[d].vote(ballot) == restored(rig, d, rig.members[d]).vote(ballot)
        rig.coordinator.add_vote(answer)
    certificate = rig.coordinator.quorum_certificate()
    for d in rig.ids:
        answer = restored(rig, d, rig.members[d]).open(certificate)
        assert answer == rig.members[d].open(certificate)
        rig.coordinator.add_opening(answer)
    assert rig.coordinator.result().survivors == tuple(rig.ids)


def test_a_member_that_accuses_keeps_its_reasons_when_stored() -> None:
    rig = Rig(4, DIMS)
    revoked = rig.certificates[rig.ids[3]].serial
    rig.gather(rig.random_inputs(7))
    d = rig.ids[0]
    anchors = type(rig.anchors)(rig.anchors.coordinator, rig.anchors.authority, frozenset({revoked}))
    rig.members[d].receive(rig.coordinator.share_request(d), anchors)
    again = restored(rig, d, rig.members[d])
    assert again.to_bytes() == rig.members[d].to_bytes()
    rig.check_shares(rig.ids[1:])
    with pytest.raises(PeerProtocolError, match="no good shares from device-03"):
        again.vote(rig.coordinator.ballot())


def test_a_member_forgets_what_it_no_longer_needs() -> None:
    rig = Rig(3, DIMS)
    rig.gather(rig.random_inputs(7))
    d, member = rig.ids[0], rig.members[rig.ids[0]]
    assert rig.secrets[d] in member.to_bytes()
    member.receive(rig.coordinator.share_request(d), rig.anchors)
    with_shares = len(member.to_bytes())
    assert rig.secrets[d] not in member.to_bytes()
    rig.check_shares()
    member.vote(rig.coordinator.ballot())
    assert len(member.to_bytes()) < with_shares / 2


def test_shares_have_no_repr() -> None:
    rig = Rig(3, DIMS)
    rig.gather(rig.random_inputs(7))
    member = rig.members[rig.ids[0]]
    member.receive(rig.coordinator.share_request(rig.ids[0]), rig.anchors)
    [*received] = member._received.values()
    assert all(isinstance(item, Received) and repr(item) == "Received(...)" for item in received)
    assert repr(member) == "Member('device-00', ...)"


def test_a_damaged_member_state_is_our_own_fault() -> None:
    rig = Rig(3, DIMS)
    state = rig.members[rig.ids[0]].to_bytes()
    for damaged in (b"", state[:-1], state + b"x", b"x" + state[1:]):
        with pytest.raises(LocalProtocolError, match="member state cannot be read"):
            Member.from_bytes(rig.signed, rig.keys[rig.ids[0]], rig.certificates[rig.ids[0]], damaged)


def test_a_state_of_another_round_is_refused() -> None:
    rig, other = Rig(3, DIMS), Rig(3, DIMS, round_id="round-2")
    with pytest.raises(LocalProtocolError, match="another round"):
        restored(other, other.ids[0], rig.members[rig.ids[0]])


def test_a_device_that_is_no_member_has_no_part() -> None:
    rig = Rig(3, DIMS, mode="helper")
    with pytest.raises(PeerProtocolError, match="not a member of this round: device-00"):
        Member(rig.signed, rig.keys["device-00"], rig.certificates["device-00"], bytes(32))


def test_steps_out_of_order_are_refused_and_change_nothing() -> None:
    rig = Rig(3, DIMS)
    member = rig.members[rig.ids[0]]
    before = member.to_bytes()
    with pytest.raises(PeerProtocolError, match="before the shares"):
        member.vote(b"ballot")
    with pytest.raises(PeerProtocolError, match="before the ballot"):
        member.open(b"certificate")
    with pytest.raises(PeerProtocolError):
        member.receive(b"shares", rig.anchors)
    assert member.to_bytes() == before


def test_a_refused_ballot_or_certificate_changes_nothing() -> None:
    rig = Rig(3, DIMS)
    rig.gather(rig.random_inputs(7))
    rig.check_shares()
    member, ballot = rig.members[rig.ids[0]], rig.coordinator.ballot()
    before = member.to_bytes()
    with pytest.raises(PeerProtocolError):
        member.vote(ballot[:-1])
    assert member.to_bytes() == before
    rig.vote()
    before, certificate = member.to_bytes(), rig.coordinator.quorum_certificate()
    with pytest.raises(PeerProtocolError):
        member.open(certificate[:-1])
    assert member.to_bytes() == before
    rig.open()
    assert rig.coordinator.result().survivors == tuple(rig.ids)
