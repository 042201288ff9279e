"""Sharing a ring element."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mimo_fed.errors import RoundAborted
from mimo_fed.secagg import MODULUS, RING, committee_rule
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.shamir import num_groups, reconstruct, share

SECRET = np.random.default_rng(0).integers(0, MODULUS, RING).astype(np.uint64)


def shares(n: int, key: bytes = b"s" * 32) -> tuple[np.ndarray, int, int]:
    c = committee_rule("all", n)
    return share(SECRET, c.size, c.threshold, c.packing, Keystream(key)), c.threshold, c.packing


@pytest.mark.parametrize("n", [3, 6, 64])
def test_the_first_and_the_last_members_can_open(n: int) -> None:
    held, r, packing = shares(n)
    assert held.shape == (n, num_groups(packing))
    for members in (range(r), range(n - r, n), range(n)):
        assert np.array_equal(reconstruct({i: held[i] for i in members}, r, packing), SECRET)


def test_any_threshold_of_members_can_open() -> None:
    held, r, packing = shares(6)
    for members in combinations(range(6), r):
        assert np.array_equal(reconstruct({i: held[i] for i in members}, r, packing), SECRET)


def test_too_few_cannot() -> None:
    held, r, packing = shares(6)
    with pytest.raises(RoundAborted, match="too few answers"):
        reconstruct({i: held[i] for i in range(r - 1)}, r, packing)


def test_shares_add() -> None:
    first, r, packing = shares(8)
    second, _, _ = shares(8, b"t" * 32)
    total = ((first.astype(np.uint64) + second) % MODULUS).astype(np.uint32)
    got = reconstruct({i: total[i] for i in range(1, 1 + r)}, r, packing)
    assert np.array_equal(got, SECRET * 2 % MODULUS)


def test_a_lone_liar_is_pointed_at() -> None:
    held, r, packing = shares(8)
    held[2, 5] = (held[2, 5] + 1) % MODULUS
    with pytest.raises(RoundAborted, match="without member 2 they agree"):
        reconstruct(dict(enumerate(held)), r, packing)


def test_a_single_surplus_answer_shows_that_somebody_lied() -> None:
    held, r, packing = shares(6)
    held[0, 0] = (held[0, 0] + 1) % MODULUS
    with pytest.raises(RoundAborted, match="a member lied"):
        reconstruct({i: held[i] for i in range(r + 1)}, r, packing)


def test_the_corrupt_hold_uniform_values() -> None:
    """f shares of a constant secret, over many sharings, fill the residues evenly."""
    c = committee_rule("all", 6)
    zero = np.zeros(RING, np.uint64)
    held = [share(zero, c.size, c.threshold, c.packing, Keystream(bytes([k]) * 32)) for k in range(20)]
    seen = np.concatenate([h[: c.corrupt].reshape(-1) for h in held]).astype(np.float64)
    counts, _ = np.histogram(seen, 64, (0, MODULUS))
    expected = len(seen) / 64
    assert ((counts - expected) ** 2 / expected).sum() < 130
