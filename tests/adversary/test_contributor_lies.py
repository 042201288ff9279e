"""A contributor that wants to spoil the sum: it is dropped by name or its sum stays closed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mimo_fed.codec import Writer
from mimo_fed.errors import LocalProtocolError, PeerProtocolError, RoundAborted
from mimo_fed.secagg import MODULUS, REFERENCE, Mode, RoundResult, SumSpec
from mimo_fed.secagg.intake import REASONS, read_contribution
from mimo_fed.secagg.messages import mask_of
from mimo_fed.secagg.shamir import NUM_MASKS, SHARE_DTYPE
from mimo_fed.secagg.words import error_bound
from tests.adversary.forge import Dealer, copied, gathered
from tests.unit.secagg.rig import Rig, Vector, plain_sum

SUMS = {"a": 40}
BAD_SEAL, BAD_SHARES, _ = REASONS


def dealer(rig: Rig, index: int = 3) -> Dealer:
    return Dealer(rig, rig.ids[index], rig.random_inputs(0)[rig.ids[index]])


def check_sum(rig: Rig, result: RoundResult, inputs: dict[str, dict[str, Vector]], name: str = "a") -> None:
    devices = result.sums[name].devices
    error = np.abs(result.sums[name].total_D - plain_sum(inputs[d][name] for d in devices)).max()
    assert error <= (0 if rig.suite == REFERENCE else error_bound(len(devices), rig.manifest.word_bits))


def test_a_dealer_that_does_not_lie_is_taken() -> None:
    rig = Rig(4, SUMS)
    inputs = gathered(rig, {rig.ids[3]: dealer(rig).m2()})
    result = rig.finish()
    assert (result.accused, result.survivors) == ((), tuple(rig.ids))
    check_sum(rig, result, inputs)


@pytest.mark.parametrize("word_bits", [16, 24])
def test_shares_sealed_for_somebody_else_cost_the_contributor_its_place(word_bits: int) -> None:
    rig = Rig(4, SUMS, word_bits=word_bits)
    liar = dealer(rig)
    liar.sealed[0] = liar.seal_to(1, liar.rows[0].astype(SHARE_DTYPE).tobytes())
    inputs = gathered(rig, {liar.device_id: liar.m2()})
    result = rig.finish()
    assert result.accused == ((rig.ids[0], liar.device_id, BAD_SEAL),)
    assert result.survivors == tuple(rig.ids[:3])
    check_sum(rig, result, inputs)


def test_shares_and_words_copied_from_another_contributor() -> None:
    """To be in the sum twice, a device has a colluder repeat its message: no member can open that seal."""
    rig = Rig(4, SUMS)
    inputs = rig.random_inputs(0)
    first = rig.m2(rig.ids[0], inputs[rig.ids[0]])
    gathered(rig, {rig.ids[0]: first, rig.ids[3]: copied(rig, rig.ids[3], first)})
    result = rig.finish()
    assert result.accused == tuple((d, rig.ids[3], BAD_SEAL) for d in rig.ids)
    check_sum(rig, result, inputs)


def test_sealed_bytes_that_are_no_seal_cost_the_contributor_its_place() -> None:
    rig = Rig(4, SUMS)
    liar = dealer(rig)
    liar.sealed[2] = bytes(len(liar.seal_to(2, liar.rows[2].astype(SHARE_DTYPE).tobytes())))
    inputs = gathered(rig, {liar.device_id: liar.m2()})
    result = rig.finish()
    assert result.accused == ((rig.ids[2], liar.device_id, BAD_SEAL),)
    check_sum(rig, result, inputs)


@pytest.mark.parametrize("column", [0, 1023, -1])
def test_one_wrong_share_for_one_member_is_named_before_the_ballot(column: int) -> None:
    """The last column is a mask's: a lie there is a lie about the proof."""
    rig = Rig(4, SUMS)
    liar = dealer(rig)
    liar.rows[1, column] = (int(liar.rows[1, column]) + 1) % MODULUS
    inputs = gathered(rig, {liar.device_id: liar.m2()})
    result = rig.finish()
    assert result.accused == ((rig.ids[1], liar.device_id, BAD_SHARES),)
    assert result.survivors == tuple(rig.ids[:3])
    check_sum(rig, result, inputs)


