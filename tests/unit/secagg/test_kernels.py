"""The loops of the numba back end, run as the Python that they are, and the places of their cache."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mimo_fed.secagg import MODULUS, RING
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.ring import BLOCK, binomial
from mimo_fed.secagg.words import read_words, round_to_words, unmask

numba = pytest.importorskip("numba")
from mimo_fed.secagg.backends import compiled, kernels, numba_backend  # noqa: E402


def residues(seed: int, count: int) -> np.ndarray:
    edges = np.array([0, 1, MODULUS - 1, MODULUS // 2], np.uint32)
    drawn = np.random.default_rng(seed).integers(0, MODULUS, count, dtype=np.uint32)
    drawn[: len(edges)] = edges
    return drawn


@pytest.fixture(autouse=True)
def _wrapping() -> Iterator[None]:
    """Compiled integers wrap without a word; numpy's warn."""
    with np.errstate(over="ignore"):
        yield


def test_compiled_sweeps_compute_what_their_python_does() -> None:
    loops = compiled.compile_kernels()
    words, secret = residues(1, BLOCK), numba_backend._with_quotients(residues(2, RING).astype(np.uint64))
    twiddles = numba_backend._twiddles()
    here, there = np.zeros((2, BLOCK), np.uint32)
    kernels.first_sweep(words, *secret, *twiddles, here)
    loops.first_sweep(words, *secret, *twiddles, there)
    assert np.array_equal(here, there)
    for distance, sweep in zip((4, 32, 256), loops.sweeps, strict=True):
        kernels.sweeper(distance)(*twiddles, here)
        sweep(*twiddles, there)
        assert np.array_equal(here, there)
    assert here.max() < MODULUS


@pytest.mark.parametrize("refused", [[], [0], [63, 64, 127], list(range(64, 128)), [191]])
def test_every_refused_word_is_found_in_order(refused: list[int]) -> None:
    words = residues(3, 192)
    words[refused] = MODULUS + np.arange(len(refused), dtype=np.uint32)
    words |= np.uint32(1 << 31)
    for find in (kernels.refused, compiled.compile_kernels().refused):
        positions = np.zeros(192, np.int64)
        assert positions[: find(words, positions)].tolist() == refused


def test_sums_of_residues_stay_residues() -> None:
    x, values = residues(4, 300), residues(5, 300)[::-1].copy()
    values[0] = MODULUS - 1
    expected = (x.astype(np.uint64) + values) % MODULUS
    for add in (kernels.add, compiled.compile_kernels().add):
        total = x.copy()
        add(total, values)
        assert np.array_equal(total, expected)


def test_errors_are_those_of_the_rule_at_the_extremes_too() -> None:
    coins = np.frombuffer(Keystream(b"e" * 32).take(8 * 300), np.uint64).copy()
    coins[:2] = 0xFFFFFFFF, 0xFFFFFFFF << 32
    errors = binomial(Keystream(b"e" * 32), 300)
    errors[:2] = 32, -32
    for low, high in ((0, 0), (MODULUS - 1, 0), (MODULUS - 1, MODULUS - 1), (17, 5)):
        x, values = np.full(300, low, np.uint32), np.full(300, high, np.uint32)
        for add in (kernels.add_binomial, compiled.compile_kernels().add_binomial):
            total = x.copy()
            add(total, values, coins)
            assert np.array_equal(total, (x.astype(np.int64) + values + errors) % MODULUS)


@pytest.mark.parametrize(("word_bits", "dtype", "width"), [(16, np.uint16, 1), (24, np.uint8, 3)])
def test_rounding_and_lifting_are_those_of_the_words(word_bits: int, dtype: type, width: int) -> None:
    x, mask = residues(6, 300), residues(7, 300)
    data = round_to_words(x.astype(np.uint64), word_bits)
    words = read_words(data, word_bits)
    loops = compiled.compile_kernels()
    for rounding in (kernels.rounder(word_bits), loops.rounders[word_bits]):
        out = np.zeros(300 * width, dtype)
        rounding(x, out)
        assert out.tobytes() == data
    expected = unmask(words, mask.astype(np.float64), word_bits)
    for lift in (kernels.lifter(word_bits), loops.lifters[word_bits]):
        total = np.zeros(300)
        lift(words, mask, total)
        assert total.tobytes() == expected.tobytes()


def test_packed_words_are_added_each_to_its_place() -> None:
    data = np.random.default_rng(8).integers(0, 256, 3 * 40, dtype=np.uint8)
    before = residues(9, 40)
    for add in (kernels.add_packed, compiled.compile_kernels().add_packed):
        total = before.copy()
        add(total, data.view(np.uint32))
        assert np.array_equal(total, before + read_words(data.tobytes(), 24))


def test_a_filled_cache_is_used_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    (tmp_path / "kernels.py").touch()
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    source = str(tmp_path / "kernels.py")
    assert compiled.CacheBesideCode.from_function(kernels.add, source) is None
    (cache / "kernels.add-132.py311.nbi").touch()
    found = compiled.CacheBesideCode.from_function(kernels.add, source)
    assert Path(found.get_cache_path()) == cache


class Nowhere:
    """Finds no place for a cache."""

    @classmethod
    def from_function(cls, function: object, source: str) -> None:
        return None


def test_without_any_place_for_a_cache_the_process_compiles_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", f"{__name__}.Nowhere")
    x, values = residues(10, 70), residues(11, 70)
    compiled.compile_kernels.__wrapped__().add(x, values)
    assert np.array_equal(x, (residues(10, 70).astype(np.uint64) + values) % MODULUS)


def test_numbas_own_setting_of_places_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "")
    compiled.compile_kernels.__wrapped__()
    assert numba.config.CACHE_LOCATOR_CLASSES == ""
