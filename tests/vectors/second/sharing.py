"""Packed shares, their proof, and decoding with wrong answers (docs/protocol.md 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from math import prod

from tests.vectors.second.primitives import ABORTED, Failure, Q, Stream, derive, require
from tests.vectors.second.ring import N, uniform

MASKS = 4
Rows = list[list[int]]


def groups_of(packing: int) -> int:
    return -(-N // packing)


@cache
def weights(points: tuple[int, ...], x: int) -> tuple[int, ...]:
    """What to multiply values at the points with, so that they add to the value at x."""
    out = []
    for i, xi in enumerate(points):
        others = points[:i] + points[i + 1 :]
        out.append(prod(x - o for o in others) * pow(prod(xi - o for o in others), -1, Q) % Q)
    return tuple(out)


def combine(rows: Rows, factors: Sequence[int]) -> list[int]:
    """Add rows, each times its factor."""
    return [
        sum(f * v for f, v in zip(factors, column, strict=True)) % Q for column in zip(*rows, strict=True)
    ]


def base_points(r: int) -> tuple[int, ...]:
    return tuple(-1 - b for b in range(r))


def polynomials(secrets: Sequence[Sequence[int]], r: int, packing: int, seed: bytes) -> Rows:
    """Row b holds the values of all polynomials at -(b + 1), the masks last (4.1)."""
    groups = groups_of(packing)
    columns = len(secrets) * groups
    rows: Rows = []
    for b in range(packing):
        row = []
        for secret in secrets:
            part = list(secret[b * groups : (b + 1) * groups])
            row += part + [0] * (groups - len(part))
        rows.append(row)
    drawn = uniform(Stream(derive(seed, "shares")), (r - packing) * columns + r * MASKS)
    for b in range(r - packing):
        rows.append(drawn[b * columns : (b + 1) * columns])
    masks = drawn[(r - packing) * columns :]
    return [row + masks[b * MASKS : (b + 1) * MASKS] for b, row in enumerate(rows)]


def share(rows: Rows, member: int) -> list[int]:
    """What member i, from 1, gets."""
    return combine(rows, weights(base_points(len(rows)), member))


def coefficients(challenge: bytes, columns: int) -> Rows:
    drawn = uniform(Stream(challenge), MASKS * columns)
    return [drawn[k * columns : (k + 1) * columns] for k in range(MASKS)]


def prove(rows: Rows, challenge: bytes) -> Rows:
    """For each k, t_k at -1 ... -r (4.3)."""
    columns = len(rows[0]) - MASKS
    return [
        [(row[columns + k] + sum(c * v for c, v in zip(cs, row, strict=False))) % Q for row in rows]
        for k, cs in enumerate(coefficients(challenge, columns))
    ]


def check_proof(row: Sequence[int], member: int, proof: Rows, challenge: bytes, r: int) -> None:
    """Refuse a row that the proof does not fit; member from 1."""
    require(max(row) < Q and all(max(values) < Q for values in proof), "value of q or above")
    columns = len(row) - MASKS
    for k, cs in enumerate(coefficients(challenge, columns)):
        given = row[columns + k] + sum(c * v for c, v in zip(cs, row, strict=False))
        proven = sum(w * t for w, t in zip(weights(base_points(r), member), proof[k], strict=True))
        require((given - proven) % Q == 0, "row and proof do not fit")


def reconstruct(
    answers: Mapping[int, Sequence[int]], r: int, packing: int, fold: bytes
) -> tuple[list[int], list[int]]:
    """From answers by member, counted from 0: (the secret, members whose answers are wrong) (4.4)."""
    if len(answers) < r:
        raise Failure(ABORTED, "too few answers")
    wrong = _wrong(answers, r, fold)
    kept = [i for i in sorted(answers) if i not in wrong][:r]
    points, rows = tuple(i + 1 for i in kept), [list(answers[i]) for i in kept]
    secret: list[int] = []
    for b in range(packing):
        secret += combine(rows, weights(points, -1 - b))
    return secret[:N], wrong


def _wrong(answers: Mapping[int, Sequence[int]], r: int, fold: bytes) -> list[int]:
    members = sorted(answers)
    if _agree(answers, members, r):
        return []
    for attempt in range(3):
        factors = uniform(Stream(fold, attempt), len(answers[members[0]]))
        word = [sum(f * v for f, v in zip(factors, answers[i], strict=True)) % Q for i in members]
        found = [members[at] for at in _decode([i + 1 for i in members], word, r)]
        if found and _agree(answers, [i for i in members if i not in found], r):
            return found
    raise Failure(ABORTED, "answers contradict each other")


def _agree(answers: Mapping[int, Sequence[int]], members: Sequence[int], r: int) -> bool:
    points, rows = tuple(i + 1 for i in members[:r]), [list(answers[i]) for i in members[:r]]
    return all(combine(rows, weights(points, i + 1)) == list(answers[i]) for i in members[r:])


def _decode(points: Sequence[int], word: Sequence[int], r: int) -> list[int]:
    """Positions that differ from the nearest codeword, at most (m - r) / 2; none if there is no such word.

    Berlekamp and Welch: find E monic of degree e and P E of degree below r + e with P E (x) = word E (x).
    """
    e = (len(points) - r) // 2
    equations = []
    for x, y in zip(points, word, strict=True):
        powers = [pow(x, k, Q) for k in range(r + e)]
        equations.append([*powers, *(-y * p % Q for p in powers[:e]), y * pow(x, e, Q) % Q])
    solution = _solve(equations, r + 2 * e)
    if solution is None:
        return []
    product, locator = solution[: r + e], [*solution[r + e :], 1]
    message = _quotient(product, locator)
    if message is None:
        return []
    return [at for at, (x, y) in enumerate(zip(points, word, strict=True)) if _value(message, x) != y]


def _solve(equations: Rows, unknowns: int) -> list[int] | None:
    """Solve linear equations; free unknowns are zero."""
    rows, pivots = [list(row) for row in equations], list[int]()
    for column in range(unknowns):
        at = next((i for i in range(len(pivots), len(rows)) if rows[i][column]), None)
        if at is None:
            continue
        top = len(pivots)
        rows[top], rows[at] = rows[at], rows[top]
        inverse = pow(rows[top][column], -1, Q)
        rows[top] = [v * inverse % Q for v in rows[top]]
        for i, row in enumerate(rows):
            if i != top and (factor := row[column]):
                rows[i] = [(v - factor * p) % Q for v, p in zip(row, rows[top], strict=True)]
        pivots.append(column)
    if any(row[unknowns] for row in rows[len(pivots) :]):
        return None
    solution = [0] * unknowns
    for row, column in zip(rows, pivots, strict=False):
        solution[column] = row[unknowns]
    return solution


def _quotient(product: list[int], divisor: list[int]) -> list[int] | None:
    """Divide by a monic polynomial; nothing if a remainder is left."""
    rest, out = list(product), [0] * (len(product) - len(divisor) + 1)
    for at in reversed(range(len(out))):
        out[at] = rest[at + len(divisor) - 1]
        for j, d in enumerate(divisor):
            rest[at + j] = (rest[at + j] - out[at] * d) % Q
    return None if any(rest) else out


def _value(polynomial: Sequence[int], x: int) -> int:
    return sum(c * pow(x, k, Q) for k, c in enumerate(polynomial)) % Q
