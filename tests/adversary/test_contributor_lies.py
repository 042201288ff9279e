"""A contributor that wants to spoil the sum: the round drops it or aborts, and never gives a wrong sum."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mimo_fed.errors import PeerProtocolError, RoundAborted
from mimo_fed.secagg import MODULUS
from mimo_fed.secagg.words import error_bound
from tests.adversary.forge import Parts, gathered, random_shares
from tests.unit.secagg.rig import Rig, plain_sum

SUMS = {"a": 40}


def test_shares_that_do_not_open_cost_the_contributor_its_place() -> None:
    rig = Rig(4, SUMS)
    liar, victim = rig.ids[3], rig.ids[0]
    parts = Parts.of(rig, rig.m2(liar, rig.random_inputs(0)[liar]))
    parts.sealed[0] = parts.sealed[1]
    inputs = gathered(rig, {liar: parts.signed(rig, liar)})
    result = rig.finish(rig.ids)
    assert result.accused == ((victim, liar),)
    assert result.survivors == tuple(rig.ids[:3])
    expected = plain_sum(inputs[d]["a"] for d in rig.ids[:3])
    assert np.abs(result.sums["a"].total_D - expected).max() <= error_bound(3, 16)


@pytest.mark.parametrize("plain", [b"", b"\x00" * 7, b"\xff" * (4 * 1024)])
def test_shares_of_another_form_are_complained_about(plain: bytes) -> None:
    rig = Rig(4, SUMS)
    liar = rig.ids[3]
    parts = Parts.of(rig, rig.m2(liar, rig.random_inputs(0)[liar]))
    parts.reseal(rig, liar, rig.ids[1], plain)
    gathered(rig, {liar: parts.signed(rig, liar)})
    rig.check_shares(rig.ids)
    rig.coordinator.ballot()
    assert rig.coordinator._complaints == {0: [], 1: [3], 2: [], 3: []}


@pytest.mark.parametrize("num_answers", [3, 4])
def test_shares_that_contradict_each_other_abort_the_round(num_answers: int) -> None:
    """With a surplus answer the openings contradict each other; without one the check coordinates do."""
    rig = Rig(4, SUMS)
    liar = rig.ids[3]
    parts = Parts.of(rig, rig.m2(liar, rig.random_inputs(0)[liar]))
    parts.reseal(rig, liar, rig.ids[0], random_shares(rig))
    gathered(rig, {liar: parts.signed(rig, liar)})
    with pytest.raises(RoundAborted, match="contradict" if num_answers == 4 else "SumInconsistent"):
        rig.finish(rig.ids[:num_answers])


def test_words_under_another_key_than_the_one_shared_abort_the_round() -> None:
    rig = Rig(4, SUMS)
    liar = rig.ids[3]
    inputs = rig.random_inputs(0)[liar]
    parts = Parts.of(rig, rig.m2(liar, inputs))
    parts.words = Parts.of(rig, rig.m2(liar, inputs)).words
    gathered(rig, {liar: parts.signed(rig, liar)})
    with pytest.raises(RoundAborted, match="SumInconsistent"):
        rig.finish(rig.ids)


def test_a_wrong_signature() -> None:
    rig = Rig(3, SUMS)
    a, b = rig.ids[:2]
    parts = Parts.of(rig, rig.m2(a, rig.random_inputs(0)[a]))
    with pytest.raises(PeerProtocolError, match="signature"):
        rig.coordinator.add(parts.signed(rig, b))


def test_a_second_contribution() -> None:
    rig = Rig(3, SUMS)
    d = rig.ids[0]
    inputs = rig.random_inputs(0)[d]
    first = rig.m2(d, inputs)
    assert rig.coordinator.add(first) == rig.coordinator.add(first) == d
    with pytest.raises(PeerProtocolError, match="a second one of device-00"):
        rig.coordinator.add(rig.m2(d, inputs))
    assert rig.coordinator.contributors == (d,)


def test_the_same_bytes_again_are_added_once() -> None:
    rig = Rig(3, SUMS)
    inputs = rig.random_inputs(0)
    for d in rig.ids:
        m2 = rig.m2(d, inputs[d])
        rig.coordinator.add(m2)
        rig.coordinator.add(m2)
    rig.coordinator.close()
    total = rig.finish(rig.ids).sums["a"].total_D
    assert np.abs(total - plain_sum(v["a"] for v in inputs.values())).max() <= error_bound(3, 16)


def test_pieces_of_two_contributions() -> None:
    rig = Rig(3, SUMS)
    d = rig.ids[0]
    first, second = (rig.m2(d, rig.random_inputs(i)[d]) for i in (0, 1))
    words = Parts.of(rig, second).words[0]
    mixed = first.replace(Parts.of(rig, first).words[0], words)
    assert mixed != first
    with pytest.raises(PeerProtocolError, match="not what its header signs"):
        rig.coordinator.add(mixed)


def test_a_contribution_of_another_round() -> None:
    old, new = Rig(3, SUMS), Rig(3, SUMS, round_id="round-2")
    d = old.ids[0]
    with pytest.raises(PeerProtocolError, match="another round"):
        new.coordinator.add(old.m2(d, old.random_inputs(0)[d]))


def test_a_sum_that_the_manifest_does_not_have() -> None:
    rig = Rig(3, SUMS)
    d = rig.ids[0]
    parts = Parts.of(rig, rig.m2(d, rig.random_inputs(0)[d]))
    parts.words = {7: parts.words[0]}
    with pytest.raises(PeerProtocolError, match="in range"):
        rig.coordinator.add(parts.signed(rig, d))


def test_words_of_another_length() -> None:
    rig = Rig(3, SUMS)
    d = rig.ids[0]
    parts = Parts.of(rig, rig.m2(d, rig.random_inputs(0)[d]))
    parts.words[0] = parts.words[0][:-2]
    with pytest.raises(PeerProtocolError, match="another length"):
        rig.coordinator.add(parts.signed(rig, d))


def test_shares_for_fewer_members() -> None:
    rig = Rig(4, SUMS)
    d = rig.ids[0]
    parts = Parts.of(rig, rig.m2(d, rig.random_inputs(0)[d]))
    parts.sealed.pop()
    with pytest.raises(PeerProtocolError, match="another committee"):
        rig.coordinator.add(parts.signed(rig, d))


def test_another_certificate_of_the_same_device() -> None:
    rig = Rig(3, SUMS)
    d = rig.ids[0]
    parts = Parts.of(rig, rig.m2(d, rig.random_inputs(0)[d]))
    renewed = rig.certify(d, rig.keys[d], 77)
    parts.header = dataclasses.replace(parts.header, certificate=renewed.encode())
    with pytest.raises(PeerProtocolError, match="another certificate"):
        rig.coordinator.add(parts.signed(rig, d))


def test_check_coordinates_catch_an_input_shifted_everywhere() -> None:
    """A constant added to every word, check coordinates included, cannot pass."""
    rig = Rig(3, SUMS)
    liar = rig.ids[0]
    parts = Parts.of(rig, rig.m2(liar, rig.random_inputs(0)[liar]))
    shifted = np.frombuffer(parts.words[0], "<u2") + np.uint16(9)
    parts.words[0] = shifted.astype("<u2").tobytes()
    gathered(rig, {liar: parts.signed(rig, liar)})
    with pytest.raises(RoundAborted, match="SumInconsistent"):
        rig.finish(rig.ids)
    assert error_bound(3, 16) < 9 * MODULUS / 2**16
