"""Rounding, and the error it leaves in a sum."""

from __future__ import annotations

import numpy as np
import pytest

from mimo_fed.errors import LocalProtocolError
from mimo_fed.secagg import MODULUS
from mimo_fed.secagg.words import empty_sum, error_bound, read_words, round_to_words, unmask


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


@pytest.mark.parametrize(("word_bits", "n"), [(16, 3), (16, 20), (24, 8)])
def test_the_error_of_a_sum_is_what_the_theory_says(word_bits: int, n: int) -> None:
    rng = np.random.default_rng(n)
    size = 50_000
    masks = rng.integers(0, MODULUS, (n, size))
    inputs = rng.integers(-(10**6), 10**6, (n, size))
    total = empty_sum(size, word_bits)
    for mask, x in zip(masks, inputs, strict=True):
        total += read_words(round_to_words(((mask + x) % MODULUS).astype(np.uint64), word_bits), word_bits)
    opened = unmask(total, (masks.sum(axis=0) % MODULUS).astype(np.float64), word_bits)
    error = (opened - inputs.sum(axis=0)) / (MODULUS / 2**word_bits)
    assert error.std() == pytest.approx(np.sqrt(n / 12), rel=0.02)
    assert abs(error.mean()) < 0.03
    assert np.abs(error).max() * MODULUS / 2**word_bits <= error_bound(n, word_bits)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(LocalProtocolError):
        empty_sum(3, 8)
