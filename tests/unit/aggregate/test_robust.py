"""Robust means small enough to check by hand; what they guarantee is in tests/property/test_robust.py."""

import math

import numpy as np
import pytest

from mimo_fed.aggregate import num_trimmed, robust_mean
from mimo_fed.aggregate.robust import _CHUNK, TOLERANCE, Rule
from mimo_fed.errors import ConfigError, RoundAborted, SpecMismatch

RULES: list[Rule] = ["mean", "trimmed", "median"]
LINE = [np.array([float(x)]) for x in (1, 2, 3, 4, 90)]
ONES = [1.0] * 5


def test_each_rule_gives_what_one_computes_by_hand() -> None:
    assert robust_mean(LINE, ONES, "mean") == pytest.approx([20])
    assert robust_mean(LINE, ONES, "trimmed").tolist() == [3]
    assert robust_mean(LINE, ONES, "median") == pytest.approx([3], abs=1e-2)


def test_the_mean_counts_groups_by_their_weights() -> None:
    assert robust_mean(LINE, [3, 1, 1, 1, 4], "mean") == pytest.approx([37.2])


@pytest.mark.parametrize("rule", ["trimmed", "median"])
def test_a_group_that_declares_a_large_weight_gets_no_larger_say(rule: Rule) -> None:
    plain, bought = (robust_mean(LINE, weights, rule) for weights in (ONES, [1, 1, 1, 1, 1e9]))
    np.testing.assert_array_equal(plain, bought)
    assert robust_mean(LINE, [1, 1, 1, 1, 1e9], "mean")[0] > 89


def test_the_geometric_median_of_a_square_and_its_centre_is_the_centre() -> None:
    square = [np.array(p, float) for p in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))]
    assert robust_mean(square, ONES, "median") == pytest.approx([1, 1], abs=1e-9)


def test_the_geometric_median_is_where_the_unit_pulls_of_the_groups_cancel() -> None:
    groups = list(np.random.default_rng(3).normal(size=(9, 40)) + np.arange(9)[:, None])
    point = robust_mean(groups, [1.0] * 9, "median")
    pull = np.sum([(g - point) / np.linalg.norm(g - point) for g in groups], axis=0) / 9
    assert np.linalg.norm(pull) <= 2 * TOLERANCE
    mean = np.mean(groups, axis=0)
    away = np.sum([(g - mean) / np.linalg.norm(g - mean) for g in groups], axis=0) / 9
    assert np.linalg.norm(away) > 10 * TOLERANCE


def test_the_geometric_median_of_four_points_and_a_far_one_is_where_one_equation_says() -> None:
    """Four points of the x axis and one above: by symmetry x = 0, and y solves one equation."""
    groups = [np.array(p, float) for p in ((-3, 0), (-1, 0), (1, 0), (3, 0), (0, 1000))]
    _, y = robust_mean(groups, ONES, "median")
    pull = 1 - 2 * y / math.hypot(1, y) - 2 * y / math.hypot(3, y)
    assert abs(pull) / 5 <= TOLERANCE
    assert y == pytest.approx(0.3968, abs=0.005)


def test_a_vector_longer_than_a_chunk_is_reduced_whole() -> None:
    groups = list(np.random.default_rng(5).normal(size=(7, _CHUNK + 3)))
    expected = np.sort(groups, axis=0)[1:-1].mean(axis=0)
    np.testing.assert_allclose(robust_mean(groups, [1.0] * 7, "trimmed"), expected, rtol=1e-12)
    assert robust_mean(groups, [1.0] * 7, "median").shape == (_CHUNK + 3,)


@pytest.mark.parametrize(
    ("num_groups", "trim", "count"),
    [(5, 0.2, 1), (9, 0.2, 1), (10, 0.2, 2), (5, 0.0, 1), (10, 0.3, 3), (5, 0.45, 2)],
)
def test_the_share_to_trim_is_rounded_down_and_never_to_nothing(
    num_groups: int, trim: float, count: int
) -> None:
    assert num_trimmed(num_groups, trim) == count


@pytest.mark.parametrize("trim", [-0.1, 0.5, math.nan, math.inf])
def test_a_share_that_trims_all_or_nothing_sensible_is_refused(trim: float) -> None:
    with pytest.raises(ConfigError, match=str(trim)):
        robust_mean(LINE, ONES, "trimmed", trim=trim)


def test_two_groups_are_too_few_to_trim() -> None:
    with pytest.raises(ConfigError):
        num_trimmed(2)


@pytest.mark.parametrize("rule", RULES)
def test_fewer_than_five_groups_end_the_round(rule: Rule) -> None:
    with pytest.raises(RoundAborted, match="4"):
        robust_mean(LINE[:4], ONES[:4], rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bad", [np.array([math.nan]), np.array([math.inf]), np.zeros(2), np.zeros((1, 1))])
def test_a_group_that_does_not_fit_the_others_is_refused(rule: Rule, bad: np.ndarray) -> None:
    with pytest.raises(SpecMismatch):
        robust_mean([*LINE, bad], [1.0] * 6, rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_a_weight_that_is_none_is_refused(rule: Rule, weight: float) -> None:
    with pytest.raises(SpecMismatch, match=str(weight)):
        robust_mean(LINE, [*ONES[:4], weight], rule)


def test_weights_must_be_as_many_as_groups() -> None:
    with pytest.raises(SpecMismatch):
        robust_mean(LINE, ONES[:4], "mean")


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="krum"):
        robust_mean(LINE, ONES, "krum")  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", RULES)
def test_the_groups_given_are_left_as_they_are_and_the_answer_is_the_same_again(rule: Rule) -> None:
    groups = list(np.random.default_rng(8).normal(size=(6, 50)))
    before = [g.copy() for g in groups]
    first, second = (robust_mean(groups, [1.0] * 6, rule) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(groups, before)
