"""Who is asked and when the others come back: fairness and arrivals, by simulation on fixed seeds."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from mimo_fed.errors import ConfigError, LocalProtocolError
from mimo_fed.round.cohort import (
    OVER_SELECTION,
    TOGETHER,
    Candidate,
    Pace,
    choose_cohort,
    come_back_s,
    note_asked,
    note_contributed,
)

Choose = Callable[[list[Candidate], int, int], Iterable[str]]


def fair(rng: np.random.Generator) -> Choose:
    def choose(eligible: list[Candidate], want: int, sequence: int) -> Iterable[str]:
        return choose_cohort(eligible, want, sequence=sequence, draw=rng.bytes, over_selection=1)

    return choose


def even_draw(rng: np.random.Generator) -> Choose:
    """The strawman: everybody who is there has the same chance."""

    def choose(eligible: list[Candidate], want: int, _: int) -> Iterable[str]:
        return [eligible[i].device_id for i in rng.permutation(len(eligible))[:want]]

    return choose


def first_come(_: np.random.Generator) -> Choose:
    """The other strawman: whoever answers first; here, in the order of the ids."""

    def choose(eligible: list[Candidate], want: int, _: int) -> Iterable[str]:
        return [c.device_id for c in sorted(eligible, key=lambda c: c.device_id)[:want]]

    return choose


def simulate(
    make: Callable[[np.random.Generator], Choose], availability: list[float], rounds: int, want: int = 20
) -> tuple[dict[str, Candidate], int]:
    """Run rounds on devices that come and go for some rounds at a time; return records and longest wait."""
    rng = np.random.default_rng(11)
    choose, chance = make(rng), np.array(availability)
    names = [f"device-{i:03d}" for i in range(len(chance))]
    known = {n: Candidate(device_id=n) for n in names}
    there = rng.random(len(chance)) < chance
    longest = 0
    for sequence in range(1, rounds + 1):
        moved = rng.random(len(chance)) < 0.3
        there = np.where(moved, rng.random(len(chance)) < chance, there)
        eligible = [known[n] for n, here in zip(names, there, strict=True) if here]
        cohort = list(choose(eligible, want, sequence))
        longest = max([longest, *(sequence - (known[n].last_round or 0) for n in cohort)])
        known |= note_asked(known, cohort, sequence)
    return known, max(longest, *(rounds - (c.last_round or 0) for c in known.values()))


def counts(known: dict[str, Candidate]) -> np.ndarray:
    return np.array([known[n].num_rounds for n in sorted(known)])


def test_every_device_is_within_a_third_of_its_fair_share() -> None:
    """200 devices, each there half of the time, 600 rounds of 20: 60 rounds each."""
    asked, longest = simulate(fair, [0.5] * 200, 600)
    assert np.abs(counts(asked) - 60).max() <= 20
    assert counts(asked).std() < 4
    assert longest <= 120


@pytest.mark.parametrize("strawman", [even_draw, first_come])
def test_an_even_draw_and_first_come_first_served_miss_that_bound(
    strawman: Callable[[np.random.Generator], Choose],
) -> None:
    asked, _ = simulate(strawman, [0.5] * 200, 600)
    assert np.abs(counts(asked) - 60).max() > 20
    assert counts(asked).std() > 8


def test_who_is_there_nine_times_as_often_is_not_asked_nine_times_as_often_and_nobody_starves() -> None:
    availability = [0.1] * 66 + [0.5] * 67 + [0.9] * 67
    rare, half, most = np.split(counts(simulate(fair, availability, 600)[0]), [66, 133])
    assert rare.min() >= 5
    assert most.mean() < 1.4 * half.mean()
    assert most.max() - most.min() <= 8
    rare_even, half_even, most_even = np.split(counts(simulate(even_draw, availability, 600)[0]), [66, 133])
    assert most_even.mean() > 1.6 * half_even.mean()
    assert rare.mean() > 1.3 * rare_even.mean()


def chance_of(name: str, eligible: list[Candidate], want: int, sequence: int) -> float:
    rng = np.random.default_rng(5)
    choose = fair(rng)
    return sum(name in choose(eligible, want, sequence) for _ in range(1500)) / 1500


def test_who_lies_low_for_long_cannot_be_sure_of_the_round_it_comes_back_in() -> None:
    others = list(simulate(fair, [0.8] * 200, 100, want=10)[0].values())
    sleeper = Candidate(device_id="sleeper", last_round=1, num_rounds=1)
    fresh = Candidate(device_id="fresh")
    even = 10 / 202
    for sequence in (101, 100_000):
        assert even < chance_of("sleeper", [*others, sleeper, fresh], 10, sequence) < 6 * even
    assert even < chance_of("fresh", [*others, sleeper, fresh], 10, 101) < 6 * even


def test_whoever_knows_all_records_still_cannot_name_the_cohort() -> None:
    known = simulate(fair, [0.8] * 200, 200)[0]
    longest_waiting = sorted(known.values(), key=lambda c: (c.last_round or 0, c.num_rounds))[:20]
    guess = {c.device_id for c in longest_waiting}
    choose = fair(np.random.default_rng(2))
    hits = [len(guess & set(choose(list(known.values()), 20, 201))) for _ in range(200)]
    assert 20 * 0.1 < np.mean(hits) < 20 * 0.5


def test_a_weight_is_the_wait_halved_for_each_round_ahead() -> None:
    waits = [Candidate(device_id="a", last_round=8), Candidate(device_id="b", last_round=9)]
    assert chance_of("a", waits, 1, 10) == pytest.approx(2 / 3, abs=0.04)
    leads = [
        Candidate(device_id=d, last_round=9, num_rounds=n) for d, n in zip("abc", (5, 5, 6), strict=True)
    ]
    assert chance_of("c", leads, 1, 10) == pytest.approx(1 / 5, abs=0.04)
    far_ahead = [*leads[:2], replace(leads[2], num_rounds=500)]
    assert chance_of("c", far_ahead, 1, 10) == pytest.approx(1 / 9, abs=0.03)


def test_devices_that_were_never_asked_are_drawn_evenly() -> None:
    fresh = [Candidate(device_id=str(i)) for i in range(10)]
    choose = fair(np.random.default_rng(4))
    drawn = Counter(d for _ in range(1000) for d in choose(fresh, 3, 1))
    assert sum((drawn[str(i)] - 300) ** 2 / 300 for i in range(10)) < 27.9  # chi-square of 9 degrees, 0.1 %


def test_answering_earlier_or_more_often_changes_nothing() -> None:
    eligible = [Candidate(device_id=f"{i:02d}", last_round=i % 7, num_rounds=i % 3) for i in range(40)]

    def draw(some: list[Candidate]) -> tuple[str, ...]:
        return choose_cohort(some, 10, sequence=8, draw=np.random.default_rng(1).bytes)

    pushy = [eligible[7]] * 50 + eligible
    answered = [replace(c, last_contributed=c.last_round, num_contributed=c.num_rounds) for c in eligible]
    assert draw(eligible) == draw(eligible[::-1]) == draw(pushy) == draw(answered)


@pytest.mark.parametrize(
    ("want", "there", "asked"), [(10, 40, 13), (1, 40, 2), (20, 40, 26), (30, 35, 35), (5, 0, 0)]
)
def test_a_cohort_is_larger_than_what_is_wanted_and_never_larger_than_what_is_there(
    want: int, there: int, asked: int
) -> None:
    eligible = [Candidate(device_id=f"{i:02d}") for i in range(there)]
    cohort = choose_cohort(eligible, want, sequence=1, draw=np.random.default_rng(1).bytes)
    assert len(set(cohort)) == len(cohort) == asked
    assert list(cohort) == sorted(cohort)


@pytest.mark.parametrize(
    ("want", "over_selection"), [(0, 1.3), (-1, 1.3), (5, 0.9), (5, math.nan), (5, math.inf)]
)
def test_a_cohort_out_of_range_is_refused(want: int, over_selection: float) -> None:
    with pytest.raises(ConfigError):
        choose_cohort([], want, sequence=1, draw=bytes, over_selection=over_selection)


def test_a_record_of_this_round_and_a_short_draw_are_refused() -> None:
    with pytest.raises(LocalProtocolError, match="late"):
        choose_cohort([Candidate(device_id="late", last_round=4)], 1, sequence=4, draw=bytes)
    with pytest.raises(LocalProtocolError, match="7"):
        choose_cohort([Candidate(device_id="a")], 1, sequence=4, draw=lambda _: bytes(7))


def test_draws_of_all_zeros_or_all_ones_still_choose() -> None:
    eligible = [Candidate(device_id=d) for d in "abc"]
    for draw in (bytes, lambda n: b"\xff" * n):
        assert len(choose_cohort(eligible, 1, sequence=1, draw=draw, over_selection=1)) == 1


def test_a_round_noted_twice_counts_once() -> None:
    known: dict[str, Candidate] = {}
    for _ in range(2):
        known |= note_asked(known, ["a", "b"], 3)
        known |= note_contributed(known, ["b"], 3)
    known |= note_asked(known, ["b"], 5)
    known |= note_contributed(known, ["b"], 3)
    assert known == {
        "a": Candidate(device_id="a", last_round=3, num_rounds=1),
        "b": Candidate(device_id="b", last_round=5, num_rounds=2, last_contributed=3, num_contributed=1),
    }


def test_a_survivor_that_was_never_asked_is_refused() -> None:
    known = note_asked({}, ["a"], 3)
    for device_id in ("a", "b"):
        with pytest.raises(LocalProtocolError, match=device_id):
            note_contributed(known, [device_id], 4)


PERIOD_S = 600.0


def arrivals(population: int, want: int, *, periods: int, sample: int, pace: Pace = Pace()) -> np.ndarray:
    """Count who asks in each tenth of each period, after all asked in one moment just before the first.

    A `sample` of the population is simulated and counts for the rest. Returns shape (periods, 10).
    """
    rng = np.random.default_rng(17)
    end_s = periods * PERIOD_S
    seen = np.zeros((periods, 10))
    times = [(0.0, i) for i in range(sample)]
    heapq.heapify(times)
    while times[0][0] < end_s:
        now_s, device = times[0]
        if now_s > 0:
            seen[int(now_s // PERIOD_S), int(now_s % PERIOD_S / PERIOD_S * 10)] += population / sample
        next_s = PERIOD_S - now_s % PERIOD_S
        delay_s = come_back_s(population, want, PERIOD_S, rng.random(), next_round_s=next_s, pace=pace)
        heapq.heapreplace(times, (now_s + delay_s, device))
    return seen


def test_a_hundred_devices_come_back_together_at_the_beginning_of_each_period() -> None:
    seen = arrivals(100, 50, periods=50, sample=100)
    assert (seen[1:, 0] >= 99).all()
    assert (seen[1:].sum(axis=1) <= 101).all()


@pytest.mark.parametrize(
    ("population", "want", "sample"), [(10_000, 100, 10_000), (1_000_000, 30_000, 20_000)]
)
def test_large_populations_come_evenly_and_as_many_as_are_wanted_three_times_over(
    population: int, want: int, sample: int
) -> None:
    expected, mean_s = 3 * want, PERIOD_S * population / (3 * want)
    periods = round(6 * mean_s / PERIOD_S)
    seen = arrivals(population, want, periods=periods, sample=sample)
    each, noise = seen.sum(axis=1), 5 * math.sqrt(expected * population / sample)
    assert each.min() > 0.5 * expected - noise
    assert each.max() < 1.4 * expected + noise
    settled = each[periods // 2 :]
    assert settled.mean() == pytest.approx(expected, rel=0.05)
    assert settled.max() < 1.1 * expected + noise
    tenths = seen[periods // 2 :].mean(axis=0)
    assert tenths.max() < 1.25 * tenths.min()


def test_a_million_devices_with_little_to_do_come_twice_a_day_each_and_never_in_a_herd() -> None:
    population, sample = 1_000_000, 10_000
    expected = 2 * population * PERIOD_S / 86_400
    each = arrivals(population, 100, periods=288, sample=sample).sum(axis=1)
    noise = 5 * math.sqrt(expected * population / sample)
    assert each.min() > max(0.5 * expected - noise, 100 * OVER_SELECTION)
    assert each.max() < 1.4 * expected + noise
    assert each.mean() == pytest.approx(expected, rel=0.1)


def test_delays_stay_within_the_limits() -> None:
    def soonest_and_latest(population: int, period_s: float, next_round_s: float) -> tuple[float, float]:
        low, high = (
            come_back_s(population, 10, period_s, u, next_round_s=next_round_s) for u in (0.0, 1 - 2**-53)
        )
        return low, high

    assert soonest_and_latest(10, 600, 0) == pytest.approx((60, 60))
    assert soonest_and_latest(10, 600, 300) == pytest.approx((300, 300 + TOGETHER * 600))
    assert soonest_and_latest(10, 600_000, 500_000) == (86_400, 86_400)
    assert soonest_and_latest(10**9, 600, 300) == pytest.approx((60, 86_400))
    assert soonest_and_latest(31, 1, 1) == pytest.approx((60, 120))


@pytest.mark.parametrize(
    ("population", "want", "period_s", "u", "next_round_s"),
    [
        (-1, 1, 1.0, 0.0, 0.0),
        (1, 0, 1.0, 0.0, 0.0),
        (1, 1, 0.0, 0.0, 0.0),
        (1, 1, math.inf, 0.0, 0.0),
        (1, 1, 1.0, 1.0, 0.0),
        (1, 1, 1.0, math.nan, 0.0),
        (1, 1, 1.0, 0.0, -1.0),
        (1, 1, 1.0, 0.0, math.nan),
    ],
)
def test_numbers_out_of_range_are_refused(
    population: int, want: int, period_s: float, u: float, next_round_s: float
) -> None:
    with pytest.raises(ConfigError):
        come_back_s(population, want, period_s, u, next_round_s=next_round_s)


@pytest.mark.parametrize("wrong", [{"arrivals": 0.5}, {"min_s": 0.0}, {"min_s": 100.0, "max_s": 150.0}])
def test_a_pace_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Pace(**wrong)
