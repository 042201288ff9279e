"""Sharing ring elements."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mimo_fed.secagg import MODULUS, RING, committee_rule
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.shamir import NUM_MASKS, Sharing, base_points, num_groups, share
from tests.unit.secagg.plain import COMMITTEES, Numbers, interpolate, random_secrets, rank

SMALL = [c for c in COMMITTEES if c.size <= 8]


def deal(c: Numbers, count: int = 1, key: bytes = b"s" * 32) -> Sharing:
    return share(random_secrets(count), *c, Keystream(key))


@pytest.mark.parametrize("c", COMMITTEES)
def test_a_share_is_the_value_at_the_members_point(c: Numbers) -> None:
    sharing = deal(c)
    held = sharing.shares()
    columns = num_groups(c.packing) + NUM_MASKS
    assert held.shape == (c.size, columns)
    for column in (0, 1, columns - NUM_MASKS, columns - 1):
        known = [int(value) for value in sharing.values[:, column]]
        for member in (0, c.size // 2, c.size - 1):
            expected = interpolate(base_points(c.threshold), known, member + 1)
            assert held[member, column] == expected


@pytest.mark.parametrize("c", SMALL)
def test_any_threshold_of_members_know_the_secret(c: Numbers) -> None:
    [secret] = random_secrets(1)
    held, groups = deal(c).shares(), num_groups(c.packing)
    for members in combinations(range(c.size), c.threshold):
        points = [i + 1 for i in members]
        for at in (0, groups - 1, groups, RING - 1):  # coefficient at stands in group at mod G
            row, column = divmod(at, groups)
            values = [int(held[i, column]) for i in members]
            if row < c.packing:
                assert interpolate(points, values, -1 - row) == secret[at]


@pytest.mark.parametrize("c", COMMITTEES)
def test_secrets_stand_side_by_side_at_the_base_points(c: Numbers) -> None:
    sharing, groups = deal(c, 3), num_groups(c.packing)
    assert sharing.values.shape == (c.threshold, 3 * groups + NUM_MASKS)
    for i, secret in enumerate(random_secrets(3)):
        block = sharing.values[: c.packing, i * groups : (i + 1) * groups].reshape(-1)
        assert np.array_equal(block[:RING], secret)
        assert not block[RING:].any()


@pytest.mark.parametrize("c", COMMITTEES)
def test_all_that_is_not_secret_is_drawn(c: Numbers) -> None:
    """Two streams share no random value and no share, and a stream gives the same sharing again."""
    first, again, other = deal(c, 2), deal(c, 2), deal(c, 2, b"t" * 32)
    assert np.array_equal(first.values, again.values)
    hidden = first.values[c.packing :] == other.values[c.packing :]
    masks = first.values[:, -NUM_MASKS:] == other.values[:, -NUM_MASKS:]
    assert not hidden.any()
    assert not masks.any()


def test_shares_add() -> None:
    c = Numbers(8, 6, 3)
    first, second = deal(c), deal(c, key=b"t" * 32)
    total = Sharing(values=(first.values + second.values) % np.uint64(MODULUS), size=c.size)
    added = (first.shares().astype(np.uint64) + second.shares()) % MODULUS
    assert np.array_equal(total.shares(), added)


def linear_map(c: Numbers, members: tuple[int, ...]) -> np.ndarray:
    """What one group's values at the base points (columns) do to the shares of some members (rows)."""
    units = Sharing(values=np.eye(c.threshold, dtype=np.uint64), size=c.size)
    return units.shares()[list(members)].astype(np.uint64)


def some_sets(c: Numbers, count: int) -> list[tuple[int, ...]]:
    if c.size <= 8:
        return list(combinations(range(c.size), count))
    rng = np.random.default_rng(1)
    return [tuple(sorted(rng.choice(c.size, count, replace=False).tolist())) for _ in range(5)]


@pytest.mark.parametrize("c", COMMITTEES)
def test_shares_of_r_less_l_members_are_uniform_whatever_the_secret(c: Numbers) -> None:
    """The random values alone reach every tuple of shares, exactly once: no secret makes one more likely."""
    for members in some_sets(c, c.threshold - c.packing):
        random_part = linear_map(c, members)[:, c.packing :]
        assert rank(random_part) == c.threshold - c.packing


@pytest.mark.parametrize("c", COMMITTEES)
def test_one_member_more_learns_one_combination_of_each_group(c: Numbers) -> None:
    for members in some_sets(c, c.threshold - c.packing + 1):
        everything = linear_map(c, members)
        assert rank(everything) == rank(everything[:, c.packing :]) + 1


def test_the_corrupt_hold_uniform_values() -> None:
    """f shares of a constant secret, over many sharings, fill the residues evenly."""
    c = committee_rule("all", 6)
    zero = np.zeros(RING, np.uint64)
    numbers = (c.size, c.threshold, c.packing)
    held = [share([zero], *numbers, Keystream(bytes([k]) * 32)).shares() for k in range(20)]
    seen = np.concatenate([h[: c.corrupt].reshape(-1) for h in held]).astype(np.float64)
    counts, _ = np.histogram(seen, 64, (0, MODULUS))
    expected = len(seen) / 64
    assert ((counts - expected) ** 2 / expected).sum() < 130


def test_a_sharing_does_not_show_its_values() -> None:
    assert repr(deal(Numbers(3, 3, 1))) == "Sharing(...)"
