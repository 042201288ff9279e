"""Masks from ring-LWE: a long pseudo-random vector from a short secret, such that masks add as secrets do.

The ring is Z_q[X]/(X^2048 + 1) (docs/protocol.md 3). The mask of polynomial j is a_j s, where a_j is public,
drawn from the round's own keystream straight as values at the 2048 odd powers of a root psi of order 4096,
and s is the secret. One more small error e_j per coefficient makes the result look uniform. Since
a_j s_1 + a_j s_2 = a_j (s_1 + s_2), whoever learns the sum of the secrets can lift the mask of the sum, and
of nothing else.

The inverse transform has 2048 = 32 x 64 points and is two batches of small matrix products; the values of s
and all twiddle factors are folded into their constant sides, so that a mask costs two products and two
reductions a coefficient. Legend: L lanes, polynomials that travel together; a block is 2048 x L values,
lane last; a sum is a run of blocks, 32 lanes each except the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.secagg import modular
from mimo_fed.secagg.crypto import Keystream, derive
from mimo_fed.secagg.modular import MODULUS, Floats, Residues

RING: Final = 2048
"""coefficients of a polynomial"""
LANES: Final = 32
ETA: Final = 32
"""the error is a centred binomial of 2 x 32 coins: variance 16"""
_ROWS, _COLUMNS = 32, 64
_MASK31: Final = np.uint32(0x7FFFFFFF)


def uniform(stream: Keystream, count: int) -> NDArray[np.uint32]:
    """Draw residues below q: little-endian words, the top bit cleared, words of q and above replaced.

    A refused word is replaced by the next good one after the first `count` words (docs/protocol.md 3.2).
    """
    words = np.frombuffer(stream.take(4 * count), "<u4") & _MASK31
    bad = np.flatnonzero(words >= MODULUS)
    at = 0
    while at < len(bad):
        spare = np.frombuffer(stream.take(16), "<u4") & _MASK31
        good = spare[spare < MODULUS][: len(bad) - at]
        words[bad[at : at + len(good)]] = good
        at += len(good)
    return words


def binomial(stream: Keystream, count: int) -> NDArray[np.int16]:
    """Draw centred binomial errors: ones in one 32-bit word minus ones in the next."""
    ones = np.bitwise_count(np.frombuffer(stream.take(8 * count), np.uint32)).reshape(count, 2)
    return ones[:, 0].astype(np.int16) - ones[:, 1].astype(np.int16)


def public_key(mh: bytes, name: str) -> bytes:
    """Derive the keystream key of a sum's public polynomials from the manifest's hash."""
    return derive(mh, "public polynomials", name.encode())


class Expander:
    """Expands one secret into masks.

    Args:
        public: the key from `public_key`.
        secret: (2048,) residues; erased from this object with it.
    """

    def __init__(self, public: bytes, secret: Residues) -> None:
        self._public = public
        values = _evaluate(secret).reshape(_ROWS, _COLUMNS)
        first = _first_stage()[None, :, :] * values.T[:, None, :] % MODULUS
        self._first = modular.operator(first)
        self._second = _second_stage()
        self._arrays: dict[str, Floats] = {}

    def __repr__(self) -> str:
        return "Expander(...)"

    def blocks(self, length: int) -> Iterator[tuple[slice, Floats]]:
        """Yield (where, centred mask (n,)) for each block of a vector of `length`.

        The array is overwritten by the next block.
        """
        start = 0
        for index in range(-(-length // (RING * LANES))):
            lanes = min(LANES, -(-(length - start) // RING))
            count = min(RING * lanes, length - start)
            yield slice(start, start + count), self._block(index, lanes)[:count]
            start += count

    def _block(self, index: int, lanes: int) -> Floats:
        """Compute block `index`: (2048 * lanes,) doubles in [-q/2, q/2]."""
        words = uniform(Keystream(self._public, index), RING * lanes)
        limbs = self._scratch("limbs", (_COLUMNS, 2 * _ROWS, lanes))
        half = words.reshape(_COLUMNS, _ROWS, lanes)
        limbs[:, :_ROWS] = half & np.uint32(0xFFFF)
        limbs[:, _ROWS:] = half >> np.uint32(16)
        middle = np.matmul(self._first, limbs, out=self._scratch("middle", (_COLUMNS, _ROWS, lanes)))
        modular.reduce(middle, self._scratch("spare", middle.shape))
        turned = self._scratch("turned", (_ROWS, 2 * _COLUMNS, lanes))
        modular.split(middle.transpose(1, 0, 2), turned)
        # row k1, column k2 of the product is coefficient k1 + 32 k2
        last = np.matmul(self._second, turned, out=self._scratch("last", (_ROWS, _COLUMNS, lanes)))
        modular.reduce(last, self._scratch("spare", last.shape))
        ordered = self._scratch("ordered", (_COLUMNS, _ROWS, lanes))
        ordered[:] = last.transpose(1, 0, 2)
        return ordered.reshape(-1)

    def _scratch(self, name: str, shape: tuple[int, ...]) -> Floats:
        """Return an array to be overwritten, the same one for every block."""
        size = int(np.prod(shape))
        kept = self._arrays.get(name)
        if kept is None or kept.size < size:
            kept = self._arrays[name] = np.empty(size)
        return kept[:size].reshape(shape)


@cache
def _root() -> int:
    """Return psi: an element of order 4096."""
    for base in range(2, 100):
        psi = pow(base, (MODULUS - 1) // (2 * RING), MODULUS)
        if pow(psi, RING, MODULUS) == MODULUS - 1:
            return psi
    raise AssertionError("q - 1 is a multiple of 4096")


@cache
def _first_stage() -> Residues:
    """omega^(-64 n1 k1), rows k1, columns n1."""
    k1, n1 = np.arange(_ROWS)[:, None], np.arange(_ROWS)[None, :]
    return modular.power(_root(), -2 * _COLUMNS * k1 * n1, 2 * RING)


@cache
def _second_stage() -> Floats:
    """For each k1, rows k2, columns n2: the rest of the inverse transform, psi^(-k) and 1/2048 included."""
    k1, k2, n2 = np.ogrid[:_ROWS, :_COLUMNS, :_COLUMNS]
    k = k1 + _ROWS * k2
    matrix = modular.power(_root(), -2 * n2 * k - k, 2 * RING)
    return modular.operator(matrix * np.uint64(pow(RING, -1, MODULUS)) % MODULUS)


@cache
def _forward() -> tuple[Residues, Floats, Residues, Floats]:
    """Constants of the forward transform: psi^k, the 64-point stage, the twiddles, the 32-point stage."""
    wide, narrow = np.arange(_COLUMNS), np.arange(_ROWS)
    order = 2 * RING
    inner = modular.power(_root(), 2 * _ROWS * wide[:, None] * wide[None, :], order)
    twiddle = modular.power(_root(), 2 * wide[:, None] * narrow[None, :], order)
    outer = modular.power(_root(), 2 * _COLUMNS * narrow[:, None] * narrow[None, :], order)
    scale = modular.power(_root(), np.arange(RING), order)
    return scale, modular.operator(inner), twiddle, modular.operator(outer)


def _evaluate(coefficients: Residues) -> Residues:
    """Evaluate a polynomial at psi^(2j+1), j = 64 n1 + n2: the forward transform, (2048,) to (2048,)."""
    # with k = k1 + 32 k2: psi^((2j+1) k) = psi^k omega^(32 n2 k2) omega^(n2 k1) omega^(64 n1 k1)
    scale, inner, twiddle, outer = _forward()
    by_k2 = (coefficients * scale % MODULUS).reshape(_COLUMNS, _ROWS)
    turned = modular.multiply(inner, by_k2) * twiddle % MODULUS  # rows n2, columns k1
    return modular.multiply(outer, turned.T.copy()).reshape(RING)
