"""A whole round, from contributions to the sum, in every mode."""

from __future__ import annotations

import numpy as np
import pytest

from mimo_fed.errors import LocalProtocolError, PeerProtocolError, RoundAborted
from mimo_fed.secagg import (
    CLASSIC,
    HYBRID,
    NO_ERROR,
    REFERENCE,
    Arithmetic,
    Coordinator,
    Mode,
    SumSpec,
    beacon,
    choose,
)
from mimo_fed.secagg.groups import assign_groups
from mimo_fed.secagg.words import error_bound
from tests.unit.secagg.rig import Rig, plain_sum

DIMS = {"r1-4": 3000, "statistics": 100}


@pytest.mark.parametrize("suite", [CLASSIC, HYBRID])
@pytest.mark.parametrize("word_bits", [16, 24])
@pytest.mark.parametrize("n", [3, 8])
def test_the_result_is_the_sum_of_all_inputs(n: int, word_bits: int, suite: str) -> None:
    rig = Rig(n, DIMS, word_bits=word_bits, suite=suite)
    inputs = rig.random_inputs(1)
    rig.gather(inputs)
    result = rig.finish()
    for name in DIMS:
        expected = plain_sum(v[name] for v in inputs.values())
        assert result.sums[name].num_devices == n
        assert np.abs(result.sums[name].total_D - expected).max() <= error_bound(n, word_bits)
    assert result.survivors == tuple(rig.ids)
    assert (result.closed, result.accused, result.liars) == ({}, (), ())


@pytest.mark.parametrize(("mode", "helpers"), [("all", 0), ("helper", 3), ("helper", 5), ("helper", 7)])
def test_the_reference_suite_gives_the_exact_sum(mode: Mode, helpers: int) -> None:
    rig = Rig(5, DIMS, mode=mode, helpers=helpers, suite=REFERENCE)
    inputs = rig.random_inputs(2)
    rig.gather(inputs)
    result = rig.finish()
    for name in DIMS:
        assert np.array_equal(result.sums[name].total_D, plain_sum(v[name] for v in inputs.values()))


def test_a_sampled_committee_opens_for_devices_that_have_all_vanished() -> None:
    """Contributors that are no members; 16 of the 64 members are away after the shares."""
    rig = Rig(70, {"a": 10}, mode="sampled", suite=REFERENCE)
    chosen = [d for d in rig.ids if d not in rig.member_ids][:4]
    inputs = {d: rig.random_inputs(3)[d] for d in chosen}
    rig.gather(inputs)
    result = rig.finish(rig.member_ids[16:])
    assert result.survivors == tuple(chosen)
    assert np.array_equal(result.sums["a"].total_D, plain_sum(v["a"] for v in inputs.values()))


def test_a_grouped_round_gives_one_sum_a_group() -> None:
    sums = (
        SumSpec(name="statistics", dim=4, n_min=5),
        *(SumSpec(name=f"group-{g}", dim=9, n_min=2, group=g) for g in range(1, 6)),
    )
    rig = Rig(10, sums, suite=REFERENCE)
    groups = assign_groups(rig.ids, beacon("00" * 32), 5)
    dims = {"statistics": 4, **{f"group-{g}": 9 for g in range(1, 6)}}
    inputs = {
        d: {name: v for name, v in mine.items() if name in ("statistics", f"group-{groups[d]}")}
        for d, mine in rig.random_inputs(4, dims).items()
    }
    rig.gather(inputs)
    result = rig.finish()
    assert result.closed == {}
    for g in range(1, 6):
        members = tuple(d for d in rig.ids if groups[d] == g)
        assert result.sums[f"group-{g}"].devices == members
        expected = plain_sum(inputs[d][f"group-{g}"] for d in members)
        assert np.array_equal(result.sums[f"group-{g}"].total_D, expected)
    assert result.sums["statistics"].num_devices == 10


def test_a_sum_has_its_own_contributors_and_may_stay_closed() -> None:
    rig = Rig(4, {"low": 50, "high": 50, "top": 50}, n_min=2)
    inputs = rig.random_inputs(2)
    for d in rig.ids[:3]:
        del inputs[d]["top"]
    for d in rig.ids[:2]:
        del inputs[d]["high"]
    rig.gather(inputs)
    result = rig.finish()
    assert result.closed == {"top": "survivors not within 2 and 4: 1"}
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
    rig.check_shares()
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
        with pytest.raises(LocalProtocolError, match="there is no quorum: 4 votes"):
            rig.coordinator.quorum_certificate()
        return
    rig.open(rig.ids[:4])
    assert not rig.coordinator.can_open
    with pytest.raises(RoundAborted, match="too few members opened: 4"):
        rig.coordinator.result()


def test_two_of_three_helpers_open_what_all_three_have_voted_for() -> None:
    rig = Rig(5, DIMS, mode="helper", suite=REFERENCE)
    inputs = rig.random_inputs(4)
    rig.gather(inputs)
    rig.check_shares()
    rig.vote(rig.member_ids[:2])
    assert not rig.coordinator.has_quorum
    rig.vote(rig.member_ids[2:])
    rig.open(rig.member_ids[1:])
    total = rig.coordinator.result().sums["r1-4"].total_D
    assert np.array_equal(total, plain_sum(v["r1-4"] for v in inputs.values()))


def test_too_few_contributors_abort_the_round() -> None:
    rig = Rig(6, DIMS, n_min=6)
    inputs = rig.random_inputs(5)
    del inputs[rig.ids[0]]
    rig.gather(inputs)
    rig.check_shares()
    with pytest.raises(RoundAborted, match="no sum has enough survivors: 5 devices"):
        rig.coordinator.ballot()


