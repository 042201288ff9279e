"""Cohorts, groups and delays: what holds for any devices, seeds and settings."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mimo_fed.round.cohort import Candidate, Pace, choose_cohort, come_back_s, note_asked, note_contributed
from mimo_fed.secagg import assign_groups

SEEDS = st.integers(0, 2**32 - 1)
NAMES = st.text("abcdefgh-0123456789", min_size=1, max_size=6)


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    names = draw(st.sets(NAMES, max_size=30))
    last = st.none() | st.integers(-5, 99)
    return [Candidate(device_id=n, last_round=draw(last), num_rounds=draw(st.integers(0, 50))) for n in names]


@settings(max_examples=100, deadline=None)
@given(
    eligible=candidates(), want=st.integers(1, 40), over_selection=st.floats(1, 3), seed=SEEDS, data=st.data()
)
def test_a_cohort_is_some_of_those_there_whatever_their_order(
    eligible: list[Candidate], want: int, over_selection: float, seed: int, data: st.DataObject
) -> None:
    def choose(some: list[Candidate]) -> tuple[str, ...]:
        draw = np.random.default_rng(seed).bytes
        return choose_cohort(some, want, sequence=100, draw=draw, over_selection=over_selection)

    cohort = choose(eligible)
    assert set(cohort) <= {c.device_id for c in eligible}
    assert list(cohort) == sorted(set(cohort))
    assert min(want, len(eligible)) <= len(cohort) <= want * over_selection + 1
    assert choose(data.draw(st.permutations(eligible))) == cohort


@settings(max_examples=50, deadline=None)
@given(rounds=st.lists(st.tuples(st.sets(NAMES, max_size=5), st.integers(1, 3)), max_size=12), seed=SEEDS)
def test_records_count_rounds_once_however_often_they_are_noted(
    rounds: list[tuple[set[str], int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    known: dict[str, Candidate] = {}
    asked: Counter[str] = Counter()
    opened: Counter[str] = Counter()
    for sequence, (cohort, repeats) in enumerate(rounds):
        survivors = [d for d in sorted(cohort) if rng.random() < 0.7]
        for _ in range(repeats):
            known |= note_asked(known, cohort, sequence)
            known |= note_contributed(known, survivors, sequence)
        asked.update(cohort)
        opened.update(survivors)
    assert {d: c.num_rounds for d, c in known.items()} == dict(asked)
    assert all(known[d].num_contributed == opened[d] for d in known)


@settings(max_examples=60, deadline=None)
@given(
    cohort=st.sets(NAMES, min_size=5, max_size=60),
    beacon=st.binary(min_size=32, max_size=32),
    data=st.data(),
)
def test_groups_cover_the_cohort_evenly(cohort: set[str], beacon: bytes, data: st.DataObject) -> None:
    num_groups = data.draw(st.integers(5, len(cohort)))
    n_min = len(cohort) // num_groups
    groups = assign_groups(sorted(cohort), beacon, num_groups)
    sizes = Counter(groups.values())
    assert set(groups) == cohort
    assert set(sizes) == set(range(1, num_groups + 1))
    assert n_min <= min(sizes.values()) <= max(sizes.values()) <= n_min + 1


@settings(max_examples=200, deadline=None)
@given(
    population=st.integers(0, 10**9),
    want=st.integers(1, 10**5),
    period_s=st.floats(1e-3, 1e6),
    us=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
    next_round_s=st.floats(0, 1e6),
    min_s=st.floats(0.1, 1000),
    spread=st.floats(2, 1000),
)
def test_a_delay_keeps_to_its_limits_and_grows_with_u(
    population: int,
    want: int,
    period_s: float,
    us: tuple[float, float],
    next_round_s: float,
    min_s: float,
    spread: float,
) -> None:
    pace = Pace(min_s=min_s, max_s=min_s * spread)
    low, high = (
        come_back_s(population, want, period_s, u, next_round_s=next_round_s, pace=pace) for u in sorted(us)
    )
    assert pace.min_s <= low <= high <= pace.max_s
