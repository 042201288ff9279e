"""A committee member that answers wrongly: named where others suffice to tell, and never believed."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest

from mimo_fed.codec import Writer
from mimo_fed.errors import PeerProtocolError, RoundAborted
from mimo_fed.secagg import MODULUS, REFERENCE, Mode
from mimo_fed.secagg.intake import REASONS
from mimo_fed.secagg.shamir import num_groups
from tests.adversary.forge import complaints_of, vote_of
from tests.unit.secagg.rig import Rig, Vector, plain_sum

SUMS = {"a": 40}
Inputs = dict[str, dict[str, Vector]]


def opening_rig(n: int, mode: Mode = "all", helpers: int = 3, sums: int = 1) -> tuple[Rig, Inputs]:
    """A round in which everybody has voted and nobody has opened."""
    rig = Rig(
        n, {f"a{i}" if i else "a": 40 for i in range(sums)}, mode=mode, helpers=helpers, suite=REFERENCE
    )
    inputs = rig.random_inputs(1)
    rig.gather(inputs)
    rig.check_shares()
    rig.vote()
    return rig, inputs


def false_opening(rig: Rig, d: str, column: int = -1) -> bytes:
    """The member's opening with one value changed, properly signed."""
    honest = rig.members[d].open(rig.coordinator.quorum_certificate())
    body = bytearray(honest[:-64])
    values = np.frombuffer(body, "<u4", num_groups(rig.manifest.committee.packing), len(body) % 4)
    at = len(body) - 4 * len(values) + 4 * (column % len(values))
    changed = (int.from_bytes(body[at : at + 4], "little") + 1) % MODULUS
    body[at : at + 4] = changed.to_bytes(4, "little")
    return bytes(body) + rig.keys[d].sign("opening", bytes(body))


def answer(rig: Rig, honest: Collection[str], lying: Collection[str]) -> None:
    rig.open(honest)
    for at, d in enumerate(lying):
        rig.coordinator.add_opening(false_opening(rig, d, at))


def test_a_wrong_opening_without_surplus_fails_the_check_coordinates() -> None:
    rig, _ = opening_rig(6)
    answer(rig, rig.ids[:4], rig.ids[5:])
    with pytest.raises(RoundAborted, match="SumInconsistent"):
        rig.coordinator.result()


def test_a_wrong_opening_is_detected_with_one_surplus_answer() -> None:
    rig, _ = opening_rig(6)
    answer(rig, rig.ids[:5], rig.ids[5:])
    with pytest.raises(RoundAborted, match=r"contradict each other, and too few .* whose are wrong: 6"):
        rig.coordinator.result()


@pytest.mark.parametrize(("n", "num_liars"), [(8, 1), (14, 2), (20, 3)])
def test_liars_are_named_with_two_surplus_answers_each_and_the_sum_opens(n: int, num_liars: int) -> None:
    """r + 2e answers, e of them wrong."""
    rig, inputs = opening_rig(n)
    answering = rig.ids[: rig.manifest.committee.threshold + 2 * num_liars]
    answer(rig, answering[num_liars:], answering[:num_liars])
    result = rig.coordinator.result()
    assert result.liars == tuple(answering[:num_liars])
    assert np.array_equal(result.sums["a"].total_D, plain_sum(v["a"] for v in inputs.values()))


def test_a_lying_helper_is_named() -> None:
    rig, inputs = opening_rig(4, "helper", 5)
    answer(rig, rig.member_ids[1:], rig.member_ids[:1])
    result = rig.coordinator.result()
    assert result.liars == ("helper-0",)
    assert np.array_equal(result.sums["a"].total_D, plain_sum(v["a"] for v in inputs.values()))


def test_one_liar_more_than_can_be_told_apart_opens_nothing() -> None:
    rig, _ = opening_rig(8)
    answer(rig, rig.ids[2:], rig.ids[:2])
    with pytest.raises(RoundAborted, match="contradict each other"):
        rig.coordinator.result()


def test_a_lie_about_one_sum_closes_it_and_the_others_open() -> None:
    """The last value belongs to the last sum."""
    rig, inputs = opening_rig(6, sums=2)
    answer(rig, rig.ids[:5], rig.ids[5:])
    result = rig.coordinator.result()
    assert set(result.sums) == {"a"}
    assert "contradict each other" in result.closed["a1"]
    assert np.array_equal(result.sums["a"].total_D, plain_sum(v["a"] for v in inputs.values()))


