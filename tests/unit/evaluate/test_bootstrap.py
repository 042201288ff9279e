"""The bootstrap against answers in closed form: deciles, shifts of no width, and coverage of the mean."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mimo_fed.evaluate import bootstrap
from mimo_fed.evaluate.bootstrap import Estimate, Resamples


def _column(*values: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array(values, dtype=np.float64)[:, None]


def _value(statistic: bootstrap.Statistic, num_users: int) -> float:
    return float(statistic(np.ones((1, num_users)))[0, 0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (range(1, 101), 95.5),
        (range(100, 0, -1), 95.5),
        (range(1, 11), 10.0),
        (range(1, 6), 5.0),
        (range(1, 16), (15 + 0.5 * 14) / 1.5),
        ([7.0], 7.0),
    ],
)
def test_the_worst_decile_of_known_values(values: list[float], expected: float) -> None:
    assert _value(bootstrap.top_decile(_column(*values)), len(values)) == pytest.approx(expected)


@pytest.mark.parametrize("num", [1, 2, 9, 10, 33])
def test_mean_and_median_are_numpys(num: int) -> None:
    values_NK = np.random.default_rng(num).normal(size=(num, 3))
    ones = np.ones((1, num))
    assert bootstrap.mean(values_NK)(ones)[0] == pytest.approx(values_NK.mean(axis=0))
    assert bootstrap.median(values_NK)(ones)[0] == pytest.approx(np.median(values_NK, axis=0))


def test_weights_are_the_same_as_repeating_users() -> None:
    rng = np.random.default_rng(3)
    values_NK = rng.normal(size=(30, 2)).round(1)
    drawn_N = rng.integers(0, 30, 30)
    weights_SN = np.bincount(drawn_N, minlength=30)[None].astype(np.float64)
    repeated_NK = values_NK[drawn_N]
    for statistic in (bootstrap.mean, bootstrap.median, bootstrap.top_decile):
        expected = statistic(repeated_NK)(np.ones((1, 30)))
        assert statistic(values_NK)(weights_SN) == pytest.approx(expected), statistic.__name__


def test_every_resample_draws_as_many_users_as_there_are_and_all_sorts_of_them() -> None:
    seen = []
    Resamples(50, num_resamples=2_000).estimate(lambda w_SN: seen.append(w_SN) or w_SN[:, :1])
    weights_SN = np.concatenate(seen[1:])
    assert weights_SN.shape == (2_000, 50)
    assert (weights_SN.sum(axis=1) == 50).all()
    assert weights_SN.mean(axis=0) == pytest.approx(np.ones(50), abs=0.15)
    assert (weights_SN == 0).mean() == pytest.approx((1 - 1 / 50) ** 50, abs=0.01)


def test_a_constant_shift_has_an_interval_of_no_width() -> None:
    values_N = np.random.default_rng(5).normal(2.0, 0.5, 200)
    shifted_N = values_N - 0.25
    draws = Resamples(200)
    paired = draws.estimate(bootstrap.mean((values_N - shifted_N)[:, None]))[0]
    assert (paired.value, paired.low, paired.high) == pytest.approx((0.25, 0.25, 0.25), abs=1e-12)

    worst = bootstrap.top_decile(np.stack([values_N, shifted_N], axis=1))
    apart = draws.estimate(lambda w_SN: np.diff(worst(w_SN), axis=1))[0]
    assert (apart.value, apart.low, apart.high) == pytest.approx((-0.25, -0.25, -0.25), abs=1e-12)

    alone = draws.estimate(bootstrap.mean(values_N[:, None]))[0]
    assert alone.low is not None
    assert alone.high is not None
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * values_N.std() / np.sqrt(200), rel=0.05)


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    won_N = (np.arange(400) < 320).astype(np.float64)
    share = Resamples(400).estimate(bootstrap.mean(won_N[:, None]))[0]
    assert share.value == 0.8
    half = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert (share.low, share.high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.004)


def test_intervals_cover_the_mean_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(17)
    covered = 0
    for trial in range(400):
        draws = Resamples(80, num_resamples=500, seed=trial)
        found = draws.estimate(bootstrap.mean(rng.normal(1.0, 2.0, (80, 1))))[0]
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1.0 <= found.high
    assert 0.91 <= covered / 400 <= 0.975


def test_the_same_seed_gives_the_same_interval_and_another_does_not() -> None:
    values_NK = np.random.default_rng(7).normal(size=(40, 1))
    one, same, other = (Resamples(40, seed=seed).estimate(bootstrap.mean(values_NK)) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_handful_of_users_has_no_interval() -> None:
    assert Resamples(4).estimate(bootstrap.mean(_column(1, 2, 3, 4))) == [Estimate(2.5, None, None)]


def test_four_hundred_users_and_twelve_arms_take_seconds() -> None:
    values_NK = np.random.default_rng(11).normal(size=(400, 12))
    began = time.process_time()
    draws = Resamples(400)
    for statistic in (bootstrap.mean, bootstrap.median, bootstrap.top_decile):
        assert len(draws.estimate(statistic(values_NK))) == 12
    assert time.process_time() - began < 10
