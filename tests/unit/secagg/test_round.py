"""A whole round, from contributions to the sum."""

from __future__ import annotations

import numpy as np
import pytest

from mimo_fed.errors import LocalProtocolError, PeerProtocolError, RoundAborted
from mimo_fed.secagg import Coordinator, Member, verify_quorum
from mimo_fed.secagg.words import error_bound
from tests.unit.secagg.rig import Rig, plain_sum

DIMS = {"r1-4": 3000, "statistics": 100}


@pytest.mark.parametrize("word_bits", [16, 24])
@pytest.mark.parametrize("n", [3, 8])
def test_the_result_is_the_sum_of_all_inputs(n: int, word_bits: int) -> None:
    rig = Rig(n, DIMS, word_bits=word_bits)
    inputs = rig.random_inputs(1)
    rig.gather(inputs)
    result = rig.finish(rig.ids)
    for name in DIMS:
        expected = plain_sum(v[name] for v in inputs.values())
        assert result.sums[name].num_devices == n
        assert np.abs(result.sums[name].total_D - expected).max() <= error_bound(n, word_bits)
    assert result.survivors == tuple(rig.ids)
    assert result.closed == {}
    assert verify_quorum(rig.signed, result.quorum_certificate)


def test_a_sum_has_its_own_contributors_and_may_stay_closed() -> None:
    rig = Rig(4, {"low": 50, "high": 50, "top": 50}, n_min=2)
    inputs = rig.random_inputs(2)
    for d in rig.ids[:3]:
        del inputs[d]["top"]
    for d in rig.ids[:2]:
        del inputs[d]["high"]
    rig.gather(inputs)
    result = rig.finish(rig.ids)
    assert set(result.closed) == {"top"}
    assert "2 and 4: 1" in result.closed["top"]
    assert result.sums["high"].devices == tuple(rig.ids[2:])
    assert result.sums["low"].num_devices == 4
    expected = plain_sum(inputs[d]["high"] for d in rig.ids[2:])
    assert np.abs(result.sums["high"].total_D - expected).max() <= error_bound(2, 16)


def test_a_device_that_vanishes_after_contributing_is_in_the_sum() -> None:
    rig = Rig(8, DIMS)
    inputs = rig.random_inputs(3)
    rig.gather(inputs)
    result = rig.finish(rig.ids[:6])
    assert result.survivors == tuple(rig.ids)
    expected = plain_sum(v["r1-4"] for v in inputs.values())
    assert np.abs(result.sums["r1-4"].total_D - expected).max() <= error_bound(8, 16)


def test_different_members_may_vanish_at_each_step() -> None:
    rig = Rig(8, DIMS)
    rig.gather(rig.random_inputs(3))
    rig.check_shares(rig.ids)
    rig.vote(rig.ids[2:])
    rig.open(rig.ids[2:])
    assert rig.coordinator.result().survivors == tuple(rig.ids)


@pytest.mark.parametrize("step", ["shares", "vote", "open"])
def test_too_few_members_abort_the_round(step: str) -> None:
    rig = Rig(6, DIMS)
    rig.gather(rig.random_inputs(4))
    rig.check_shares(rig.ids[:4] if step == "shares" else rig.ids)
    if step == "shares":
        with pytest.raises(RoundAborted, match="checked their shares, 5 must: 4"):
            rig.coordinator.ballot()
        return
    rig.vote(rig.ids[:4] if step == "vote" else rig.ids)
    if step == "vote":
        assert not rig.coordinator.has_quorum
        with pytest.raises(LocalProtocolError):
            rig.coordinator.quorum_certificate()
        return
    rig.open(rig.ids[:4])
    assert not rig.coordinator.can_open
    with pytest.raises(RoundAborted, match="too few members opened"):
        rig.coordinator.result()


def test_too_few_contributors_abort_the_round() -> None:
    rig = Rig(6, DIMS, n_min=6)
    inputs = rig.random_inputs(5)
    del inputs[rig.ids[0]]
    rig.gather(inputs)
    rig.check_shares(rig.ids)
    with pytest.raises(RoundAborted, match="no sum has enough survivors"):
        rig.coordinator.ballot()


