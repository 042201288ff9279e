"""Spread the energy of an update evenly over its coordinates, and back.

    pad to 2048 x L  ->  random signs  ->  Walsh-Hadamard down each column

Entry i lies in row i // L and column i % L, so a column takes every L-th entry and each transform mixes all
layers of the shell; transforming contiguous blocks instead would leave a block full of one loud layer as loud
as it was. L is odd: the columns of an adapter's factor repeat with a period of 4 or 8, and an L that shared a
factor with it would give one loud rank column to a few transforms alone.

The whole map is orthonormal: norms, and the standard deviation of independent noise, pass through unchanged.
The signs are public. They come from Philox4x64-10 keyed with the first 16 bytes of SHA-256(seed), read as raw
64-bit words, least significant bit first: numpy promises that stream, and its cost is small beside the
transform's.

Shapes: D entries of the update, L columns.
Ref: Suresh, Yu, Kumar, McMahan 2017 (randomised Hadamard rotation before quantisation).
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

ROWS = 2048
"""entries mixed by one transform; also the granule of a padded length"""

_INNER, _OUTER = 64, 32

F = TypeVar("F", np.float32, np.float64)


def padded_length(dim: int) -> int:
    """Return the length of `dim` entries after flattening: an odd multiple of 2048."""
    columns = -(-dim // ROWS)
    return ROWS * (columns | 1)


def flatten(update_D: NDArray[F], seed: bytes) -> NDArray[F]:
    """Pad, flip signs and rotate.

    Args:
        update_D: floats, shape (D,).
        seed: names the random signs; the same at both ends.

    Returns:
        The same kind of floats, shape (padded_length(D),), of the same L2 norm.
    """
    length = padded_length(update_D.size)
    padded = np.zeros(length, dtype=update_D.dtype)
    padded[: update_D.size] = update_D
    padded *= _signs(length, seed)
    return _rotate(padded)


def unflatten(flat: NDArray[F], dim: int, seed: bytes) -> NDArray[F]:
    """Undo `flatten`; linear, so it may be applied to a sum.

    Args:
        flat: floats, shape (padded_length(dim),).
        dim: D.
        seed: as in `flatten`.

    Returns:
        The same kind of floats, shape (dim,).
    """
    update_D: NDArray[F] = (_rotate(flat) * _signs(flat.size, seed))[:dim]
    return update_D


def _signs(length: int, seed: bytes) -> NDArray[np.int8]:
    key = int.from_bytes(hashlib.sha256(seed).digest()[:16], "little")
    words = np.random.Philox(key=key).random_raw(length // 64)
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), bitorder="little")
    return (1 - 2 * bits.astype(np.int8)).astype(np.int8)


def _rotate(flat: NDArray[F]) -> NDArray[F]:
    """Orthonormal Walsh-Hadamard along axis 0 of (2048, L), as H32 x H64 (Kronecker); its own inverse."""
    columns = flat.size // ROWS
    inner = np.matmul(_hadamard(_INNER).astype(flat.dtype), flat.reshape(_OUTER, _INNER, columns))
    outer: NDArray[F] = np.matmul(_hadamard(_OUTER).astype(flat.dtype), inner.reshape(_OUTER, -1))
    flattened: NDArray[F] = outer.reshape(-1)
    return flattened


@cache
def _hadamard(size: int) -> NDArray[np.float64]:
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    normalised: NDArray[np.float64] = matrix / np.sqrt(size)
    return normalised
