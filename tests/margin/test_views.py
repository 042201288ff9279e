"""Steps (ii) and (iii) of the security argument in full, where the field is small enough to enumerate.

A view is what f corrupt members and the opening show. For two choices of the honest keys with one sum, the
views must be the same distribution: then nothing but the sum can be learnt from the shares, by anybody.
Legend: q a small prime, l secrets of a device at -1 ... -l, r - l random values at -(l+1) ... -r.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations, product

import pytest

from mimo_fed.secagg import MODULUS
from tests.margin import committee
from tests.margin.committee import HELPERS, Committee

Values = tuple[int, ...]


def interpolate(values: Values, x: int, q: int) -> int:
    """Return the value at x of the polynomial with these values at -1, -2 and so on."""
    total = 0
    for i, value in enumerate(values, 1):
        above = below = 1
        for j in range(1, len(values) + 1):
            if j != i:
                above, below = above * (x + j) % q, below * (j - i) % q
        total += value * above * pow(below, -1, q)
    return total % q


def sharings(secret: Values, r: int, q: int) -> Iterator[Values]:
    """Yield every polynomial that shares these secrets, by its values at -1 ... -r."""
    for hidden in product(range(q), repeat=r - len(secret)):
        yield (*secret, *hidden)


def view_of_a_round(secrets: tuple[Values, Values], c: Committee, q: int) -> Counter[Values]:
    """Count what f members hold of two honest devices, and the whole sum, over all their random values."""
    corrupt = range(1, c.corrupt + 1)
    seen: Counter[Values] = Counter()
    for first, second in product(*(sharings(secret, c.threshold, q) for secret in secrets)):
        held = tuple(interpolate(p, i, q) for p in (first, second) for i in corrupt)
        seen[(*held, *((a + b) % q for a, b in zip(first, second, strict=True)))] += 1
    return seen


def view_of_a_proof(secret: Values, c: Committee, q: int, challenge: int) -> Counter[Values]:
    """Count what f members hold of one device and its mask, and the published combination."""
    corrupt = range(1, c.corrupt + 1)
    seen: Counter[Values] = Counter()
    for p, mask in product(sharings(secret, c.threshold, q), sharings((), c.threshold, q)):
        held = tuple(interpolate(poly, i, q) for poly in (p, mask) for i in corrupt)
        seen[(*held, *((m + challenge * a) % q for a, m in zip(p, mask, strict=True)))] += 1
    return seen


HELPER, ALL_FOUR = HELPERS[0], committee.all_members(4)


@pytest.mark.parametrize(
    ("c", "q", "one", "other"),
    [
        (HELPER, 7, ((0,), (3,)), ((4,), (6,))),
        (HELPERS[1], 11, ((1,), (2,)), ((10,), (4,))),
        (ALL_FOUR, 11, ((0, 7), (1, 1)), ((5, 5), (7, 3))),
    ],
    ids=["3 helpers", "5 helpers", "4 of mode all"],
)
def test_what_members_hold_and_an_opening_shows_depends_on_the_sum_alone(
    c: Committee, q: int, one: tuple[Values, Values], other: tuple[Values, Values]
) -> None:
    assert view_of_a_round(one, c, q) == view_of_a_round(other, c, q)


def test_another_sum_is_another_view() -> None:
    assert view_of_a_round(((0,), (3,)), HELPER, 7) != view_of_a_round(((0,), (4,)), HELPER, 7)


def test_one_corrupt_member_more_than_allowed_sees_a_difference() -> None:
    """Packing two secrets, two shares of three tell something about them: the ramp."""
    more = Committee(size=4, quorum=3, threshold=3, corrupt=2, packing=2)
    assert view_of_a_round(((0, 7), (1, 1)), more, 11) != view_of_a_round(((5, 5), (7, 3)), more, 11)


@pytest.mark.parametrize("challenge", [0, 1, 3])
def test_a_proof_of_sharing_says_nothing_about_the_secrets(challenge: int) -> None:
    assert view_of_a_proof((0, 7), ALL_FOUR, 11, challenge) == view_of_a_proof(
        (9, 2), ALL_FOUR, 11, challenge
    )


@pytest.mark.parametrize(
    "c", [*HELPERS, *(committee.all_members(n) for n in range(3, 9))], ids=lambda c: c.size
)
def test_every_set_of_f_members_holds_uniform_shares(c: Committee) -> None:
    """Modulo the real q: the random values reach every f-tuple of shares, so the shares hide the secrets."""
    for members in combinations(range(1, c.size + 1), c.corrupt):
        columns = []
        for at in range(c.packing, c.threshold):
            unit = tuple(int(i == at) for i in range(c.threshold))
            columns.append([interpolate(unit, x, MODULUS) for x in members])
        assert rank(columns) == c.corrupt


def rank(rows: list[list[int]]) -> int:
    """Rank of a matrix modulo q."""
    rows, found = [list(row) for row in rows], 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((i for i in range(found, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        inverse = pow(rows[found][column], -1, MODULUS)
        for i in range(found + 1, len(rows)):
            factor = rows[i][column] * inverse % MODULUS
            rows[i] = [(a - factor * b) % MODULUS for a, b in zip(rows[i], rows[found], strict=True)]
        found += 1
    return found
