"""Robust means under attack: what a minority of groups, of any size, can and cannot do to them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimo_fed.aggregate import num_trimmed, robust_mean, staleness_scale
from mimo_fed.aggregate.robust import TOLERANCE, Rule

F64 = NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)
RULES = st.sampled_from(["mean", "trimmed", "median"])
SIZES = st.sampled_from([1e-9, 1e-3, 1.0, 1e6, 1e12, 1e100])


@st.composite
def attacks(draw: st.DrawFn, most: str) -> tuple[F64, F64]:
    """Honest groups and corrupt ones, as many of those as the rule bears: shapes (H, D) and (K, D)."""
    num_groups = draw(st.integers(5, 13))
    bears = num_trimmed(num_groups) if most == "trimmed" else (num_groups - 1) // 2
    num_corrupt, dim = draw(st.integers(1, bears)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(SEEDS))
    honest = rng.normal(size=(num_groups - num_corrupt, dim)) * draw(st.floats(1e-3, 1e3))
    honest += rng.normal(size=dim) * draw(st.sampled_from([0.0, 1.0, 100.0]))
    if draw(st.booleans()):
        honest = np.round(honest)
    corrupt = rng.normal(size=(num_corrupt, dim)) * draw(SIZES)
    if draw(st.booleans()):
        corrupt = np.broadcast_to(corrupt[0], corrupt.shape).copy()
    return honest, corrupt


def mixed(honest: F64, corrupt: F64, seed: int) -> list[F64]:
    groups = np.concatenate([honest, corrupt])
    return list(groups[np.random.default_rng(seed).permutation(len(groups))])


@settings(max_examples=150, deadline=None)
@given(attack=attacks("trimmed"), seed=SEEDS)
def test_a_trimmed_mean_stays_between_the_honest_groups_in_every_coordinate(
    attack: tuple[F64, F64], seed: int
) -> None:
    groups = mixed(*attack, seed)
    result = robust_mean(groups, [1.0] * len(groups), "trimmed")
    assert (result >= attack[0].min(axis=0)).all()
    assert (result <= attack[0].max(axis=0)).all()


@settings(max_examples=150, deadline=None)
@given(attack=attacks("median"), seed=SEEDS)
def test_a_geometric_median_stays_within_the_known_multiple_of_the_honest_spread(
    attack: tuple[F64, F64], seed: int
) -> None:
    honest, corrupt = attack
    groups = mixed(honest, corrupt, seed)
    share = len(corrupt) / len(groups)
    centre = honest.mean(axis=0)
    spread = max(np.linalg.norm(h - centre) for h in honest)
    result = robust_mean(groups, [1.0] * len(groups), "median")
    bound = 2 * (1 - share) / (1 - 2 * share - TOLERANCE) * spread * 1.01
    assert np.linalg.norm(result - centre) <= bound + 1e-12 * np.linalg.norm(centre)


@settings(max_examples=100, deadline=None)
@given(attack=attacks("trimmed"), seed=SEEDS, size=st.sampled_from([1e6, 1e12]))
def test_the_plain_mean_goes_wherever_one_corrupt_group_pulls_it(
    attack: tuple[F64, F64], seed: int, size: float
) -> None:
    """The strawman: the same groups break both bounds under "mean", and neither under its own rule."""
    honest = attack[0]
    centre, scale = honest.mean(axis=0), np.abs(honest).max() + 1.0
    corrupt = np.full((1, honest.shape[1]), size * scale)
    groups = mixed(honest, corrupt, seed)
    weights, share = [1.0] * len(groups), 1 / len(groups)
    spread = max(np.linalg.norm(h - centre) for h in honest)
    bound = 2 * (1 - share) / (1 - 2 * share - TOLERANCE) * spread * 1.01
    moved = {r: robust_mean(groups, weights, r) for r in ("mean", "trimmed", "median")}
    assert (moved["mean"] > honest.max(axis=0)).all()
    assert np.linalg.norm(moved["mean"] - centre) > bound
    assert (moved["trimmed"] <= honest.max(axis=0)).all()
    assert np.linalg.norm(moved["median"] - centre) <= bound + 1e-12 * np.linalg.norm(centre)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, num_groups=st.integers(7, 13), rule=st.sampled_from(["trimmed", "median"]))
def test_more_corrupt_groups_than_a_rule_bears_break_it(seed: int, num_groups: int, rule: Rule) -> None:
    """The bounds above say something: beyond the stated number of groups they do not hold."""
    too_many = 1 + (num_trimmed(num_groups) if rule == "trimmed" else num_groups // 2)
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(num_groups - too_many, 3))
    corrupt = np.full((too_many, 3), 1e9)
    result = robust_mean(mixed(honest, corrupt, seed), [1.0] * num_groups, rule)
    assert np.linalg.norm(result) > 1e6


@settings(max_examples=100, deadline=None)
@given(attack=attacks("median"), rule=RULES, seed=SEEDS)
def test_the_order_of_the_groups_is_of_no_effect(attack: tuple[F64, F64], rule: Rule, seed: int) -> None:
    groups = list(np.concatenate(attack))
    weights = np.random.default_rng(seed).uniform(1, 16, len(groups))
    order = np.random.default_rng(seed).permutation(len(groups))
    one = robust_mean(groups, list(weights), rule)
    other = robust_mean([groups[i] for i in order], list(weights[order]), rule)
    size = np.abs(groups).max() if rule == "mean" else np.abs(one).max() + np.abs(attack[0]).max()
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9 * size)


@settings(max_examples=100, deadline=None)
@given(
    rule=RULES,
    seed=SEEDS,
    size=SIZES,
    weights=st.lists(st.floats(0.1, 1000), min_size=5, max_size=12),
    dim=st.integers(1, 40),
)
def test_groups_that_agree_are_their_own_mean(
    rule: Rule, seed: int, size: float, weights: list[float], dim: int
) -> None:
    agreed = np.random.default_rng(seed).normal(size=dim) * size
    result = robust_mean([agreed.copy() for _ in weights], weights, rule)
    np.testing.assert_allclose(result, agreed, rtol=1e-12)


@settings(max_examples=100, deadline=None)
@given(earlier=st.integers(0, 10**9), later=st.integers(0, 10**9), exponent=st.floats(0, 8))
def test_a_later_mean_never_counts_for_more(earlier: int, later: int, exponent: float) -> None:
    earlier, later = sorted((earlier, later))
    assert 0 < staleness_scale(later, exponent) <= staleness_scale(earlier, exponent) <= 1
    if exponent > 0.01 and later > 2 * earlier + 1:
        assert staleness_scale(later, exponent) < staleness_scale(earlier, exponent)
