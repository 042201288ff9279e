"""The ring: its elements, its errors, its blocks, and exact arithmetic in doubles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from mimo_fed.privacy import quantize
from mimo_fed.secagg import MODULUS, RING, modular
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.ring import BINOMIAL, BLOCK, NO_ERROR, blocks, evaluate, public_key, root, uniform


def test_there_is_one_modulus() -> None:
    assert MODULUS == quantize.MODULUS == 2**31 - 2**17 + 1


def test_the_root_is_of_the_least_base_that_has_order_4096() -> None:
    orders = {b: pow(b, (MODULUS - 1) // 2, MODULUS) for b in range(2, 50)}
    least = min(b for b, power in orders.items() if power != 1)
    assert root() == pow(least, (MODULUS - 1) // 4096, MODULUS)
    assert pow(root(), 2048, MODULUS) == MODULUS - 1


@pytest.mark.parametrize("j", [0, 1, 63, 64, 1000, 2047])
def test_a_polynomial_is_evaluated_at_the_odd_powers_of_the_root(j: int) -> None:
    coefficients = np.random.default_rng(1).integers(0, MODULUS, RING, dtype=np.uint32)
    point, value = pow(root(), 2 * j + 1, MODULUS), 0
    for c in reversed(coefficients.tolist()):
        value = (value * point + c) % MODULUS
    assert evaluate(coefficients)[j] == value


@pytest.mark.parametrize(
    ("length", "lanes"),
    [
        (1, [1]),
        (RING, [1]),
        (RING + 1, [2]),
        (BLOCK, [32]),
        (BLOCK + 1, [32, 1]),
        (2 * BLOCK + 5000, [32, 32, 3]),
    ],
)
def test_blocks_cover_a_vector_once(length: int, lanes: list[int]) -> None:
    cut = blocks(length)
    assert [block.lanes for block in cut] == lanes
    assert [block.index for block in cut] == list(range(len(lanes)))
    assert cut[0].where.start == 0
    assert cut[-1].where.stop == length
    assert all(left.where.stop == right.where.start == right.index * BLOCK for left, right in pairwise(cut))


class Words:
    """A stream of chosen words."""

    def __init__(self, words: list[int]) -> None:
        self._data = np.array(words, "<u4").tobytes()

    def take(self, length: int) -> bytearray:
        part, self._data = self._data[:length], self._data[length:]
        return bytearray(part)


def test_refused_words_are_replaced_in_order() -> None:
    top = 1 << 31
    stream = Words([5, MODULUS, 2**31 - 1, top + 7, MODULUS + 1, 11, MODULUS - 1, 13])
    assert uniform(stream, 4).tolist() == [5, 11, MODULUS - 1, 7]  # type: ignore[arg-type]


def test_replacements_are_drawn_until_they_suffice() -> None:
    stream = Words([MODULUS] * 3 + [1, MODULUS, MODULUS, MODULUS, 2, 3, 4, 5])
    assert uniform(stream, 3).tolist() == [1, 2, 3]  # type: ignore[arg-type]


def test_keys_of_public_polynomials_differ_by_manifest_and_by_sum() -> None:
    keys = {public_key(mh, name) for mh in (b"h" * 32, b"i" * 32) for name in ("update", "statistics")}
    assert len(keys) == 4


def test_errors_have_the_variance_and_the_bound_of_the_rule() -> None:
    errors = BINOMIAL.sample(Keystream(b"e" * 32), 200_000)
    assert errors.dtype == np.int32
    assert abs(errors.mean()) < 0.05
    assert errors.var() == pytest.approx(16, rel=0.02)
    assert np.abs(errors).max() <= BINOMIAL.bound == 32


def test_an_error_is_ones_in_one_word_less_ones_in_the_next() -> None:
    coins = np.frombuffer(Keystream(b"e" * 32).take(8 * 50), "<u4").reshape(50, 2).tolist()
    expected = [left.bit_count() - right.bit_count() for left, right in coins]
    assert BINOMIAL.sample(Keystream(b"e" * 32), 50).tolist() == expected


def test_no_error_is_none() -> None:
    assert NO_ERROR.sample(Keystream(b"e" * 32), 3).tolist() == [0, 0, 0]
    assert NO_ERROR.bound == 0


def test_products_are_exact_at_the_extremes() -> None:
    worst = np.full((64, 64), MODULUS // 2, np.uint64)
    values = np.full((64, 3), MODULUS - 1, np.uint64)
    expected = 64 * (MODULUS // 2) * (MODULUS - 1) % MODULUS
    assert (modular.multiply(modular.operator(worst), values) == expected).all()
    rng = np.random.default_rng(3)
    left, right = rng.integers(0, MODULUS, (5, 64)), rng.integers(0, MODULUS, (64, 2))
    exact = left.astype(object) @ right.astype(object) % MODULUS
    got = modular.multiply(modular.operator(left.astype(np.uint64)), right.astype(np.uint64))
    assert (got == exact.astype(np.uint64)).all()


def test_a_product_that_could_be_inexact_is_refused() -> None:
    with pytest.raises(ValueError, match="65"):
        modular.operator(np.zeros((1, 65), np.uint64))
