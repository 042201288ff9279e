"""The compiled loops of the numba back end; each works on one block, 2048 rows of 32 lanes.

The inverse transform is the usual one with merged twiddles (Longa and Naehrig 2016): eleven levels of
butterflies (u, v) to (u + v, (u - v) w), two or three levels in one sweep over the block. A product by a
constant w is w x - floor(w' x / 2^32) q with w' = floor(w 2^32 / q) (Shoup), below 2q for any x below 2^32.

What keeps the innermost loops vectors: a twiddle serves a whole row, and its lanes are contiguous; 32-bit
values are cast back after each operation, since numba widens them; bounds are constant and indices signed;
rows of one array lie a constant distance apart. A difference that may be negative is left to wrap, and the
smaller of two candidates is taken.

Nothing is compiled here: these are Python functions that numba can compile, and that run without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from mimo_fed.secagg.modular import MODULUS
from mimo_fed.secagg.ring import ETA, LANES, RING
from mimo_fed.secagg.words import FACTOR

Row = NDArray[np.uint32]
Scalar = Any
"""np.uint32 in compiled code"""

_Q: Final = np.uint32(MODULUS)
_MASK31: Final = np.uint32(0x7FFFFFFF)
_MASK24: Final = np.uint32(0xFFFFFF)
_SCAN: Final = 64


def reversed_bits(count: int) -> NDArray[np.int64]:
    """For each integer below a power of two, the one whose bits are in the other order."""
    order = np.zeros(1, np.int64)
    while len(order) < count:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


_SOURCE: Final = (reversed_bits(64)[:, None] * 32 + reversed_bits(32)[None, :]).reshape(-1)
"""row p of the transform is this row of the public polynomials: the value at psi^(2 j + 1), j = p reversed"""


@register_jitable
def _times(x: Scalar, w: Scalar, w_shoup: Scalar) -> Scalar:
    high = np.uint32((np.uint64(x) * np.uint64(w_shoup)) >> np.uint64(32))
    product = np.uint32(np.uint32(x * w) - np.uint32(high * _Q))
    return min(product, np.uint32(product - _Q))


@register_jitable
def _plus(u: Scalar, v: Scalar) -> Scalar:
    total = np.uint32(u + v)
    return min(total, np.uint32(total - _Q))


@register_jitable
def _butterfly(u: Scalar, v: Scalar, w: Scalar, w_shoup: Scalar) -> tuple[Scalar, Scalar]:
    return _plus(u, v), _times(np.uint32(np.uint32(u - v) + _Q), w, w_shoup)


def refused(words: Row, positions: NDArray[np.int64]) -> int:
    """Find the words that are no residues: fill `positions` and return how many."""
    found = 0
    for chunk in range(len(words) // _SCAN):
        start = chunk * _SCAN
        largest = np.uint32(0)
        for i in range(_SCAN):
            largest = max(largest, words[start + i] & _MASK31)
        if largest >= _Q:
            for i in range(_SCAN):
                if words[start + i] & _MASK31 >= _Q:
                    positions[found] = start + i
                    found += 1
    return found


def first_sweep(words: Row, s: Row, s_shoup: Row, w: Row, w_shoup: Row, x: Row) -> None:
    """Multiply the public polynomials by the secret, and join 1 to 4 rows: `words` to `x`."""
    for group in range(RING // 4):
        p = 4 * group
        k0, k1, k2, k3 = _SOURCE[p], _SOURCE[p + 1], _SOURCE[p + 2], _SOURCE[p + 3]
        a0, a1 = words[k0 * LANES : (k0 + 1) * LANES], words[k1 * LANES : (k1 + 1) * LANES]
        a2, a3 = words[k2 * LANES : (k2 + 1) * LANES], words[k3 * LANES : (k3 + 1) * LANES]
        s0, s1, s2, s3 = s[p], s[p + 1], s[p + 2], s[p + 3]
        t0, t1, t2, t3 = s_shoup[p], s_shoup[p + 1], s_shoup[p + 2], s_shoup[p + 3]
        two, four = RING // 2 + 2 * group, RING // 4 + group
        wa, wb, wc = w[two], w[two + 1], w[four]
        ta, tb, tc = w_shoup[two], w_shoup[two + 1], w_shoup[four]
        at = p * LANES
        for i in range(LANES):
            u0, u1 = _times(a0[i] & _MASK31, s0, t0), _times(a1[i] & _MASK31, s1, t1)
            u2, u3 = _times(a2[i] & _MASK31, s2, t2), _times(a3[i] & _MASK31, s3, t3)
            v0, v1 = _butterfly(u0, u1, wa, ta)
            v2, v3 = _butterfly(u2, u3, wb, tb)
            x[at + i], x[at + 2 * LANES + i] = _butterfly(v0, v2, wc, tc)
            x[at + LANES + i], x[at + 3 * LANES + i] = _butterfly(v1, v3, wc, tc)


def sweeper(distance: int) -> Callable[[Row, Row, Row], None]:
    """Make the sweep that joins runs of `distance` rows to runs of 8 times that."""
    step, groups = distance * LANES, RING // (8 * distance)

    def sweep(w: Row, w_shoup: Row, x: Row) -> None:
        for group in range(groups):
            one, two, four = 4 * (groups + group), 2 * (groups + group), groups + group
            wa, wb, wc, wd = w[one], w[one + 1], w[one + 2], w[one + 3]
            ta, tb, tc, td = w_shoup[one], w_shoup[one + 1], w_shoup[one + 2], w_shoup[one + 3]
            we, wf, wg = w[two], w[two + 1], w[four]
            te, tf, tg = w_shoup[two], w_shoup[two + 1], w_shoup[four]
            at = group * 8 * step
            for i in range(at, at + step):
                u0, u1 = _butterfly(x[i], x[i + step], wa, ta)
                u2, u3 = _butterfly(x[i + 2 * step], x[i + 3 * step], wb, tb)
                u4, u5 = _butterfly(x[i + 4 * step], x[i + 5 * step], wc, tc)
                u6, u7 = _butterfly(x[i + 6 * step], x[i + 7 * step], wd, td)
                v0, v2 = _butterfly(u0, u2, we, te)
                v1, v3 = _butterfly(u1, u3, we, te)
                v4, v6 = _butterfly(u4, u6, wf, tf)
                v5, v7 = _butterfly(u5, u7, wf, tf)
                x[i], x[i + 4 * step] = _butterfly(v0, v4, wg, tg)
                x[i + step], x[i + 5 * step] = _butterfly(v1, v5, wg, tg)
                x[i + 2 * step], x[i + 6 * step] = _butterfly(v2, v6, wg, tg)
                x[i + 3 * step], x[i + 7 * step] = _butterfly(v3, v7, wg, tg)

    return sweep


def add(x: Row, values: Row) -> None:
    """Add residues to residues, in place."""
    for i in range(len(values)):
        x[i] = _plus(x[i], values[i])


def add_binomial(x: Row, values: Row, coins: NDArray[np.uint64]) -> None:
    """Add residues, and for each the ones in one word of coins less those in the next."""
    for i in range(len(values)):
        # ones(low) - ones(high) = ones(low, high inverted) - 32
        bits = coins[i] ^ np.uint64(0xFFFFFFFF00000000)
        bits = bits - ((bits >> np.uint64(1)) & np.uint64(0x5555555555555555))
        bits = (bits & np.uint64(0x3333333333333333)) + (
            (bits >> np.uint64(2)) & np.uint64(0x3333333333333333)
        )
        bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        ones = np.uint32((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))
        total = np.uint32(_plus(x[i], values[i]) + ones)
        total = np.uint32(min(total, np.uint32(total - _Q)) - np.uint32(ETA))
        x[i] = min(total, np.uint32(total + _Q))


def rounder(word_bits: int) -> Callable[[Row, NDArray[Any]], None]:
    """Make the loop that rounds residues to words: uint16 for 16 bits, else three bytes each."""
    shift, half = np.uint64(62 - word_bits), np.uint64(1 << (61 - word_bits))

    def round_to_16(x: Row, out: NDArray[np.uint16]) -> None:
        for i in range(len(x)):
            out[i] = (np.uint64(x[i]) * np.uint64(FACTOR) + half) >> shift

    def round_to_24(x: Row, out: NDArray[np.uint8]) -> None:
        for i in range(len(x)):
            word = np.uint32((np.uint64(x[i]) * np.uint64(FACTOR) + half) >> shift)
            out[3 * i] = word
            out[3 * i + 1] = word >> np.uint32(8)
            out[3 * i + 2] = word >> np.uint32(16)

    return round_to_16 if word_bits == 16 else round_to_24


def add_packed(total: Row, packed: Row) -> None:
    """Add words of 24 bits to a sum: each four of them lie in three words of 32 bits."""
    for i in range(len(packed) // 3):
        a, b, c = packed[3 * i], packed[3 * i + 1], packed[3 * i + 2]
        second = ((a >> np.uint32(24)) | (b << np.uint32(8))) & _MASK24
        third = ((b >> np.uint32(16)) | (c << np.uint32(16))) & _MASK24
        total[4 * i] = np.uint32(total[4 * i] + (a & _MASK24))
        total[4 * i + 1] = np.uint32(total[4 * i + 1] + second)
        total[4 * i + 2] = np.uint32(total[4 * i + 2] + third)
        total[4 * i + 3] = np.uint32(total[4 * i + 3] + (c >> np.uint32(8)))


def lifter(word_bits: int) -> Callable[[NDArray[Any], Row, NDArray[np.float64]], None]:
    """Make the loop that lifts the mask of a sum: the operations of `words.unmask`, in their order."""
    keep = np.uint32((1 << word_bits) - 1)
    scale, inverse, modulus = MODULUS / (1 << word_bits), 1.0 / MODULUS, float(MODULUS)

    def lifting(words: NDArray[Any], x: Row, out: NDArray[np.float64]) -> None:
        for i in range(len(out)):
            total = np.float64(words[i] & keep) * scale - np.float64(x[i])
            out[i] = total - np.rint(total * inverse) * modulus

    return lifting