def test_a_replayed_coordinator_is_in_the_same_state() -> None:
    rig = Rig(4, DIMS)
    inputs = rig.random_inputs(6)
    m2s = [rig.m2(d, inputs[d]) for d in rig.ids]
    for m2 in m2s:
        rig.coordinator.add(m2)
    rig.coordinator.close()
    result = rig.finish(rig.ids)

    again = Coordinator(rig.signed, rig.anchors, rig.spool)
    for m2 in reversed(m2s):
        again.add(m2)
        again.add(m2)
    again.close()
    for d in rig.ids:
        request = again.share_request(d)
        assert request == rig.coordinator.share_request(d)
        again.add_complaints(rig.members[d].receive(request))
    ballot = again.ballot()
    for d in rig.ids:
        again.add_vote(rig.members[d].vote(ballot))
    for d in rig.ids:
        again.add_opening(rig.members[d].open(again.quorum_certificate()))
    assert again.result().quorum_certificate == result.quorum_certificate
    assert np.array_equal(again.result().sums["r1-4"].total_D, result.sums["r1-4"].total_D)


def test_a_member_stored_at_every_step_gives_the_same_answers() -> None:
    rig = Rig(3, DIMS)
    rig.gather(rig.random_inputs(7))

    def restored(d: str, member: Member) -> Member:
        return Member.from_bytes(rig.signed, rig.keys[d], rig.certificates[d], member.to_bytes())

    for d in rig.ids:
        request = rig.coordinator.share_request(d)
        answer = restored(d, rig.members[d]).receive(request)
        assert answer == rig.members[d].receive(request) == rig.members[d].receive(request)
        rig.coordinator.add_complaints(answer)
    ballot = rig.coordinator.ballot()
    for d in rig.ids:
        answer = restored(d, rig.members[d]).vote(ballot)
        assert answer == rig.members[d].vote(ballot) == restored(d, rig.members[d]).vote(ballot)
        rig.coordinator.add_vote(answer)
    certificate = rig.coordinator.quorum_certificate()
    for d in rig.ids:
        answer = restored(d, rig.members[d]).open(certificate)
        assert answer == rig.members[d].open(certificate)
        rig.coordinator.add_opening(answer)
    assert rig.coordinator.result().survivors == tuple(rig.ids)


def test_a_member_forgets_what_it_no_longer_needs() -> None:
    rig = Rig(3, DIMS)
    rig.gather(rig.random_inputs(7))
    d, member = rig.ids[0], rig.members[rig.ids[0]]
    assert rig.secrets[d] in member.to_bytes()
    member.receive(rig.coordinator.share_request(d))
    with_shares = len(member.to_bytes())
    assert rig.secrets[d] not in member.to_bytes()
    rig.check_shares(rig.ids)
    member.vote(rig.coordinator.ballot())
    assert len(member.to_bytes()) < with_shares / 2
    assert repr(member) == "Member('device-00', ...)"


def test_a_damaged_member_state_is_our_own_fault() -> None:
    rig = Rig(3, DIMS)
    state = rig.members[rig.ids[0]].to_bytes()
    for damaged in (b"", state[:-1], state + b"x", b"x" + state[1:]):
        with pytest.raises(LocalProtocolError):
            Member.from_bytes(rig.signed, rig.keys[rig.ids[0]], rig.certificates[rig.ids[0]], damaged)


def test_steps_out_of_order_are_refused_and_change_nothing() -> None:
    rig = Rig(3, DIMS)
    inputs = rig.random_inputs(8)
    member = rig.members[rig.ids[0]]
    before = member.to_bytes()
    with pytest.raises(PeerProtocolError, match="before the shares"):
        member.vote(b"ballot")
    with pytest.raises(PeerProtocolError, match="before the ballot"):
        member.open(b"certificate")
    assert member.to_bytes() == before
    with pytest.raises(LocalProtocolError):
        rig.coordinator.share_request(rig.ids[0])
    with pytest.raises(LocalProtocolError):
        rig.coordinator.ballot()
    late = rig.m2(rig.ids[0], inputs[rig.ids[0]])
    rig.gather({d: inputs[d] for d in rig.ids[1:]})
    with pytest.raises(PeerProtocolError, match="too late: device-00"):
        rig.coordinator.add(late)
    assert rig.coordinator.contributors == tuple(rig.ids[1:])


@pytest.mark.parametrize("spoil", ["unknown", "none", "shape", "dtype", "range"])
def test_inputs_that_do_not_fit_are_refused_before_anything_is_sealed(spoil: str) -> None:
    rig = Rig(3, {"a": 10})
    good = np.zeros(10, np.uint32)
    inputs = {
        "unknown": {"b": good},
        "none": {},
        "shape": {"a": good[:9]},
        "dtype": {"a": good.astype(np.float32)},
        "range": {"a": good + np.uint32(2147352577)},
    }[spoil]
    with pytest.raises(LocalProtocolError):
        rig.m2(rig.ids[0], inputs)  # type: ignore[arg-type]
