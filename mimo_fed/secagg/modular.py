"""Exact arithmetic modulo q = 2147352577 in the floating-point unit (docs/protocol.md 3.1).

A product of two residues has 62 bits, more than a double holds. So one factor is centred (below 2^30 in
size) and the other cut in two limbs of 16 bits: A x = A lo + (2^16 A mod q) hi. Each of at most 64 terms
is then below 2^46, and a sum of limbs below 2^53: every partial sum is an integer a double holds, in
whatever order the matrix product adds them. The result is exact and the same on every machine.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.privacy.quantize import MODULUS as MODULUS

MAX_TERMS: Final = 64
_LIMB: Final = 65536.0
_INVERSE: Final = 1.0 / MODULUS

Floats = NDArray[np.float64]
Residues = NDArray[np.uint64]


def centred(values: Residues) -> Floats:
    """Represent residues by doubles in (-q/2, q/2)."""
    signed: Floats = values.astype(np.float64)
    signed -= (signed > MODULUS // 2) * float(MODULUS)
    return signed


def operator(matrix: Residues) -> Floats:
    """Prepare (..., m, k) residues as the left side of `multiply`: (..., m, 2k) centred doubles."""
    if matrix.shape[-1] > MAX_TERMS:
        raise ValueError(f"a sum of more than {MAX_TERMS} products could be inexact: {matrix.shape[-1]}")
    return np.concatenate([centred(matrix), centred((matrix << np.uint64(16)) % MODULUS)], axis=-1)


def split(values: Floats, out: Floats) -> None:
    """Cut (..., k, n) doubles, at most q in size, into limbs: the first k rows low, the next k high."""
    terms = values.shape[-2]
    low, high = out[..., :terms, :], out[..., terms:, :]
    np.multiply(values, 1 / _LIMB, out=high)
    np.floor(high, out=high)
    np.multiply(high, -_LIMB, out=low)
    np.add(low, values, out=low)


def reduce(values: Floats, scratch: Floats) -> None:
    """Bring integers below 2^53 into [-q/2, q/2] (half a unit of rounding apart), in place."""
    np.multiply(values, _INVERSE, out=scratch)
    np.rint(scratch, out=scratch)
    np.multiply(scratch, float(MODULUS), out=scratch)
    np.subtract(values, scratch, out=values)


def to_residues(values: Floats) -> Residues:
    """Turn centred doubles into residues in [0, q)."""
    return (values + (values < 0) * float(MODULUS)).astype(np.uint64)


def multiply(prepared: Floats, values: Residues) -> Residues:
    """Multiply an `operator` (m, 2k) by residues (k, n): residues (m, n), exact."""
    limbs = np.concatenate([values & np.uint64(0xFFFF), values >> np.uint64(16)]).astype(np.float64)
    product = prepared @ limbs
    reduce(product, np.empty_like(product))
    return to_residues(product)


def power(base: int, exponents: NDArray[np.int64], order: int) -> Residues:
    """Raise an element of that order to many integer powers."""
    return _powers(base, order)[np.mod(exponents, order)]


@cache
def _powers(base: int, order: int) -> Residues:
    table = np.empty(order, np.uint64)
    value = 1
    for i in range(order):
        table[i] = value
        value = value * base % MODULUS
    return table
