"""What leaves a device looks like noise, whatever it holds."""

from __future__ import annotations

import numpy as np

from mimo_fed.secagg import MODULUS
from mimo_fed.secagg.intake import read_contribution
from mimo_fed.secagg.words import read_words
from tests.unit.secagg.rig import Rig

DIM = 200_000


def words_of(rig: Rig, values: np.ndarray) -> np.ndarray:
    _, _, words = read_contribution(rig.signed, rig.m2(rig.ids[0], {"a": values}))
    return read_words(words[0], 16)


def chi_square(words: np.ndarray) -> float:
    """Against uniform, 256 cells of the high byte: 255 degrees of freedom."""
    counts = np.bincount(words >> 8, minlength=256)
    expected = len(words) / 256
    return float(((counts - expected) ** 2 / expected).sum())


def test_words_of_any_input_are_uniform() -> None:
    rig = Rig(3, {"a": DIM})
    extreme = np.where(np.arange(DIM) % 2, 1, MODULUS - 1).astype(np.uint32)
    for values in (np.zeros(DIM, np.uint32), extreme, np.full(DIM, MODULUS // 3, np.uint32)):
        words = words_of(rig, values)
        assert 180 < chi_square(words) < 340  # mean 255, standard deviation 22.6
        low = np.bincount(words & 255, minlength=256)
        assert ((low - len(words) / 256) ** 2).sum() * 256 / len(words) < 340


def test_words_do_not_follow_the_input_nor_each_other() -> None:
    rig = Rig(3, {"a": DIM})
    values = np.random.default_rng(0).integers(0, MODULUS, DIM).astype(np.uint32)
    first, second = words_of(rig, values)[:DIM].astype(float), words_of(rig, values)[:DIM].astype(float)
    for left, right in ((first, values), (first, second), (first[1:], first[:-1])):
        assert abs(np.corrcoef(left, right)[0, 1]) < 5 / np.sqrt(DIM)


def test_each_sum_and_each_round_has_its_own_mask() -> None:
    rig = Rig(3, {"a": 5000, "b": 5000})
    zeros = np.zeros(5000, np.uint32)
    _, _, words = read_contribution(rig.signed, rig.m2(rig.ids[0], {"a": zeros, "b": zeros}))
    a, b = read_words(words[0], 16), read_words(words[1], 16)
    assert np.mean(a == b) < 0.01
