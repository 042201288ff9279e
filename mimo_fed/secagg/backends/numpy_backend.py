"""The masks in numpy alone: two batches of small matrix products, exact in double precision.

The inverse transform has 2048 = 32 x 64 points and is two batches of small matrix products; the values of s
and all twiddle factors are folded into their constant sides, so that a mask costs two products and two
reductions a coefficient (`modular` says why they are exact).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.secagg import modular
from mimo_fed.secagg.backends.interface import Run, in_turn, run_blocks
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.modular import MODULUS, Floats, Residues
from mimo_fed.secagg.ring import RING, Block, ErrorTerm, evaluate, root, uniform
from mimo_fed.secagg.words import Words, add_words, round_to_words, unmask

_ROWS: Final = 32
_COLUMNS: Final = 64


class NumpyBackend:
    """The back end for every platform that numpy runs on."""

    name = "numpy"

    def prepare(self) -> None:
        """Build the tables of the transforms."""
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
        out = bytearray(len(values_D) * size)
        view = memoryview(out)

        def work(some: Sequence[Block]) -> None:
            scratch = _Scratch()
            for block in some:
                masked = masks.block(block, scratch)
                masked += values_D[block.where]
                masked += error.sample(Keystream(errors_key, block.index), block.count)
                masked -= np.floor(masked * (1.0 / MODULUS)) * MODULUS
                view[block.start * size : (block.start + block.count) * size] = round_to_words(
                    masked.astype(np.uint64), word_bits
                )

        run_blocks(len(values_D), work, run)
        return out

    def add(self, total_D: Words, data: bytes | bytearray | memoryview, word_bits: int) -> None:
        """See `Backend.add`."""
        add_words(total_D, data, word_bits)

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

        def work(some: Sequence[Block]) -> None:
            scratch = _Scratch()
            for block in some:
                mask = masks.block(block, scratch)
                mask += (mask < 0) * float(MODULUS)
                total_D[block.where] = unmask(words_D[block.where], mask, word_bits)

        run_blocks(len(words_D), work, run)
        return total_D


class _Scratch:
    """Arrays to be overwritten, the same ones for every block of a piece."""

    def __init__(self) -> None:
        self._arrays: dict[str, Floats] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> Floats:
        """Return the array of that name; it holds anything."""
        size = int(np.prod(shape))
        kept = self._arrays.get(name)
        if kept is None or kept.size < size:
            kept = self._arrays[name] = np.empty(size)
        return kept[:size].reshape(shape)


class _Masks:
    """Expands one secret into masks.

    Args:
        public: the sum's key.
        secret: (2048,) residues; their values are erased with this object.
    """

    def __init__(self, public: bytes, secret: NDArray[np.uint32]) -> None:
        self._public = public
        values = evaluate(secret).reshape(_ROWS, _COLUMNS)
        first = _first_stage()[None, :, :] * values.T[:, None, :] % MODULUS
        self._first = modular.operator(first)
        self._second = _second_stage()

    def block(self, block: Block, scratch: _Scratch) -> Floats:
        """Compute the mask of one block: (count,) integers in [-q/2, q/2], overwritten by the next."""
        lanes = block.lanes
        words = uniform(Keystream(self._public, block.index), RING * lanes)
        limbs = scratch.take("limbs", (_COLUMNS, 2 * _ROWS, lanes))
        half = words.reshape(_COLUMNS, _ROWS, lanes)
        limbs[:, :_ROWS] = half & np.uint32(0xFFFF)
        limbs[:, _ROWS:] = half >> np.uint32(16)
        middle = np.matmul(self._first, limbs, out=scratch.take("middle", (_COLUMNS, _ROWS, lanes)))
        modular.reduce(middle, scratch.take("spare", middle.shape))
        turned = scratch.take("turned", (_ROWS, 2 * _COLUMNS, lanes))
        modular.split(middle.transpose(1, 0, 2), turned)
        # row k1, column k2 of the product is coefficient k1 + 32 k2
        last = np.matmul(self._second, turned, out=scratch.take("last", (_ROWS, _COLUMNS, lanes)))
        modular.reduce(last, scratch.take("spare", last.shape))
        ordered = scratch.take("ordered", (_COLUMNS, _ROWS, lanes))
        ordered[:] = last.transpose(1, 0, 2)
        return ordered.reshape(-1)[: block.count]


@cache
def _first_stage() -> Residues:
    """omega^(-64 n1 k1), rows k1, columns n1."""
    k1, n1 = np.arange(_ROWS)[:, None], np.arange(_ROWS)[None, :]
    return modular.power(root(), -2 * _COLUMNS * k1 * n1, 2 * RING)


@cache
def _second_stage() -> Floats:
    """For each k1, rows k2, columns n2: the rest of the inverse transform, psi^(-k) and 1/2048 included."""
    k1, k2, n2 = np.ogrid[:_ROWS, :_COLUMNS, :_COLUMNS]
    k = k1 + _ROWS * k2
    matrix = modular.power(root(), -2 * n2 * k - k, 2 * RING)
    return modular.operator(matrix * np.uint64(pow(RING, -1, MODULUS)) % MODULUS)
