"""One suite for every back end: the bits of the plain one, and that one against the schoolbook."""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest

from mimo_fed.errors import ConfigError, LocalProtocolError
from mimo_fed.secagg import MODULUS, RING
from mimo_fed.secagg.backends import BINOMIAL, NAMES, NO_ERROR, Backend, ErrorTerm, choose
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.ring import BLOCK, public_key, root, uniform
from mimo_fed.secagg.words import empty_sum, error_bound, read_words

PUBLIC = public_key(b"h" * 32, "sum")
ERRORS = b"e" * 32
SMALL = [1, 63, RING - 1, RING, RING + 1, 2 * RING + 77]
LARGE = [BLOCK - 1, BLOCK, BLOCK + 2 * RING + 77, 2 * BLOCK + BLOCK // 2]


def _wide(stream: Keystream, count: int) -> np.ndarray:
    return np.frombuffer(stream.take(4 * count), "<i4").astype(np.int32) >> 8


WIDE = ErrorTerm(name="wide", bound=1 << 23, sample=_wide)


@pytest.fixture(params=["plain", "numpy", "numba"])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "numba":
        pytest.importorskip("numba")
    chosen = choose(request.param)
    chosen.prepare()
    return chosen


@pytest.fixture(params=["numpy", "numba"])
def fast(request: pytest.FixtureRequest) -> Backend:
    if request.param == "numba":
        pytest.importorskip("numba")
    return choose(request.param)


def secret(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, MODULUS, RING, dtype=np.uint32)


def values(length: int, seed: int = 2) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(0, MODULUS, length, dtype=np.uint32)
    drawn[-1] = MODULUS - 1
    return drawn


def summed(length: int, word_bits: int) -> np.ndarray:
    """Words of a sum, with bits above those of one word set too."""
    total = empty_sum(length, word_bits)
    limit = {16: 1 << 16, 24: 1 << 32, 32: 1 << 40}[word_bits]
    total[:] = np.random.default_rng(length).integers(0, limit, length)
    return total


def protect(backend: Backend, length: int, word_bits: int, error: ErrorTerm, **more: object) -> bytes:
    return bytes(
        backend.protect(
            public=PUBLIC,
            secret=secret(),
            errors_key=ERRORS,
            error=error,
            values_D=values(length),
            word_bits=word_bits,
            **more,  # type: ignore[arg-type]
        )
    )


def unmask(backend: Backend, length: int, word_bits: int, **more: object) -> bytes:
    total = backend.unmask(
        public=PUBLIC,
        secret=secret(),
        words_D=summed(length, word_bits),
        word_bits=word_bits,
        **more,  # type: ignore[arg-type]
    )
    assert total.dtype == np.float64
    return total.tobytes()


@cache
def protected(length: int, word_bits: int, error: ErrorTerm) -> bytes:
    """What every back end must return: the plain one's."""
    return protect(choose("plain"), length, word_bits, error)


@cache
def unmasked(length: int, word_bits: int) -> bytes:
    return unmask(choose("plain"), length, word_bits)


@pytest.mark.parametrize("error", [BINOMIAL, NO_ERROR, WIDE], ids=lambda error: error.name)
@pytest.mark.parametrize("word_bits", [16, 24, 32])
@pytest.mark.parametrize("length", SMALL)
def test_words_are_the_plain_back_ends(fast: Backend, length: int, word_bits: int, error: ErrorTerm) -> None:
    data = protect(fast, length, word_bits, error)
    assert len(data) == length * word_bits // 8
    assert data == protected(length, word_bits, error)


@pytest.mark.parametrize("word_bits", [16, 24, 32])
@pytest.mark.parametrize("length", SMALL)
def test_totals_are_the_plain_back_ends_to_the_last_bit(fast: Backend, length: int, word_bits: int) -> None:
    assert unmask(fast, length, word_bits) == unmasked(length, word_bits)


def test_a_block_and_three_lanes_are_the_plain_back_ends(fast: Backend) -> None:
    length = BLOCK + 2 * RING + 77
    assert protect(fast, length, 16, BINOMIAL) == protected(length, 16, BINOMIAL)
    assert unmask(fast, length, 24) == unmasked(length, 24)


@pytest.mark.parametrize("error", [BINOMIAL, NO_ERROR], ids=lambda error: error.name)
@pytest.mark.parametrize("word_bits", [16, 24, 32])
@pytest.mark.parametrize("length", LARGE)
def test_compiled_blocks_are_those_of_matrix_products(length: int, word_bits: int, error: ErrorTerm) -> None:
    pytest.importorskip("numba")
    numpy, numba = choose("numpy"), choose("numba")
    assert protect(numba, length, word_bits, error) == protect(numpy, length, word_bits, error)
    assert unmask(numba, length, word_bits) == unmask(numpy, length, word_bits)


def test_a_mask_is_the_negacyclic_product_of_the_schoolbook(backend: Backend) -> None:
    """The public polynomial is interpolated as a plain double sum, and multiplied with X^2048 = -1."""
    length, s = 5, secret().tolist()
    by_rows = uniform(Keystream(PUBLIC, 0), RING).astype(np.uint64).reshape(64, 32)
    at_points = by_rows.T.reshape(RING)  # j = 64 n1 + n2
    powers = np.array([pow(root(), -i, MODULUS) for i in range(2 * RING)], np.uint64)
    j = np.arange(RING)
    public = [
        int((at_points * powers[(2 * j + 1) * i % (2 * RING)] % MODULUS).sum())
        * pow(RING, -1, MODULUS)
        % MODULUS
        for i in range(RING)
    ]
    product = []
    for k in range(length):
        terms = (public[i] * s[(k - i) % RING] * (1 if i <= k else -1) for i in range(RING))
        product.append(sum(terms) % MODULUS)
    masked = read_words(protect(backend, length, 32, NO_ERROR), 32)
    assert ((masked.astype(np.int64) - values(length)) % MODULUS).tolist() == product


def test_errors_of_a_block_come_from_the_stream_of_its_number(fast: Backend) -> None:
    length = BLOCK + 100
    with_errors = read_words(protect(fast, length, 32, BINOMIAL), 32).astype(np.int64)
    without = read_words(protect(fast, length, 32, NO_ERROR), 32).astype(np.int64)
    errors = (with_errors - without + MODULUS // 2) % MODULUS - MODULUS // 2
    assert np.array_equal(errors[:BLOCK], BINOMIAL.sample(Keystream(ERRORS, 0), BLOCK))
    assert np.array_equal(errors[BLOCK:], BINOMIAL.sample(Keystream(ERRORS, 1), 100))


@pytest.mark.parametrize("word_bits", [16, 24, 32])
@pytest.mark.parametrize("length", [1, 3, 4, 67, 2049])
def test_words_add_and_wrap(backend: Backend, length: int, word_bits: int) -> None:
    total = summed(length, word_bits)
    data = np.random.default_rng(3).bytes(length * word_bits // 8)
    wrap = 1 << 8 * total.itemsize
    words = [int(word) for word in read_words(data, word_bits)]
    expected = [(int(before) + 2 * word) % wrap for before, word in zip(total, words, strict=True)]
    backend.add(total, data, word_bits)
    backend.add(total, memoryview(b"\xff" + data)[1:], word_bits)
    assert total.tolist() == expected


@pytest.mark.parametrize("word_bits", [16, 24, 32])
@pytest.mark.parametrize("excess", [-4, -1, 1, 4])
def test_words_of_another_length_are_refused(backend: Backend, word_bits: int, excess: int) -> None:
    total = empty_sum(8, word_bits)
    with pytest.raises(LocalProtocolError, match=str(word_bits + excess)):
        backend.add(total, b"\1" * (word_bits + excess), word_bits)
    assert not total.any()


@pytest.mark.parametrize(
    ("word_bits", "error"), [(16, BINOMIAL), (24, BINOMIAL), (32, BINOMIAL), (32, NO_ERROR)]
)
def test_the_sum_of_the_keys_opens_the_sum_of_the_inputs(
    backend: Backend, word_bits: int, error: ErrorTerm
) -> None:
    length, n = RING + 500, 3
    total, keys = empty_sum(length, word_bits), np.zeros(RING, np.uint64)
    inputs = np.random.default_rng(4).integers(-(10**7), 10**7, (n, length))
    for i, x in enumerate(inputs):
        data = backend.protect(
            public=PUBLIC,
            secret=secret(i),
            errors_key=bytes([i]) * 32,
            error=error,
            values_D=(x % MODULUS).astype(np.uint32),
            word_bits=word_bits,
        )
        backend.add(total, data, word_bits)
        keys += secret(i)
    key = (keys % MODULUS).astype(np.uint32)
    opened = backend.unmask(public=PUBLIC, secret=key, words_D=total, word_bits=word_bits)
    assert np.abs(opened - inputs.sum(axis=0)).max() <= error_bound(n, word_bits, error)


def _backwards(pieces: Sequence[Callable[[], None]]) -> None:
    for piece in reversed(pieces):
        piece()


def _on_threads(pieces: Sequence[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda piece: piece(), pieces))


@pytest.mark.parametrize("run", [_backwards, _on_threads])
def test_pieces_may_be_executed_in_any_order(fast: Backend, run: Callable[..., None]) -> None:
    length = 8 * BLOCK + 1000
    counts = []

    def counted(pieces: Sequence[Callable[[], None]]) -> None:
        counts.append(len(pieces))
        run(pieces)

    assert protect(fast, length, 16, BINOMIAL, run=counted) == protect(fast, length, 16, BINOMIAL)
    assert unmask(fast, length, 16, run=counted) == unmask(fast, length, 16)
    assert counts == [2, 2]


def test_inputs_may_be_read_only_or_spread_in_memory(backend: Backend) -> None:
    spread = np.repeat(values(300), 2)[::2]
    fixed = secret()
    for array in (spread, fixed):
        array.flags.writeable = False
    data = backend.protect(
        public=PUBLIC, secret=fixed, errors_key=ERRORS, error=BINOMIAL, values_D=spread, word_bits=16
    )
    assert bytes(data) == protected(300, 16, BINOMIAL)
    words = np.repeat(summed(300, 16), 2)[::2]
    words.flags.writeable = False
    total = backend.unmask(public=PUBLIC, secret=fixed, words_D=words, word_bits=16)
    assert total.tobytes() == unmasked(300, 16)


@pytest.mark.parametrize("name", ["plain", "numpy"])
def test_a_back_end_is_chosen_by_name(name: str) -> None:
    assert choose(name).name == name


def test_numba_is_the_usual_choice_where_it_is_installed() -> None:
    pytest.importorskip("numba")
    assert choose().name == choose("numba").name == "numba"


@pytest.fixture
def _no_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("numba_backend", "compiled", "kernels"):
        monkeypatch.delitem(sys.modules, f"mimo_fed.secagg.backends.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)


@pytest.mark.usefixtures("_no_numba")
def test_without_numba_numpy_serves_and_a_wish_for_numba_is_refused() -> None:
    assert choose().name == "numpy"
    with pytest.raises(ConfigError, match="numba"):
        choose("numba")


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="cupy") as caught:
        choose("cupy")
    assert all(name in caught.value.hint for name in NAMES)


def test_importing_the_command_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    name = "mimo_fed.secagg.backends.__main__"
    importlib.import_module(name)
    del sys.modules[name]  # for the next test, which runs it
    assert capsys.readouterr().out == ""


def _run_module(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["backends", *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("mimo_fed.secagg.backends", run_name="__main__")
    return int(str(stopped.value.code))


def test_a_back_end_can_be_prepared_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run_module(monkeypatch, "numpy") == 0
    assert capsys.readouterr().out.startswith("numpy: ready after ")
    assert _run_module(monkeypatch, "cupy") == 2
    assert "cupy" in capsys.readouterr().err
