"""Paired bootstrap over users: how far a figure would move had other users been drawn.

A resample draws as many users as there are, with replacement, and is kept as how often each was drawn. Every
statistic takes such weights, so the figure itself is the statistic of weights that are all one, and two arms,
or a difference of two, are always compared on the same draw.

# legend: S resamples, N users, K columns (arms, differences), all float64
Ref: Efron, Tibshirani 1993, chapter 13 (percentile intervals).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Statistic = Callable[[Float64], Float64]
"""weights_SN, rows summing to N -> figures_SK"""

NUM_RESAMPLES: Final = 10_000
SEED: Final = 20_261_124
LEVEL: Final = 0.95
MIN_USERS: Final = 5
"""below this many users a resample says next to nothing, and no interval is given"""

_CHUNK: Final = 400_000
"""weights that are worked on at a time; bounds memory, not results"""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval.

    Attributes:
        value: on the users there are.
        low: lower end; None for fewer than `MIN_USERS` users.
        high: upper end; None likewise.
    """

    value: float
    low: float | None = None
    high: float | None = None


class Resamples:
    """The draws of one evaluation: every statistic of these users sees the same ones.

    Args:
        num_users: N, at least one.
        num_resamples: S.
        seed: the same draws for the same seed and N.
    """

    def __init__(self, num_users: int, *, num_resamples: int = NUM_RESAMPLES, seed: int = SEED) -> None:
        self.num_users = num_users
        drawn_SN = np.random.default_rng(seed).integers(0, num_users, (num_resamples, num_users))
        cells = drawn_SN + num_users * np.arange(num_resamples)[:, None]
        counts = np.bincount(cells.ravel(), minlength=num_resamples * num_users)
        self._counts_SN = counts.reshape(num_resamples, num_users).astype(np.uint16)

    def estimate(self, statistic: Statistic) -> list[Estimate]:
        """Return the statistic's K figures, each with its percentile interval."""
        value_K = statistic(np.ones((1, self.num_users)))[0]
        if self.num_users < MIN_USERS:
            return [Estimate(float(value)) for value in value_K]
        draws_SK = np.concatenate([statistic(weights_SN) for weights_SN in self._chunks()])
        low_K, high_K = np.quantile(draws_SK, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        return [Estimate(*map(float, each)) for each in zip(value_K, low_K, high_K, strict=True)]

    def _chunks(self) -> Iterator[Float64]:
        step = max(1, _CHUNK // self.num_users)
        for start in range(0, len(self._counts_SN), step):
            yield self._counts_SN[start : start + step].astype(np.float64)


def mean(values_NK: Float64) -> Statistic:
    """Return the statistic "mean over users" of each column."""
    return lambda weights_SN: weights_SN @ values_NK / len(values_NK)


def top_decile(values_NK: Float64) -> Statistic:
    """Return the statistic "mean of the greatest tenth" of each column.

    The tenth is N/10 users exactly: where that is no whole number, the last one counts in part, so that no
    rounding favours a number of users.
    """
    order_NK = np.argsort(-values_NK, axis=0, kind="stable")
    tenth = len(values_NK) / 10

    def statistic(weights_SN: Float64) -> Float64:
        return np.stack([column(weights_SN, k) for k in range(values_NK.shape[1])], axis=1)

    def column(weights_SN: Float64, k: int) -> Float64:
        order_N = order_NK[:, k]
        reached_SN = np.minimum(np.cumsum(weights_SN[:, order_N], axis=1), tenth)
        taken_SN = np.diff(reached_SN, axis=1, prepend=0.0)
        return np.asarray(taken_SN @ values_NK[order_N, k] / tenth)

    return statistic


def median(values_NK: Float64) -> Statistic:
    """Return the statistic "median over users" of each column."""
    num_users = len(values_NK)
    order_NK = np.argsort(values_NK, axis=0, kind="stable")

    def statistic(weights_SN: Float64) -> Float64:
        return np.stack([column(weights_SN, k) for k in range(values_NK.shape[1])], axis=1)

    def column(weights_SN: Float64, k: int) -> Float64:
        order_N = order_NK[:, k]
        reached_SN = np.cumsum(weights_SN[:, order_N], axis=1)
        middle = [(reached_SN <= place).sum(axis=1) for place in ((num_users - 1) // 2, num_users // 2)]
        sorted_N = values_NK[order_N, k]
        return np.asarray((sorted_N[middle[0]] + sorted_N[middle[1]]) / 2)

    return statistic
