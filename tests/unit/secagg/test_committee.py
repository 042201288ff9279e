"""The committee's numbers and the lottery."""

from __future__ import annotations

from itertools import combinations

import pytest

from mimo_fed.errors import LocalProtocolError, PeerProtocolError
from mimo_fed.secagg import (
    HELPER_SIZES,
    SAMPLED_SIZE,
    Committee,
    beacon,
    committee_rule,
    lottery_bound,
    lottery_number,
)

EVERY = [
    *(committee_rule("all", n) for n in range(3, 65)),
    committee_rule("sampled", SAMPLED_SIZE),
    *(committee_rule("helper", n) for n in HELPER_SIZES),
]


@pytest.mark.parametrize("c", EVERY, ids=lambda c: f"{c.size}-{c.threshold}")
def test_the_rule_keeps_its_promises(c: Committee) -> None:
    assert c.corrupt >= 1
    assert c.packing == c.threshold - c.corrupt >= 1
    # two quorums share more members than may be corrupt: no second ballot
    assert 2 * c.quorum - c.size > c.corrupt
    assert c.losses == c.size - max(c.quorum, c.threshold) >= 0


@pytest.mark.parametrize("n", range(3, 65))
def test_in_mode_all_seven_tenths_vote_and_open(n: int) -> None:
    c = committee_rule("all", n)
    assert (c.size, c.threshold, c.quorum) == (n, -(-7 * n // 10), -(-7 * n // 10))


@pytest.mark.parametrize("n", HELPER_SIZES)
def test_two_quorums_of_helpers_share_an_honest_one(n: int) -> None:
    """With one vote less they may meet in corrupt ones alone."""
    c = committee_rule("helper", n)

    def least_shared(quorum: int) -> int:
        quorums = [set(q) for q in combinations(range(n), quorum)]
        return min(len(one & other) for one in quorums for other in quorums)

    assert least_shared(c.quorum) > c.corrupt
    assert least_shared(c.quorum - 1) <= c.corrupt


@pytest.mark.parametrize(
    ("mode", "size", "numbers"),
    [
        ("all", 3, (3, 3, 2, 1, 0)),
        ("all", 4, (3, 3, 1, 2, 1)),
        ("all", 6, (5, 5, 3, 2, 1)),
        ("all", 8, (6, 6, 3, 3, 2)),
        ("all", 16, (12, 12, 7, 5, 4)),
        ("all", 24, (17, 17, 9, 8, 7)),
        ("all", 64, (45, 45, 25, 20, 19)),
        ("sampled", 64, (48, 48, 31, 17, 16)),
        ("helper", 3, (2, 3, 1, 1, 0)),
        ("helper", 5, (3, 4, 2, 1, 1)),
        ("helper", 7, (4, 6, 3, 1, 1)),
    ],
)
def test_the_numbers_are_those_of_the_written_table(mode: str, size: int, numbers: tuple[int, ...]) -> None:
    """Columns as in docs/protocol.md 6.4: r, Q, corrupt, packing, losses."""
    c = committee_rule(mode, size)
    assert (c.threshold, c.quorum, c.corrupt, c.packing, c.losses) == numbers


@pytest.mark.parametrize(
    ("mode", "n"), [("all", 2), ("all", 65), ("sampled", 63), ("sampled", 65), ("helper", 4), ("helper", 9)]
)
def test_other_sizes_are_refused(mode: str, n: int) -> None:
    with pytest.raises(PeerProtocolError, match=f"mode {mode} cannot have this many members: {n}"):
        committee_rule(mode, n)


def test_another_mode_is_refused() -> None:
    with pytest.raises(PeerProtocolError, match="mode is not known: 'random'"):
        committee_rule("random", 8)


def test_a_lottery_needs_a_population() -> None:
    with pytest.raises(LocalProtocolError, match="how many devices are enrolled: 0"):
        lottery_bound(0)


def test_the_threshold_of_a_small_population_lets_everybody_win() -> None:
    assert lottery_bound(4 * SAMPLED_SIZE) == lottery_bound(1) == (1 << 64) - 1
    assert lottery_bound(8 * SAMPLED_SIZE) == 1 << 63


def test_about_four_times_as_many_devices_win_as_a_committee_has() -> None:
    population, draws = 10_000, 5
    bound = lottery_bound(population)
    wins = sum(
        lottery_number(beacon(f"{draw:064x}"), f"device-{i}") < bound
        for draw in range(draws)
        for i in range(population)
    )
    expected = draws * 4 * SAMPLED_SIZE
    assert abs(wins - expected) < 4 * expected**0.5


def test_the_draw_depends_on_base_and_device_alone() -> None:
    assert lottery_number(beacon("00" * 32), "a") == lottery_number(beacon("00" * 32), "a")
    assert lottery_number(beacon("00" * 32), "a") != lottery_number(beacon("11" * 32), "a")
    assert lottery_number(beacon("00" * 32), "a") != lottery_number(beacon("00" * 32), "b")
