"""Packed Shamir sharing of ring elements over Z_q (docs/protocol.md 4).

A secret's 2048 coefficients are cut into groups of l. Each group is the values of one polynomial of degree
below r at the points -1 ... -l; its values at -(l+1) ... -r are random; member i gets its value at i. Any
r members can interpolate; any r - l learn nothing. Sharing is linear: sums of shares are shares of sums.

A device shares all its secrets at once, and with them four polynomials that are random altogether: the masks
behind which `consistency` shows that every member's values lie on polynomials of degree below r.
Legend: C members, r threshold, l packing, S secrets, G = ceil(2048 / l) groups of a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.secagg import modular
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.modular import MODULUS, Floats, Residues
from mimo_fed.secagg.ring import RING, uniform

SHARE_DTYPE: Final = "<u4"
NUM_MASKS: Final = 4
"""masking polynomials of a sharing, one for each repetition of the check"""


def num_groups(packing: int) -> int:
    """G: residues of one secret in one share."""
    return -(-RING // packing)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sharing:
    """A device's secrets as polynomials, each given by its values at the base points; it has no repr of them.

    Attributes:
        values: (r, S * G + 4) residues; row b is at the point -(b + 1), the last four columns are masks.
        size: C.
    """

    values: Residues
    size: int

    def shares(self) -> NDArray[np.uint32]:
        """Evaluate at the members' points: (C, S * G + 4) residues, row i for member i, counted from 0."""
        matrix = lagrange(base_points(len(self.values)), tuple(range(1, self.size + 1)))
        return modular.multiply(matrix, self.values).astype(np.uint32)

    def __repr__(self) -> str:
        return "Sharing(...)"


def share(secrets: Sequence[Residues], size: int, threshold: int, packing: int, stream: Keystream) -> Sharing:
    """Share ring elements among `size` members.

    The stream gives the values at -(l+1) ... -r of all groups, row by row, then those of the masks.

    Args:
        secrets: S arrays, (2048,) residues each.
        size: C, at most 64.
        threshold: r.
        packing: l.
        stream: where the random values are drawn from.
    """
    groups = num_groups(packing)
    columns, hidden = len(secrets) * groups, threshold - packing
    values = np.zeros((threshold, columns + NUM_MASKS), np.uint64)
    for at, secret in enumerate(secrets):
        padded = np.zeros(packing * groups, np.uint64)
        padded[:RING] = secret
        values[:packing, at * groups : (at + 1) * groups] = padded.reshape(packing, groups)
    drawn = uniform(stream, hidden * columns + threshold * NUM_MASKS)
    values[packing:, :columns] = drawn[: hidden * columns].reshape(hidden, columns)
    values[:, columns:] = drawn[hidden * columns :].reshape(threshold, NUM_MASKS)
    return Sharing(values=values, size=size)


def base_points(count: int) -> tuple[int, ...]:
    """Return the points -1 ... -count, where secrets and random values stand."""
    return tuple(range(-1, -1 - count, -1))


@lru_cache(maxsize=256)
def lagrange(at: tuple[int, ...], wanted: tuple[int, ...]) -> Floats:
    """Prepare the matrix that takes values at the points `at` to values at other points, `wanted`."""
    weights = [_inverse(prod(x - other for other in at if other != x)) for x in at]
    rows = []
    for x in wanted:
        whole = prod(x - other for other in at) % MODULUS
        rows.append(
            [whole * _inverse(x - xi) * weight % MODULUS for xi, weight in zip(at, weights, strict=True)]
        )
    return modular.operator(np.array(rows, np.uint64).reshape(len(wanted), len(at)))


def _inverse(value: int) -> int:
    return pow(value, -1, MODULUS)
