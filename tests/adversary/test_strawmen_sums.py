"""The safeguards of shares, sums and masks left out in turn: the attack that each prevents succeeds."""

from __future__ import annotations

import numpy as np
import pytest

from mimo_fed.errors import RoundAborted
from mimo_fed.secagg import CLASSIC, MODULUS, REFERENCE, contribute
from mimo_fed.secagg.intake import read_contribution
from mimo_fed.secagg.words import read_words
from tests.adversary import strawmen
from tests.adversary.forge import Dealer, gathered
from tests.unit.secagg.rig import Rig, SeededEntropy, Vector, plain_sum

SUMS = {"a": 40}
Inputs = dict[str, dict[str, Vector]]


def is_vector_of(rig: Rig, inputs: Inputs, d: str, values: np.ndarray) -> bool:
    return np.array_equal(values, plain_sum([inputs[d]["a"]]))


def lying_dealer(rig: Rig) -> bytes:
    """A contribution with one wrong share for the first member."""
    liar = Dealer(rig, rig.ids[-1], rig.random_inputs(0)[rig.ids[-1]])
    liar.rows[0, 0] = (int(liar.rows[0, 0]) + 1) % MODULUS
    return liar.m2()


@pytest.mark.parametrize(("n", "answering"), [(4, 3), (4, 4)])
def test_unchecked_shares_let_a_contributor_stop_the_round_unnamed(
    n: int, answering: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimo_fed.secagg.shares.check_shares", strawmen.accepts_shares)
    rig = Rig(n, SUMS, suite=REFERENCE)
    gathered(rig, {rig.ids[-1]: lying_dealer(rig)})
    with pytest.raises(RoundAborted, match="SumInconsistent" if answering == 3 else "contradict") as caught:
        rig.finish(rig.ids[:answering])
    assert rig.ids[-1] not in str(caught.value)
    assert not any(rig.coordinator._complaints.values())


def test_unchecked_shares_let_a_contributor_have_an_honest_member_named_a_liar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mimo_fed.secagg.shares.check_shares", strawmen.accepts_shares)
    rig = Rig(8, SUMS, suite=REFERENCE)
    gathered(rig, {rig.ids[-1]: lying_dealer(rig)})
    result = rig.finish()
    assert (result.liars, result.accused) == ((rig.ids[0],), ())


@pytest.mark.parametrize("liar", ["contributor", "member"])
def test_without_check_coordinates_the_sum_is_silently_wrong(
    liar: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimo_fed.secagg.coordinator.open_sum", strawmen.opens_unchecked)
    rig = Rig(4, SUMS, suite=REFERENCE)
    inputs = rig.random_inputs(0)
    dealer, twin = (Dealer(rig, rig.ids[-1], inputs[rig.ids[-1]]) for _ in range(2))
    if liar == "contributor":
        dealer.words = twin.words
    gathered(rig, {rig.ids[-1]: dealer.m2()})
    rig.check_shares()
    rig.vote()
    rig.open(rig.ids[:2])
    opening = bytearray(rig.members[rig.ids[2]].open(rig.coordinator.quorum_certificate())[:-64])
    if liar == "member":
        opening[-4] ^= 1
    rig.coordinator.add_opening(bytes(opening) + rig.keys[rig.ids[2]].sign("opening", bytes(opening)))
    result = rig.coordinator.result()
    assert (result.liars, result.accused, result.closed) == ((), (), {})
    assert not np.array_equal(result.sums["a"].total_D, plain_sum(v["a"] for v in inputs.values()))


def words_under(rig: Rig, d: str, values: Vector, entropy: SeededEntropy) -> np.ndarray:
    m2 = contribute(rig.signed, rig.keys[d], rig.certificates[d], 4, {"a": values}, entropy, rig.arithmetic)
    _, words = read_contribution(rig.signed, m2)
    return read_words(dict(words)[0], rig.manifest.word_bits).astype(np.int64)[: len(values)]


def test_random_bytes_used_twice_for_one_manifest_show_the_difference_of_the_inputs() -> None:
    rig = Rig(4, {"a": 3000}, word_bits=24)
    one = np.zeros(3000, np.uint32)
    other = np.random.default_rng(0).integers(0, MODULUS, 3000).astype(np.uint32)
    d, scale = rig.ids[0], MODULUS / 2**24

    def distance(first: str, second: str) -> np.ndarray:
        difference = words_under(rig, d, other, SeededEntropy(second)) - words_under(
            rig, d, one, SeededEntropy(first)
        )
        error = (difference - other / scale) % 2**24
        smaller: np.ndarray = np.minimum(error, 2**24 - error)
        return smaller

    assert distance("same", "same").max() < 2
    assert np.median(distance("one", "another")) > 2**20


def test_one_key_in_two_rounds_shows_a_device_that_is_in_one_of_them() -> None:
    """The sums of both rounds' keys differ by the victim's, and that key still lies under its words."""
    rounds = []
    for number in (1, 2):
        rig = Rig(5, SUMS, suite=REFERENCE, round_id=f"round-{number}", sequence=number)
        inputs = rig.random_inputs(number)
        present = rig.ids if number == 1 else rig.ids[:-1]
        for i, d in enumerate(present):
            rig.coordinator.add(Dealer(rig, d, inputs[d], seeds=SeededEntropy(f"reused {i}")).m2())
        rig.coordinator.close()
        rig.finish()
        rounds.append((rig, inputs, rig.coordinator._key(0)[0]))
    (rig, inputs, first), (_, _, second) = rounds
    vector = strawmen.read_with_key(rig, rig.ids[-1:], strawmen.subtract(first, second))
    assert is_vector_of(rig, inputs, rig.ids[-1], vector)


@pytest.mark.parametrize(("suite", "found"), [(REFERENCE, True), (CLASSIC, False)])
def test_without_errors_known_zeros_give_the_key_and_with_it_all_the_rest(suite: str, found: bool) -> None:
    """Half of a vector is known, say a matrix that starts at zero: it gives s, and s the other half."""
    dim = 2 * 2048 - 64
    rig = Rig(4, {"a": dim}, suite=suite, word_bits=32 if found else 24)
    values = np.random.default_rng(1).integers(0, 1000, dim).astype(np.uint32)
    values[::2] = 0
    m2 = rig.m2(rig.ids[0], {"a": values})
    rig.spool.put(f"{rig.ids[0]}.m2", m2)
    _, words = read_contribution(rig.signed, m2)
    data = read_words(dict(words)[0], rig.manifest.word_bits).astype(np.float64)
    residues = data if found else np.rint(data * MODULUS / 2**24) % MODULUS
    key = strawmen.secret_from_known_plaintext(rig, residues.astype(np.uint32), np.zeros(2048, np.uint32))
    read = strawmen.read_with_key(rig, rig.ids[:1], key)
    assert np.array_equal(np.rint(read), values) is found