def test_a_round_with_a_lie_too_many_goes_on_when_more_members_answer() -> None:
    """Nothing was opened, so nothing is lost: two more answers name the liar."""
    rig, inputs = opening_rig(8)
    answer(rig, rig.ids[1:6], rig.ids[:1])
    with pytest.raises(RoundAborted, match="SumInconsistent"):
        rig.coordinator.result()
    rig.open(rig.ids[6:])
    result = rig.coordinator.result()
    assert (result.liars, result.closed) == ((rig.ids[0],), {})
    assert np.array_equal(result.sums["a"].total_D, plain_sum(v["a"] for v in inputs.values()))


def test_a_second_opening() -> None:
    rig, _ = opening_rig(4)
    rig.open()
    rig.open()
    with pytest.raises(PeerProtocolError, match="a second one of device-00"):
        rig.coordinator.add_opening(false_opening(rig, rig.ids[0]))
    assert rig.coordinator.result().survivors == tuple(rig.ids)


@pytest.mark.parametrize("claimed", [1, 3, 0xFFFF])
def test_an_opening_or_a_vote_in_another_members_name(claimed: int) -> None:
    rig, _ = opening_rig(3)
    opening = rig.members[rig.ids[0]].open(rig.coordinator.quorum_certificate())
    vote = rig.members[rig.ids[0]].vote(rig.coordinator.ballot())
    for kind, message, take in (
        ("opening", opening, rig.coordinator.add_opening),
        ("vote", vote, rig.coordinator.add_vote),
    ):
        body = bytearray(message[:-64])
        at = 4 + len(kind) + 32
        body[at : at + 2] = claimed.to_bytes(2, "big")
        with pytest.raises(PeerProtocolError, match="signature" if claimed < 3 else "not a member"):
            take(bytes(body) + rig.keys[rig.ids[0]].sign(kind, bytes(body)))


def test_an_opening_beyond_the_modulus() -> None:
    rig, _ = opening_rig(3)
    body = rig.members[rig.ids[0]].open(rig.coordinator.quorum_certificate())[:-64]
    body = body[:-4] + np.array([MODULUS], "<u4").tobytes()
    with pytest.raises(PeerProtocolError, match="q or above: device-00"):
        rig.coordinator.add_opening(body + rig.keys[rig.ids[0]].sign("opening", body))


def test_an_opening_of_other_sums_than_were_voted_for() -> None:
    rig, _ = opening_rig(3, sums=2)
    ballot = rig.members[rig.ids[0]]._ballot
    for opened, message in ((1, "other sums than were voted for"), (4, "a sum that is not there: 0x4")):
        values = bytes(4 * num_groups(rig.manifest.committee.packing))
        body = Writer().text("opening").raw(rig.signed.mh).u16(0).raw(ballot).u64(opened).raw(values).bytes()
        with pytest.raises(PeerProtocolError, match=message):
            rig.coordinator.add_opening(body + rig.keys[rig.ids[0]].sign("opening", body))


def test_an_opening_of_another_ballot() -> None:
    rig, _ = opening_rig(3)
    values = bytes(4 * num_groups(rig.manifest.committee.packing))
    body = Writer().text("opening").raw(rig.signed.mh).u16(0).raw(bytes(32)).u64(1).raw(values).bytes()
    with pytest.raises(PeerProtocolError, match="of another ballot: device-00"):
        rig.coordinator.add_opening(body + rig.keys[rig.ids[0]].sign("opening", body))


def test_a_vote_for_another_ballot_or_before_there_is_one() -> None:
    rig = Rig(3, SUMS)
    rig.gather(rig.random_inputs(1))
    with pytest.raises(PeerProtocolError, match="for another ballot: device-00"):
        rig.coordinator.add_vote(vote_of(rig, 0, bytes(32)))
    rig.check_shares()
    rig.coordinator.ballot()
    with pytest.raises(PeerProtocolError, match="for another ballot: device-00"):
        rig.coordinator.add_vote(vote_of(rig, 0, b"b" * 32))
    assert not rig.coordinator.has_quorum


def test_one_member_voting_again_and_again_is_one_vote() -> None:
    rig, _ = opening_rig(3)
    fresh = Rig(3, SUMS)
    fresh.gather(fresh.random_inputs(1))
    fresh.check_shares()
    for _ in range(3):
        fresh.vote(fresh.ids[:1])
    assert not fresh.coordinator.has_quorum
    assert rig.coordinator.has_quorum