def test_a_round_without_a_result_can_go_on_once_more_members_have_opened() -> None:
    rig = Rig(6, DIMS, suite=REFERENCE)
    rig.gather(rig.random_inputs(4))
    rig.check_shares()
    with pytest.raises(RoundAborted, match="too few members opened: 0"):
        rig.coordinator.result()
    rig.vote()
    rig.open(rig.ids[:4])
    with pytest.raises(RoundAborted, match="too few members opened: 4"):
        rig.coordinator.result()
    rig.open(rig.ids[4:])
    assert rig.coordinator.result() is rig.coordinator.result()


def test_a_replayed_coordinator_is_in_the_same_state() -> None:
    rig = Rig(4, DIMS)
    inputs = rig.random_inputs(6)
    m2s = [rig.m2(d, inputs[d]) for d in rig.ids]
    for m2 in m2s:
        rig.coordinator.add(m2)
    rig.coordinator.close()
    result = rig.finish()

    again = Coordinator(rig.signed, rig.anchors, rig.spool)
    for m2 in reversed(m2s):
        again.add(m2)
        again.add(m2)
    again.close()
    assert again.is_closed
    for d in rig.ids:
        request = again.share_request(d)
        assert request == rig.coordinator.share_request(d)
        again.add_complaints(rig.members[d].receive(request, rig.anchors))
        again.add_complaints(rig.members[d].receive(request, rig.anchors))
    ballot = again.ballot()
    assert ballot == again.ballot() == rig.coordinator.ballot()
    for d in rig.ids:
        again.add_vote(rig.members[d].vote(ballot))
    for d in rig.ids:
        again.add_opening(rig.members[d].open(again.quorum_certificate()))
    assert again.result().evidence == result.evidence
    assert np.array_equal(again.result().sums["r1-4"].total_D, result.sums["r1-4"].total_D)


def test_steps_of_the_coordinator_out_of_order_are_refused_and_change_nothing() -> None:
    rig = Rig(3, DIMS)
    inputs = rig.random_inputs(8)
    with pytest.raises(LocalProtocolError):
        rig.coordinator.share_request(rig.ids[0])
    with pytest.raises(LocalProtocolError):
        rig.coordinator.ballot()
    late = rig.m2(rig.ids[0], inputs[rig.ids[0]])
    rig.gather({d: inputs[d] for d in rig.ids[1:]})
    with pytest.raises(PeerProtocolError, match="too late: device-00"):
        rig.coordinator.add(late)
    with pytest.raises(PeerProtocolError, match="not a member of this round: stranger"):
        rig.coordinator.share_request("stranger")
    assert rig.coordinator.contributors == tuple(rig.ids[1:])
    assert repr(rig.members[rig.ids[0]]) == "Member('device-00', ...)"


@pytest.mark.parametrize("spoil", ["unknown", "none", "shape", "dtype", "range", "more"])
def test_inputs_that_do_not_fit_are_refused_before_anything_is_sealed(spoil: str) -> None:
    rig = Rig(3, {"a": 10})
    good = np.zeros(10, np.uint32)
    inputs = {
        "unknown": {"b": good},
        "none": {},
        "shape": {"a": good[:9]},
        "dtype": {"a": good.astype(np.float32)},
        "range": {"a": good + np.uint32(2147352577)},
        "more": {"a": good, "b": good},
    }[spoil]
    with pytest.raises(LocalProtocolError):
        rig.m2(rig.ids[0], inputs)  # type: ignore[arg-type]


def test_a_device_makes_no_contribution_in_another_name_or_out_of_the_cohort() -> None:
    rig, other = Rig(3, {"a": 10}), Rig(4, {"a": 10})
    rig.certificates[rig.ids[0]] = rig.certificates[rig.ids[1]]
    inputs = {"a": np.zeros(10, np.uint32)}
    with pytest.raises(LocalProtocolError, match="not the one in the manifest: device-01"):
        rig.m2(rig.ids[0], inputs)
    rig.keys["device-03"], rig.certificates["device-03"] = (
        other.keys["device-03"],
        other.certificates["device-03"],
    )
    with pytest.raises(PeerProtocolError, match="not a member of this round: device-03"):
        rig.m2("device-03", inputs)
    helped = Rig(4, {"a": 10}, mode="helper", cohort=("device-00", "device-01"))
    helped.m2("device-00", inputs)
    with pytest.raises(PeerProtocolError, match="not of this round's cohort: device-02"):
        helped.m2("device-02", inputs)


@pytest.mark.parametrize("name", ["plain", "numpy", "auto"])
def test_every_back_end_gives_the_same_round(name: str) -> None:
    rig = Rig(3, {"a": 70}, seed="back ends")
    rig.arithmetic = Arithmetic(backend=choose(name))
    rig.coordinator = Coordinator(rig.signed, rig.anchors, rig.spool, rig.arithmetic)
    rig.gather(rig.random_inputs(9))
    total = rig.finish().sums["a"].total_D
    reference = Rig(3, {"a": 70}, seed="back ends")
    reference.gather(reference.random_inputs(9))
    assert np.array_equal(total, reference.finish().sums["a"].total_D)


def test_another_error_term_takes_the_place_of_the_suites_own() -> None:
    assert Arithmetic(error=NO_ERROR).error_of(CLASSIC) is NO_ERROR
    rig = Rig(3, {"a": 30}, word_bits=24)
    rig.arithmetic = Arithmetic(error=NO_ERROR)
    rig.coordinator = Coordinator(rig.signed, rig.anchors, rig.spool, rig.arithmetic)
    inputs = rig.random_inputs(9)
    rig.gather(inputs)
    error = rig.finish().sums["a"].total_D - plain_sum(v["a"] for v in inputs.values())
    assert np.abs(error).max() <= error_bound(3, 24, NO_ERROR) < error_bound(3, 24)
