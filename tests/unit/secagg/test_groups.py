"""The random groups of a round: even, the same at both ends, and unrelated from one beacon to the next."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from mimo_fed import aggregate, secagg
from mimo_fed.secagg import VERSION, assign_groups, beacon

BEACON = bytes(range(32, 64))
TEN = [f"device-{i:02d}" for i in range(10)]
MANY = [f"device-{i:03d}" for i in range(500)]


def beacon_of(number: int) -> bytes:
    return beacon(f"{number:064x}")


def chi_square(one: dict[str, int], other: dict[str, int], num_groups: int) -> float:
    """How far the table of (group in one, group in the other) is from that of independent groups."""
    table = np.zeros((num_groups, num_groups))
    for device_id, group in one.items():
        table[group - 1, other[device_id] - 1] += 1
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    return float(((table - expected) ** 2 / expected).sum())


def test_the_groups_of_the_test_vector_are_these() -> None:
    assert VERSION == "mimo-fed/2", "the tag is in the hash: another version has another vector"
    assert assign_groups(TEN, BEACON, 5) == dict(zip(TEN, [2, 2, 4, 5, 3, 4, 5, 1, 1, 3], strict=True))


def test_a_second_implementation_from_the_written_rule_agrees() -> None:
    """SHA-256 of tag, beacon and id; one more than the rank modulo the groups."""

    def key(device_id: str) -> bytes:
        return hashlib.sha256(f"{VERSION}/group\0".encode() + BEACON + device_id.encode()).digest()

    ranked = sorted(MANY, key=key)
    assert assign_groups(MANY, BEACON, 7) == {d: 1 + ranked.index(d) % 7 for d in MANY}


def test_the_protocol_and_the_robust_mean_ask_for_equally_many_groups() -> None:
    assert secagg.MIN_GROUPS == aggregate.MIN_GROUPS


@pytest.mark.parametrize(("size", "num_groups"), [(10, 5), (14, 5), (99, 6), (500, 13)])
def test_sizes_differ_by_at_most_one(size: int, num_groups: int) -> None:
    sizes = Counter(assign_groups(MANY[:size], BEACON, num_groups).values())
    assert sorted(sizes) == list(range(1, num_groups + 1))
    assert max(sizes.values()) - min(sizes.values()) <= 1


def test_the_order_in_which_the_cohort_is_named_is_of_no_effect() -> None:
    assert assign_groups(MANY, BEACON, 7) == assign_groups(MANY[::-1], BEACON, 7)


def test_another_base_gives_unrelated_groups() -> None:
    g, pairs = 10, 40
    measured = []
    for number in range(pairs):
        one = assign_groups(MANY, beacon_of(number), g)
        measured.append(chi_square(one, assign_groups(MANY, beacon_of(number + 1), g), g))
    expected = (g - 1) ** 2 * len(MANY) / (len(MANY) - 1)
    assert abs(np.mean(measured) - expected) < 4 * np.sqrt(2 * (g - 1) ** 2 / pairs)
    assert chi_square(one, one, g) == pytest.approx(len(MANY) * (g - 1))  # what related groups would give


def test_over_many_bases_a_device_is_in_every_group_equally_often() -> None:
    groups = Counter(assign_groups(TEN, beacon_of(i), 5)["device-07"] for i in range(2000))
    assert sum((groups[g] - 400) ** 2 / 400 for g in range(1, 6)) < 18.5  # chi-square of 4 degrees, 0.1 %