def test_complaints_that_no_member_may_make() -> None:
    rig = Rig(4, SUMS)
    inputs = rig.random_inputs(1)
    del inputs[rig.ids[3]]
    for d, mine in inputs.items():
        rig.coordinator.add(rig.m2(d, mine))
    early = complaints_of(rig, 0, {rig.ids[1]: 0})
    with pytest.raises(PeerProtocolError, match="out of their time: device-00"):
        rig.coordinator.add_complaints(early)
    rig.coordinator.close()
    one, other = rig.ids[1:3]
    for accused, reason in (
        ([(rig.ids[3], 0)], "about a device that gave nothing: device-00"),
        ([("stranger", 0)], "about a device that gave nothing: device-00"),
        ([(one, 0), (one, 0)], "not distinct and in order"),
        ([(other, 0), (one, 0)], "not distinct and in order"),
        ([(one, len(REASONS))], "an unknown reason, from device-00"),
        ([("../x", 0)], "not a name"),
    ):
        with pytest.raises(PeerProtocolError, match=reason):
            rig.coordinator.add_complaints(complaints_of(rig, 0, accused))
    rig.coordinator.add_complaints(complaints_of(rig, 0, {}))
    with pytest.raises(PeerProtocolError, match="a second list of device-00"):
        rig.coordinator.add_complaints(complaints_of(rig, 0, {one: 0}))
    rig.check_shares(rig.ids[1:])
    rig.coordinator.ballot()
    rig.coordinator.add_complaints(complaints_of(rig, 0, {}))


def test_complaints_after_the_survivors_are_fixed() -> None:
    rig = Rig(4, SUMS)
    rig.gather(rig.random_inputs(1))
    rig.check_shares(rig.ids[:3])
    rig.coordinator.ballot()
    with pytest.raises(PeerProtocolError, match="out of their time: device-03"):
        rig.coordinator.add_complaints(complaints_of(rig, 3, {rig.ids[0]: 1}))


def test_complaints_about_more_devices_than_any_round_has() -> None:
    rig = Rig(3, SUMS)
    rig.gather(rig.random_inputs(1))
    body = Writer().text("complaints").raw(rig.signed.mh).u16(0).u32((1 << 20) + 1).bytes()
    with pytest.raises(PeerProtocolError, match="more than 1048576 entries"):
        rig.coordinator.add_complaints(body + rig.keys[rig.ids[0]].sign("complaints", body))


def test_a_member_that_accuses_everybody_stops_the_round_and_opens_nothing() -> None:
    rig = Rig(4, SUMS)
    rig.gather(rig.random_inputs(1))
    rig.check_shares(rig.ids[1:])
    rig.coordinator.add_complaints(complaints_of(rig, 0, dict.fromkeys(rig.ids, 1)))
    for _ in range(2):
        with pytest.raises(RoundAborted, match="no sum has enough survivors: 0 devices"):
            rig.coordinator.ballot()


def test_a_member_that_accuses_honest_devices_cannot_go_below_n_min_and_is_recorded() -> None:
    rig = Rig(5, SUMS, n_min=3, suite=REFERENCE)
    inputs = rig.random_inputs(1)
    rig.gather(inputs)
    rig.check_shares(rig.ids[1:])
    rig.coordinator.add_complaints(complaints_of(rig, 0, dict.fromkeys(rig.ids[3:], 1)))
    rig.vote(rig.ids[1:])
    rig.open(rig.ids[1:])
    result = rig.coordinator.result()
    assert result.survivors == tuple(rig.ids[:3])
    assert result.accused == tuple((rig.ids[0], d, REASONS[1]) for d in rig.ids[3:])
    assert np.array_equal(result.sums["a"].total_D, plain_sum(inputs[d]["a"] for d in rig.ids[:3]))


def test_a_member_that_accuses_one_honest_device_too_many_aborts_the_round() -> None:
    rig = Rig(5, SUMS, n_min=4)
    rig.gather(rig.random_inputs(1))
    rig.check_shares(rig.ids[1:])
    rig.coordinator.add_complaints(complaints_of(rig, 0, dict.fromkeys(rig.ids[3:], 1)))
    with pytest.raises(RoundAborted, match="no sum has enough survivors: 3 devices"):
        rig.coordinator.ballot()
