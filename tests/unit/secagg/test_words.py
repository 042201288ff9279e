"""Rounding, and the error it leaves in a sum."""

from __future__ import annotations

import numpy as np
import pytest

from mimo_fed.errors import LocalProtocolError
from mimo_fed.secagg import MODULUS
from mimo_fed.secagg.ring import NO_ERROR
from mimo_fed.secagg.words import add_words, empty_sum, error_bound, read_words, round_to_words, unmask


@pytest.mark.parametrize("word_bits", [16, 24])
def test_words_are_the_nearest_ones(word_bits: int) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([[0, 1, MODULUS - 1], rng.integers(0, MODULUS, 5000)]).astype(np.uint64)
    data = round_to_words(values, word_bits)
    assert len(data) == len(values) * word_bits // 8
    exact = [(2 * int(v) * 2**word_bits + MODULUS) // (2 * MODULUS) % 2**word_bits for v in values]
    difference = (read_words(data, word_bits).astype(np.int64) - exact) % 2**word_bits
    # the fixed-point factor may move a value on the edge between two words
    assert set(difference.tolist()) <= {0, 1, 2**word_bits - 1}
    assert np.mean(difference == 0) > 0.999


@pytest.mark.parametrize(("word_bits", "size"), [(16, 2), (24, 3), (32, 4)])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 64])
def test_words_are_read_as_little_endian_integers(word_bits: int, size: int, count: int) -> None:
    data = np.random.default_rng(count).bytes(count * size)
    expected = [int.from_bytes(data[i * size : (i + 1) * size], "little") for i in range(count)]
    assert read_words(data, word_bits).tolist() == expected
    shifted = memoryview(b"\xff" + data)[1:]
    assert read_words(shifted, word_bits).tolist() == expected


@pytest.mark.parametrize(("word_bits", "n"), [(16, 3), (16, 20), (24, 8)])
def test_the_error_of_a_sum_is_what_the_theory_says(word_bits: int, n: int) -> None:
    rng = np.random.default_rng(n)
    size = 50_000
    masks = rng.integers(0, MODULUS, (n, size))
    inputs = rng.integers(-(10**6), 10**6, (n, size))
    total = empty_sum(size, word_bits)
    for mask, x in zip(masks, inputs, strict=True):
        add_words(total, round_to_words(((mask + x) % MODULUS).astype(np.uint64), word_bits), word_bits)
    opened = unmask(total, (masks.sum(axis=0) % MODULUS).astype(np.float64), word_bits)
    error = (opened - inputs.sum(axis=0)) / (MODULUS / 2**word_bits)
    assert error.std() == pytest.approx(np.sqrt(n / 12), rel=0.02)
    assert abs(error.mean()) < 0.03
    assert np.abs(error).max() * MODULUS / 2**word_bits <= error_bound(n, word_bits)


def test_sums_of_unrounded_words_are_exact() -> None:
    rng = np.random.default_rng(7)
    masks, inputs = rng.integers(0, MODULUS, (9, 500)), rng.integers(-(10**7), 10**7, (9, 500))
    total = empty_sum(500, 32)
    for mask, x in zip(masks, inputs, strict=True):
        add_words(total, round_to_words(((mask + x) % MODULUS).astype(np.uint64), 32), 32)
    opened = unmask(total, (masks.sum(axis=0) % MODULUS).astype(np.float64), 32)
    assert np.array_equal(opened, inputs.sum(axis=0))


def test_the_bound_follows_the_error_term_and_the_word_size() -> None:
    assert error_bound(5, 32, NO_ERROR) == 0
    assert error_bound(5, 32) == 5 * 32
    assert error_bound(5, 16) > 5 * (MODULUS / 2**17 + 32)
    assert error_bound(5, 16) - error_bound(5, 16, NO_ERROR) == pytest.approx(5 * 32)


@pytest.mark.parametrize(("word_bits", "dtype"), [(16, np.uint16), (24, np.uint32), (32, np.uint64)])
def test_sums_have_room_for_their_words(word_bits: int, dtype: type) -> None:
    total = empty_sum(3, word_bits)
    assert total.dtype == dtype
    assert total.tolist() == [0, 0, 0]


def test_other_sizes_are_refused() -> None:
    with pytest.raises(LocalProtocolError, match="8"):
        empty_sum(3, 8)
