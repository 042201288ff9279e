"""Reconstructing a secret though some answers are wrong, and naming who gave them (docs/protocol.md 4).

True answers are, column by column, values of polynomials of degree below r at the members' points: words of
a Reed-Solomon code. Of m answers up to floor((m - r) / 2) wrong ones are named and left out. If t are left
out, the rest agree, and the secret is right whenever at most m - t - r members lie, for then r honest ones
are among the rest. So up to ceil((m - r) / 2) liars never give a wrong secret; more of them, if they
conspire, can complete honest answers to another codeword, and then honest members are named. With exactly r
answers nothing is checked.

The columns are folded to one word with random coefficients, which keeps every wrong answer wrong except with
probability 1 / q, and that word is decoded by Gao's algorithm (2003). What counts is the check afterwards:
the members that are kept agree in every column.
Legend: m answers, r threshold, l packing, G groups; polynomials are lists of residues, lowest power first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import RoundAborted
from mimo_fed.secagg import modular
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.modular import MODULUS, Residues
from mimo_fed.secagg.ring import RING, uniform
from mimo_fed.secagg.shamir import base_points, lagrange

Polynomial = list[int]
_FOLDS: Final = 3
"""how often columns are folded before the answers are given up"""


def reconstruct(
    answers: Mapping[int, NDArray[np.uint32]], threshold: int, packing: int, fold_key: bytes
) -> tuple[Residues, tuple[int, ...]]:
    """Recover a secret from at least r shares, or sums of shares, and name the members whose are wrong.

    Args:
        answers: member index from 0 to its (G,) residues.
        threshold: r.
        packing: l.
        fold_key: 32 bytes, a hash of all answers: no member knows the coefficients when it answers.

    Returns:
        (2048,) residues, and the indices of the members left out, ascending.

    Raises:
        RoundAborted: fewer than r answers, or they contradict each other and are too few to tell whose are
            wrong.
    """
    if len(answers) < threshold:
        raise RoundAborted(f"too few answers to interpolate, {threshold} are needed: {len(answers)}")
    liars = _find_liars(answers, threshold, fold_key)
    members = [i for i in sorted(answers) if i not in liars][:threshold]
    known = np.stack([answers[i] for i in members]).astype(np.uint64)
    secret = modular.multiply(lagrange(_points(members), base_points(packing)), known)
    return secret.reshape(-1)[:RING], liars


def _find_liars(
    answers: Mapping[int, NDArray[np.uint32]], threshold: int, fold_key: bytes
) -> tuple[int, ...]:
    """Find the members without whom all answers agree; none is the usual case."""
    members = sorted(answers)
    table = np.stack([answers[i] for i in members]).astype(np.uint64)
    points, everybody = _points(members), range(len(members))
    if _agree(table, points, everybody, threshold):
        return ()
    for attempt in range(_FOLDS):
        coefficients = uniform(Keystream(fold_key, attempt), table.shape[1])
        word = (table * coefficients % np.uint64(MODULUS)).sum(axis=1) % np.uint64(MODULUS)
        wrong = decode(points, [int(value) for value in word], threshold)
        if wrong and _agree(table, points, [i for i in everybody if i not in wrong], threshold):
            return tuple(members[i] for i in wrong)
    raise RoundAborted(
        f"answers contradict each other, and too few were given to tell whose are wrong: {len(members)}"
    )


def _agree(table: Residues, points: tuple[int, ...], kept: Sequence[int], threshold: int) -> bool:
    """Tell whether these rows are values of polynomials of degree below r, in every column."""
    first, rest = list(kept[:threshold]), list(kept[threshold:])
    if not rest:
        return True
    matrix = lagrange(tuple(points[i] for i in first), tuple(points[i] for i in rest))
    return np.array_equal(modular.multiply(matrix, table[first]), table[rest])


def _points(members: Sequence[int]) -> tuple[int, ...]:
    return tuple(i + 1 for i in members)


def decode(points: Sequence[int], word: Sequence[int], threshold: int) -> list[int] | None:
    """Find where a word differs from the nearest values of a polynomial of degree below r (Gao 2003).

    Args:
        points: m of them, distinct modulo q.
        word: m residues.
        threshold: r.

    Returns:
        At most floor((m - r) / 2) positions; None if no polynomial is as near as that.
    """
    whole, weights = _interpolation(points)
    upper, lower = whole, _interpolate(whole, points, [w * b for w, b in zip(weights, word, strict=True)])
    # lower = locator * word modulo whole, all along; stop when its degree allows for the errors and no more
    before, locator = [], [1]
    while 2 * (len(lower) - 1) >= len(points) + threshold:
        quotient, remainder = _divide(upper, lower)
        upper, lower = lower, remainder
        before, locator = locator, _subtract(before, _multiply(quotient, locator))
    message, remainder = _divide(lower, locator)
    if remainder or len(message) > threshold:
        return None
    return [i for i, (x, b) in enumerate(zip(points, word, strict=True)) if _evaluate(message, x) != b]


def _interpolation(points: Sequence[int]) -> tuple[Polynomial, list[int]]:
    """Prepare to interpolate: the polynomial that vanishes at all points, and the weight of each."""
    whole = [1]
    for x in points:
        whole = _multiply(whole, [-x % MODULUS, 1])
    slope = [power * c % MODULUS for power, c in enumerate(whole)][1:]
    return whole, [pow(_evaluate(slope, x), -1, MODULUS) for x in points]


def _interpolate(whole: Polynomial, points: Sequence[int], scaled: Sequence[int]) -> Polynomial:
    """Add up the shares of all points in the interpolating polynomial: scaled_i whole / (x - x_i)."""
    total = [0] * (len(whole) - 1)
    for x, scale in zip(points, scaled, strict=True):
        carried = 0
        for at in range(len(total) - 1, -1, -1):
            carried = (whole[at + 1] + x * carried) % MODULUS
            total[at] = (total[at] + scale * carried) % MODULUS
    return _trim(total)


def _evaluate(polynomial: Polynomial, x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * x + coefficient) % MODULUS
    return value


def _multiply(left: Polynomial, right: Polynomial) -> Polynomial:
    product = [0] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            product[i + j] = (product[i + j] + a * b) % MODULUS
    return product


def _subtract(left: Polynomial, right: Polynomial) -> Polynomial:
    """Subtract a polynomial of another degree."""
    size = max(len(left), len(right))
    padded = [left + [0] * (size - len(left)), right + [0] * (size - len(right))]
    return [(a - b) % MODULUS for a, b in zip(*padded, strict=True)]


def _divide(dividend: Polynomial, divisor: Polynomial) -> tuple[Polynomial, Polynomial]:
    """Return quotient and remainder; neither argument has leading zeros, and the divisor is not zero."""
    remainder, quotient = list(dividend), [0] * max(0, len(dividend) - len(divisor) + 1)
    inverse = pow(divisor[-1], -1, MODULUS)
    for at in range(len(quotient) - 1, -1, -1):
        factor = quotient[at] = remainder[at + len(divisor) - 1] * inverse % MODULUS
        for j, coefficient in enumerate(divisor):
            remainder[at + j] = (remainder[at + j] - factor * coefficient) % MODULUS
    return quotient, _trim(remainder)


def _trim(polynomial: Polynomial) -> Polynomial:
    """Drop leading zeros; the zero polynomial is empty."""
    while polynomial and not polynomial[-1]:
        polynomial = polynomial[:-1]
    return polynomial
