"""What the tests of sharing compare with: slow arithmetic in plain integers; and their committees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimo_fed.secagg.modular import MODULUS, Residues
from mimo_fed.secagg.ring import RING


class Numbers(NamedTuple):
    """C members, r threshold, l packing."""

    size: int
    threshold: int
    packing: int


COMMITTEES = [
    Numbers(3, 3, 1),
    Numbers(8, 6, 3),
    Numbers(24, 17, 8),
    Numbers(64, 48, 17),
    Numbers(64, 45, 20),
    Numbers(3, 2, 1),
    Numbers(5, 3, 1),
    Numbers(7, 4, 1),
]


def random_secrets(count: int, seed: int = 0) -> list[Residues]:
    values = np.random.default_rng(seed).integers(0, MODULUS, (count, RING))
    return list(values.astype(np.uint64))


def interpolate(points: Sequence[int], values: Sequence[int], x: int) -> int:
    """Evaluate at x the polynomial of least degree through these values."""
    total = 0
    for i, (xi, value) in enumerate(zip(points, values, strict=True)):
        above, below = int(value), 1
        for j, xj in enumerate(points):
            if j != i:
                above, below = above * (x - xj) % MODULUS, below * (xi - xj) % MODULUS
        total += above * pow(below, -1, MODULUS)
    return total % MODULUS


def on_one_polynomial(points: Sequence[int], values: Sequence[int], threshold: int) -> bool:
    """Tell whether values at points lie on a polynomial of degree below the threshold."""
    first, known = points[:threshold], values[:threshold]
    rest = zip(points[threshold:], values[threshold:], strict=True)
    return all(interpolate(first, known, x) == value for x, value in rest)


def rank(matrix: NDArray[np.uint64]) -> int:
    """Gaussian elimination modulo q."""
    rows = [[int(value) for value in row] for row in matrix]
    found = 0
    for column in range(matrix.shape[1]):
        pivot = next((i for i in range(found, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        inverse = pow(rows[found][column], -1, MODULUS)
        for i in range(found + 1, len(rows)):
            if factor := rows[i][column] * inverse % MODULUS:
                rows[i] = [(a - factor * b) % MODULUS for a, b in zip(rows[i], rows[found], strict=True)]
        found += 1
    return found
