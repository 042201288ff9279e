"""The masks in compiled loops: the fastest back end, where numba is installed.

Work goes block by block through a few buffers that stay in the cache. A block of fewer than 32 lanes is
computed as one of 32 of which the others hold nothing. The values of the secret stand in the order in which
the inverse transform reads, with the factor 1/2048 in them; each constant has its quotient by q beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.secagg.backends.compiled import Kernels, compile_kernels
from mimo_fed.secagg.backends.interface import Run, in_turn, run_blocks
from mimo_fed.secagg.backends.kernels import reversed_bits
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.modular import MODULUS, Residues, power
from mimo_fed.secagg.ring import BINOMIAL, BLOCK, LANES, RING, Block, ErrorTerm, evaluate, replace, root
from mimo_fed.secagg.words import UNROUNDED, Words, add_words, unmask

_COINS_AT_ONCE: Final = 1 << 14
"""coefficients whose errors are drawn at once: 128 KiB of keystream"""


class NumbaBackend:
    """The back end for machines that compile."""

    name = "numba"

    def prepare(self) -> None:
        """Compile the loops or read them from disk, and build the tables."""
        compile_kernels()
        _Masks(bytes(32), np.zeros(RING, np.uint32))

    def protect(
        self,
        *,
        public: bytes,
        secret: NDArray[np.uint32],
        errors_key: bytes,
        error: ErrorTerm,
        values_D: NDArray[np.uint32],
        word_bits: int,
        run: Run = in_turn,
    ) -> bytearray:
        """See `Backend.protect`."""
        masks, size = _Masks(public, secret), word_bits // 8
        values_D = np.require(values_D, np.uint32, ["C", "A"])
        out = bytearray(len(values_D) * size)

        def work(some: Sequence[Block]) -> None:
            scratch = _Scratch()
            for block in some:
                x = masks.block(block, scratch)
                _add(x, values_D[block.where], error, Keystream(errors_key, block.index))
                data = memoryview(out)[block.start * size : (block.start + block.count) * size]
                _write(x, data, word_bits)

        run_blocks(len(values_D), work, run)
        return out

    def add(self, total_D: Words, data: bytes | bytearray | memoryview, word_bits: int) -> None:
        """See `Backend.add`."""
        view = memoryview(data)
        fours = len(total_D) // 4 if word_bits == 24 and 3 * len(total_D) == view.nbytes else 0
        if fours:
            packed = np.require(np.frombuffer(view[: 12 * fours], "<u4"), np.uint32, ["A"])
            compile_kernels().add_packed(total_D[: 4 * fours], packed)
        add_words(total_D[4 * fours :], view[12 * fours :], word_bits)

    def unmask(
        self,
        *,
        public: bytes,
        secret: NDArray[np.uint32],
        words_D: Words,
        word_bits: int,
        run: Run = in_turn,
    ) -> NDArray[np.float64]:
        """See `Backend.unmask`."""
        masks, total_D = _Masks(public, secret), np.empty(len(words_D))
        words_D = np.require(words_D, requirements=["C", "A"])

        def work(some: Sequence[Block]) -> None:
            scratch = _Scratch()
            for block in some:
                x = masks.block(block, scratch)
                if word_bits == UNROUNDED:
                    total_D[block.where] = unmask(words_D[block.where], x.astype(np.float64), word_bits)
                else:
                    lift = compile_kernels().lifters[word_bits]
                    lift(words_D[block.where], x, total_D[block.where])

        run_blocks(len(words_D), work, run)
        return total_D


class _Scratch:
    """Arrays to be overwritten, the same ones for every block of a piece."""

    def __init__(self) -> None:
        self.rows = np.empty(BLOCK, np.uint32)
        self.positions = np.empty(BLOCK, np.int64)


class _Masks:
    """Expands one secret into masks.

    Args:
        public: the sum's key.
        secret: (2048,) residues; their values are erased with this object.
    """

    def __init__(self, public: bytes, secret: NDArray[np.uint32]) -> None:
        self._public = public
        scale = np.uint64(pow(RING, -1, MODULUS))
        self._secret = _with_quotients(evaluate(secret)[reversed_bits(RING)] * scale % MODULUS)
        self._kernels: Kernels = compile_kernels()

    def block(self, block: Block, scratch: _Scratch) -> NDArray[np.uint32]:
        """Compute the mask of one block: (count,) residues, overwritten by the next."""
        loops, lanes, stream = self._kernels, block.lanes, Keystream(self._public, block.index)
        words = np.frombuffer(stream.take(4 * RING * lanes), "<u4").astype(np.uint32, copy=False)
        num_refused = loops.refused(words, scratch.positions)
        replace(words, scratch.positions[:num_refused], stream)
        if lanes < LANES:
            spread = np.zeros((RING, LANES), np.uint32)
            spread[:, :lanes] = words.reshape(RING, lanes)
            words = spread.reshape(-1)
        loops.first_sweep(words, *self._secret, *_twiddles(), scratch.rows)
        for sweep in loops.sweeps:
            sweep(*_twiddles(), scratch.rows)
        used = scratch.rows.reshape(RING, LANES)[:, :lanes]
        return np.ascontiguousarray(used).reshape(-1)[: block.count]


def _add(x: NDArray[np.uint32], values: NDArray[np.uint32], error: ErrorTerm, stream: Keystream) -> None:
    """Add values and errors to masks, in place; the usual errors are drawn and added in pieces."""
    loops = compile_kernels()
    if error is not BINOMIAL:
        noisy = (values.astype(np.int64) + error.sample(stream, len(values))) % MODULUS
        loops.add(x, noisy.astype(np.uint32))
        return
    for at in range(0, len(x), _COINS_AT_ONCE):
        part = slice(at, min(at + _COINS_AT_ONCE, len(x)))
        coins = np.frombuffer(stream.take(8 * (part.stop - at)), "<u8").astype(np.uint64, copy=False)
        loops.add_binomial(x[part], values[part], coins)


def _write(x: NDArray[np.uint32], data: memoryview, word_bits: int) -> None:
    """Round residues to words, little-endian."""
    if word_bits == UNROUNDED:
        data[:] = x.astype("<u4").tobytes()
        return
    out = np.frombuffer(data, np.uint16 if word_bits == 16 else np.uint8)
    compile_kernels().rounders[word_bits](x, out)


@cache
def _twiddles() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Powers of 1 / psi in the order of the transform's levels, and their quotients."""
    return _with_quotients(power(root(), -reversed_bits(RING), 2 * RING))


def _with_quotients(constants: Residues) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return constants w, and floor(w 2^32 / q)."""
    return constants.astype(np.uint32), ((constants << np.uint64(32)) // np.uint64(MODULUS)).astype(np.uint32)