def test_a_share_of_q_or_above_is_named() -> None:
    """A residue has one form: congruent values are no two shares."""
    rig = Rig(4, SUMS)
    liar = dealer(rig)
    liar.rows[1, 0] = 0xFFFFFFFF
    gathered(rig, {liar.device_id: liar.m2()})
    assert rig.finish().accused == ((rig.ids[1], liar.device_id, BAD_SHARES),)


@pytest.mark.parametrize(("mode", "helpers"), [("all", 0), ("helper", 3), ("helper", 7)])
def test_shares_of_too_high_a_degree_are_named_by_all_who_cannot_be_fitted(mode: Mode, helpers: int) -> None:
    """The proof fits some r members; the others name the liar, and the sum opens without it."""
    rig = Rig(4, SUMS, mode=mode, helpers=helpers, suite=REFERENCE)
    liar, c = dealer(rig), rig.manifest.committee
    liar.rows[c.threshold :, 0] = (liar.rows[c.threshold :, 0].astype(np.int64) + 7) % MODULUS
    inputs = gathered(rig, {liar.device_id: liar.m2()})
    result = rig.finish()
    expected = tuple((d, liar.device_id, BAD_SHARES) for d in rig.member_ids[c.threshold :])
    assert result.accused == expected
    assert len(expected) == c.size - c.threshold
    check_sum(rig, result, inputs)


def test_a_proof_of_another_sharing_is_named_by_everybody() -> None:
    rig = Rig(4, SUMS)
    liar = dealer(rig)
    rows = liar.rows
    liar.deal(liar.secrets)
    liar.rows = rows
    inputs = gathered(rig, {liar.device_id: liar.m2()})
    result = rig.finish()
    assert result.accused == tuple((d, liar.device_id, BAD_SHARES) for d in rig.ids)
    check_sum(rig, result, inputs)


def test_words_under_another_key_than_the_one_shared_close_that_sum_alone() -> None:
    """A consistent sharing of another key: no member can see it, the check coordinates do."""
    rig = Rig(4, {"a": 40, "b": 40}, suite=REFERENCE)
    liar = dealer(rig)
    liar.words[0] = dealer(rig).words[0]
    inputs = gathered(rig, {liar.device_id: liar.m2()})
    result = rig.finish()
    assert result.accused == ()
    assert result.closed == {"a": "SumInconsistent: check coordinates are not zero: a"}
    assert set(result.sums) == {"b"}
    check_sum(rig, result, inputs, "b")


def test_a_round_whose_every_sum_is_inconsistent_opens_nothing() -> None:
    rig = Rig(4, SUMS)
    liar = dealer(rig)
    liar.words[0] = dealer(rig).words[0]
    gathered(rig, {liar.device_id: liar.m2()})
    with pytest.raises(RoundAborted, match="no sum could be opened: SumInconsistent"):
        rig.finish()


def test_check_coordinates_catch_an_input_shifted_everywhere() -> None:
    """A constant added to every word, check coordinates included, cannot pass."""
    rig = Rig(3, SUMS)
    liar = dealer(rig, 0)
    shifted = np.frombuffer(liar.words[0], "<u2") + np.uint16(9)
    liar.words[0] = shifted.astype("<u2").tobytes()
    gathered(rig, {liar.device_id: liar.m2()})
    with pytest.raises(RoundAborted, match="SumInconsistent"):
        rig.finish()
    assert error_bound(3, 16) < 9 * MODULUS / 2**16


def test_a_wrong_signature() -> None:
    rig = Rig(4, SUMS)
    with pytest.raises(PeerProtocolError, match="signature is not valid: contribution"):
        rig.coordinator.add(dealer(rig).m2(rig.keys[rig.ids[0]]))


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
    check_sum(rig, rig.finish(), inputs)


def test_pieces_of_two_contributions() -> None:
    """Header and signature of one, with a sealed row or the words of the other."""
    rig = Rig(4, SUMS)
    inputs = rig.random_inputs(0)[rig.ids[3]]
    first, second = rig.m2(rig.ids[3], inputs), rig.m2(rig.ids[3], inputs)
    kept, _ = read_contribution(rig.signed, first)
    row = slice(kept.sealed_at + kept.sealed_length, kept.sealed_at + 2 * kept.sealed_length)
    words = slice(kept.sealed_at + 4 * kept.sealed_length, None)
    for piece in (row, words):
        mixed = bytearray(first)
        mixed[piece] = second[piece]
        with pytest.raises(PeerProtocolError, match="not what its header signs: device-03"):
            rig.coordinator.add(bytes(mixed))
    assert rig.coordinator.add(first) == rig.ids[3]


