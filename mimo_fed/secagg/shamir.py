"""Packed Shamir sharing of a ring element over Z_q (docs/protocol.md 4).

The secret's 2048 coefficients are cut into groups of l. Each group is the values of one polynomial of degree
below r at the points -1 ... -l; its values at -(l+1) ... -r are random; member i gets its value at i. Any
r members can interpolate; any r - l learn nothing. Sharing is linear: sums of shares are shares of sums.
Legend: C members, r threshold, l packing, G = ceil(2048 / l) groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import RoundAborted
from mimo_fed.secagg import modular
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.modular import MODULUS, Floats, Residues
from mimo_fed.secagg.ring import RING, uniform

SHARE_DTYPE: Final = "<u4"


def num_groups(packing: int) -> int:
    """G: residues in one share."""
    return -(-RING // packing)


def share(secret: Residues, size: int, threshold: int, packing: int, stream: Keystream) -> NDArray[np.uint32]:
    """Share a ring element among `size` members.

    Args:
        secret: (2048,) residues.
        size: C, at most 64.
        threshold: r.
        packing: l.
        stream: where the random values are drawn from.

    Returns:
        (C, G) residues; row i is for member i.
    """
    groups = num_groups(packing)
    values = np.zeros((threshold, groups), np.uint64)
    values[:packing].reshape(-1)[:RING] = secret
    num_random = (threshold - packing) * groups
    values[packing:] = uniform(stream, num_random).reshape(threshold - packing, groups)
    base = tuple(-1 - i for i in range(threshold))
    members = tuple(range(1, size + 1))
    return modular.multiply(_lagrange(base, members), values).astype(np.uint32)


def reconstruct(answers: Mapping[int, NDArray[np.uint32]], threshold: int, packing: int) -> Residues:
    """Interpolate the secret from at least r shares (or sums of shares), and check the surplus.

    Args:
        answers: member index from 0 to its (G,) residues.
        threshold: r.
        packing: l.

    Returns:
        (2048,) residues.

    Raises:
        RoundAborted: fewer than r answers, or a surplus answer contradicts the others.
    """
    members = sorted(answers)
    if len(members) < threshold:
        raise RoundAborted(f"too few answers to interpolate, {threshold} are needed: {len(members)}")
    base = members[:threshold]
    known = np.stack([answers[i] for i in base]).astype(np.uint64)
    points = tuple(i + 1 for i in base)
    if surplus := members[threshold:]:
        expected = modular.multiply(_lagrange(points, tuple(i + 1 for i in surplus)), known)
        if not np.array_equal(expected, np.stack([answers[i] for i in surplus]).astype(np.uint64)):
            suspects = _suspects(answers, threshold)
            raise RoundAborted(
                "openings contradict each other: a member lied, or a contributor's shares were inconsistent"
                + (f"; without member {suspects[0]} they agree" if len(suspects) == 1 else "")
            )
    secrets = modular.multiply(_lagrange(points, tuple(-1 - i for i in range(packing))), known)
    return secrets.reshape(-1)[:RING]


def _suspects(answers: Mapping[int, NDArray[np.uint32]], threshold: int) -> list[int]:
    """Find the members without whom the answers agree and still have a surplus."""
    if len(answers) < threshold + 2:
        return []
    return [i for i in sorted(answers) if _agree({j: a for j, a in answers.items() if j != i}, threshold)]


def _agree(answers: Mapping[int, NDArray[np.uint32]], threshold: int) -> bool:
    members = sorted(answers)
    known = np.stack([answers[i] for i in members[:threshold]]).astype(np.uint64)
    rest = np.stack([answers[i] for i in members[threshold:]]).astype(np.uint64)
    points = tuple(i + 1 for i in members)
    return np.array_equal(modular.multiply(_lagrange(points[:threshold], points[threshold:]), known), rest)


@lru_cache(maxsize=256)
def _lagrange(at: tuple[int, ...], wanted: tuple[int, ...]) -> Floats:
    """Prepare the matrix that takes values at the points `at` to values at the points `wanted`."""
    rows = []
    for x in wanted:
        row = []
        for i, xi in enumerate(at):
            above = below = 1
            for j, xj in enumerate(at):
                if j != i:
                    above = above * (x - xj) % MODULUS
                    below = below * (xi - xj) % MODULUS
            row.append(above * pow(below, -1, MODULUS) % MODULUS)
        rows.append(row)
    return modular.operator(np.array(rows, np.uint64).reshape(len(wanted), len(at)))
