"""Figures of what leaves a device and of what a sum loses, on fixed seeds: noise, no trace of the input.

A bound of five standard deviations is exceeded by chance once in 1.7 million; of four, once in 16,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np
import pytest

from mimo_fed.secagg import CLASSIC, HYBRID, MODULUS, Arithmetic, choose
from mimo_fed.secagg.crypto import Box, Keystream
from mimo_fed.secagg.intake import read_contribution
from mimo_fed.secagg.manifest import NUM_CHECKS
from mimo_fed.secagg.messages import seal_context
from mimo_fed.secagg.modular import multiply
from mimo_fed.secagg.ring import BINOMIAL, binomial, public_key
from mimo_fed.secagg.shamir import base_points, lagrange
from mimo_fed.secagg.words import error_bound, read_words
from tests.unit.secagg.rig import Rig, Vector, plain_sum

DIM = 200_000
BITS = (16, 24)


def rig_of(word_bits: int, n: int = 3, dim: int = DIM, suite: str = CLASSIC) -> Rig:
    rig = Rig(n, {"a": dim}, word_bits=word_bits, suite=suite)
    rig.arithmetic = Arithmetic(backend=choose("auto"))
    return rig


def raw_words(rig: Rig, d: str, values: Vector) -> bytes:
    _, words = read_contribution(rig.signed, rig.m2(d, {"a": values}))
    return bytes(dict(words)[0])


def inputs_of(kind: str, dim: int = DIM) -> Vector:
    rng = np.random.default_rng(3)
    return {
        "zeros": np.zeros(dim, np.uint32),
        "extremes": np.where(np.arange(dim) % 2, 1, MODULUS - 1).astype(np.uint32),
        "one value": np.full(dim, MODULUS // 3, np.uint32),
        "text-like": (rng.laplace(0, 1000, dim).astype(np.int64) % MODULUS).astype(np.uint32),
    }[kind]


def chi_square(counts: np.ndarray) -> float:
    """Against uniform cells, in standard deviations above its mean."""
    expected, freedom = counts.mean(), len(counts) - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    """In standard deviations of that of independent values."""
    return float(abs(np.corrcoef(left, right)[0, 1]) * np.sqrt(len(left)))


@pytest.mark.parametrize("word_bits", BITS)
@pytest.mark.parametrize("kind", ["zeros", "extremes", "one value", "text-like"])
def test_every_byte_of_a_ciphertext_is_uniform(kind: str, word_bits: int) -> None:
    data = np.frombuffer(raw_words(rig_of(word_bits), "device-00", inputs_of(kind)), np.uint8)
    for octets in data.reshape(-1, word_bits // 8).T:
        assert abs(chi_square(np.bincount(octets, minlength=256))) < 5


@pytest.mark.parametrize("word_bits", BITS)
def test_successive_words_are_independent(word_bits: int) -> None:
    """Pairs of top nibbles of neighbours, and of words one polynomial apart, fill all 256 cells evenly."""
    data = raw_words(rig_of(word_bits), "device-00", inputs_of("zeros"))
    top = read_words(data, word_bits).astype(np.int64) >> (word_bits - 4)
    for distance in (1, 32, 2048, 65_536):
        pairs = top[:-distance] * 16 + top[distance:]
        assert abs(chi_square(np.bincount(pairs, minlength=256))) < 5


@pytest.mark.parametrize("word_bits", BITS)
def test_a_ciphertext_is_not_correlated_with_its_input(word_bits: int) -> None:
    values = np.random.default_rng(0).integers(0, MODULUS, DIM).astype(np.uint32)
    words = read_words(raw_words(rig_of(word_bits), "device-00", values), word_bits)[:DIM].astype(float)
    assert correlation(words, values) < 5
    assert correlation(words, (values > MODULUS // 2).astype(float)) < 5
    assert correlation((words.astype(np.int64) & 1).astype(float), (values & 1).astype(float)) < 5


def test_a_correlation_of_one_in_fifty_would_be_seen() -> None:
    """The figure above is worth something: a ciphertext with 2 % of its input in it stands out."""
    rng = np.random.default_rng(1)
    noise, values = rng.normal(size=DIM), rng.normal(size=DIM)
    assert correlation(noise + 0.02 * values, values) > 5


@pytest.mark.parametrize("word_bits", BITS)
def test_ciphertexts_of_two_devices_two_sums_and_two_rounds_are_not_correlated(word_bits: int) -> None:
    values = inputs_of("text-like")
    first, second = rig_of(word_bits), Rig(3, {"a": DIM}, word_bits=word_bits, round_id="round-2")
    one, other, later = (
        read_words(data, word_bits)[:DIM].astype(float)
        for data in (
            raw_words(first, "device-00", values),
            raw_words(first, "device-01", values),
            raw_words(second, "device-00", values),
        )
    )
    both = Rig(3, {"a": DIM, "b": DIM}, word_bits=word_bits)
    _, words = read_contribution(both.signed, both.m2("device-00", {"a": values, "b": values}))
    a, b = (read_words(data, word_bits)[:DIM].astype(float) for _, data in words)
    for left, right in ((one, other), (one, later), (a, b)):
        assert correlation(left, right) < 5


def random_values(rig: Rig, m2: bytes) -> np.ndarray:
    """The values of a sharing at the points where no secret stands, from the rows of r members."""
    c, (kept, _) = rig.manifest.committee, read_contribution(rig.signed, m2)
    rows = []
    for i, recipient in enumerate(rig.member_ids[: c.threshold]):
        header, at = kept.header, kept.sealed_at + i * kept.sealed_length
        context = seal_context(rig.signed.mh, header.device_id, recipient, header.nonce, header.sums)
        row = Box(rig.suite, rig.secrets[recipient]).unseal(context, m2[at : at + kept.sealed_length])
        rows.append(np.frombuffer(row, "<u4"))
    hidden = base_points(c.threshold)[c.packing :]
    matrix = lagrange(tuple(range(1, c.threshold + 1)), hidden)
    return multiply(matrix, np.stack(rows).astype(np.uint64)).ravel()


def test_the_random_values_of_a_sharing_are_uniform_and_fresh_for_each_contribution() -> None:
    """A corrupt member knows its row: were these values known as well, it would know the key."""
    rig = Rig(8, {"a": 10})
    one, other = (random_values(rig, rig.m2(d, {"a": np.zeros(10, np.uint32)})) for d in rig.ids[:2])
    for values in (one, other):
        assert abs(chi_square(np.bincount((values >> np.uint64(23)).astype(np.int64), minlength=256))) < 5
    assert correlation(one.astype(float), other.astype(float)) < 5


def error_of(n: int, word_bits: int, suite: str = CLASSIC, dim: int = 60_000) -> np.ndarray:
    """What a whole round adds to the sum, in words."""
    rig = Rig(n, {"a": dim}, word_bits=word_bits, suite=suite)
    inputs = rig.random_inputs(n)
    rig.gather(inputs)
    error = rig.finish().sums["a"].total_D - plain_sum(v["a"] for v in inputs.values())
    scaled: np.ndarray = error * 2**word_bits / MODULUS
    return scaled


def deviation(n: int, word_bits: int) -> float:
    """Of rounding and of the binomial errors together, in words."""
    return float(np.sqrt(n / 12 + n * 16 * (2**word_bits / MODULUS) ** 2))


@pytest.mark.parametrize(("n", "word_bits"), [(3, 16), (8, 16), (20, 16), (3, 24), (8, 24)])
def test_the_error_of_a_sum_is_that_of_n_roundings_and_unbiased(n: int, word_bits: int) -> None:
    """sqrt(n / 12): the total is read without being rounded again, so not sqrt((n + 1) / 12)."""
    error = error_of(n, word_bits)
    sampling = 1 / np.sqrt(2 * len(error))
    assert abs(error.std() / deviation(n, word_bits) - 1) < 5 * sampling
    assert abs(error.mean()) < 5 * deviation(n, word_bits) / np.sqrt(len(error))
    assert np.abs(error).max() * MODULUS / 2**word_bits <= error_bound(n, word_bits)
    if n == 3 and word_bits == 16:
        assert abs(error.std() / np.sqrt((n + 1) / 12) - 1) > 20 * sampling


def test_the_error_of_a_sum_does_not_follow_the_inputs() -> None:
    rig = rig_of(16, n=4, dim=60_000)
    inputs = rig.random_inputs(4)
    rig.gather(inputs)
    error = rig.finish().sums["a"].total_D - plain_sum(v["a"] for v in inputs.values())
    for mine in inputs.values():
        assert correlation(error, mine["a"].astype(float)) < 5


@pytest.mark.parametrize("suite", [CLASSIC, HYBRID])
def test_the_check_coordinates_stay_far_within_their_bound(suite: str) -> None:
    """The largest of 64 is a few deviations; the bound that closes a sum is the worst case."""
    n, rig = 8, Rig(8, {"a": 40}, suite=suite)
    rig.gather(rig.random_inputs(0))
    rig.finish()
    keys = rig.coordinator._key(0)[0]
    total = rig.arithmetic.backend.unmask(
        public=public_key(rig.signed.mh, "a"),
        secret=keys.astype(np.uint32),
        words_D=rig.coordinator._sums[0],
        word_bits=16,
        run=rig.arithmetic.run,
    )
    checks = np.abs(total[-NUM_CHECKS:]) * 2**16 / MODULUS
    assert checks.max() < 4 * deviation(n, 16) < error_bound(n, 16) * 2**16 / MODULUS


def test_errors_are_centred_binomial_of_variance_16() -> None:
    drawn = binomial(Keystream(b"e" * 32), DIM).astype(np.int64)
    assert abs(drawn.mean()) < 5 * 4 / np.sqrt(DIM)
    assert abs(drawn.var() - 16) < 5 * 16 * np.sqrt(2 / DIM)
    assert np.abs(drawn).max() <= BINOMIAL.bound
    expected = binomial_law()
    cells = [i for i in range(65) if expected[i] * DIM > 20]
    counts = np.array([np.sum(drawn + 32 == i) for i in cells])
    wanted = np.array([expected[i] * DIM for i in cells])
    freedom = len(cells) - 1
    assert abs(((counts - wanted) ** 2 / wanted).sum() - freedom) < 5 * np.sqrt(2 * freedom)


def binomial_law() -> Sequence[float]:
    return [comb(64, k) / 2**64 for k in range(65)]