def test_a_contribution_beyond_n_max() -> None:
    rig = Rig(4, SUMS, n_max=3)
    inputs = rig.random_inputs(0)
    for d in rig.ids[:3]:
        rig.coordinator.add(rig.m2(d, inputs[d]))
    with pytest.raises(PeerProtocolError, match="the round is full: 3 devices"):
        rig.coordinator.add(rig.m2(rig.ids[3], inputs[rig.ids[3]]))


@pytest.mark.parametrize("sums", [0, 2, 3, 1 << 63])
def test_no_sum_or_one_that_the_manifest_does_not_have(sums: int) -> None:
    rig = Rig(4, SUMS)
    liar = dealer(rig)
    liar.sums = sums
    with pytest.raises(PeerProtocolError, match="no sum, or one not open to device-03"):
        rig.coordinator.add(liar.m2())


def test_a_contribution_to_another_groups_sum() -> None:
    """Neither an honest device makes it, nor the coordinator takes it, nor a member its shares."""
    specs = tuple(SumSpec(name=f"group-{g}", dim=3, n_min=2, group=g) for g in range(1, 6))
    rig = Rig(10, specs, suite=REFERENCE)
    d = rig.ids[0]
    others = next(g for g in range(1, 6) if g != rig.signed.groups[d])
    inputs = {f"group-{others}": np.zeros(3, np.uint32)}
    with pytest.raises(LocalProtocolError, match="not sums that are open to this device: group-"):
        rig.m2(d, inputs)
    with pytest.raises(PeerProtocolError, match=f"one not open to {d}"):
        rig.coordinator.add(Dealer(rig, d, inputs).m2())
    both = {f"group-{g}": np.zeros(3, np.uint32) for g in range(1, 6)}
    liar = Dealer(rig, d, both)
    assert liar.sums == mask_of(range(5))
    with pytest.raises(PeerProtocolError, match=f"one not open to {d}"):
        rig.coordinator.add(liar.m2())


@pytest.mark.parametrize("change", [-2, 2])
def test_words_of_another_length(change: int) -> None:
    rig = Rig(4, SUMS)
    liar = dealer(rig)
    liar.words[0] = liar.words[0][:change] if change < 0 else liar.words[0] + bytes(change)
    with pytest.raises(PeerProtocolError, match="another length: device-03"):
        rig.coordinator.add(liar.m2())


@pytest.mark.parametrize("length", [0, 7, 5000])
def test_sealed_shares_of_another_length(length: int) -> None:
    rig = Rig(4, SUMS)
    liar = dealer(rig)
    liar.sealed[1] = bytes(length)
    with pytest.raises(PeerProtocolError, match="another length: device-03"):
        rig.coordinator.add(liar.m2())


def test_another_certificate_of_the_same_device() -> None:
    rig = Rig(4, SUMS)
    liar = dealer(rig)
    liar.certificate = rig.certify(liar.device_id, rig.keys[liar.device_id], 77)
    with pytest.raises(PeerProtocolError, match="another certificate of device-03"):
        rig.coordinator.add(liar.m2())


def test_a_proof_that_holds_no_residues() -> None:
    rig = Rig(4, SUMS)
    liar = dealer(rig)
    sealed = [liar.seal_to(i, row.astype(SHARE_DTYPE).tobytes()) for i, row in enumerate(liar.rows)]
    honest = liar.header(sealed)
    proof = honest.proof.copy()
    proof[NUM_MASKS - 1, 0] = MODULUS
    header = dataclasses.replace(honest, proof=proof).encode(rig.signed.mh)
    m2 = Writer().blob(header).raw(rig.keys[liar.device_id].sign("contribution", header)).bytes()
    with pytest.raises(PeerProtocolError, match="proof holds no residues: device-03"):
        rig.coordinator.add(b"".join((m2, *sealed, *liar.words.values())))


def test_a_rank_that_is_not_its_own_is_public_and_stands_in_every_ballot() -> None:
    """Nothing in the protocol knows a device's true rank; whatever it states is bound to its contribution."""
    rig = Rig(4, SUMS)
    liar = dealer(rig)
    liar.rank = 16
    inputs = gathered(rig, {liar.device_id: liar.m2()})
    check_sum(rig, rig.finish(), inputs)
