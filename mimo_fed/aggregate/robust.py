"""One mean out of the means of several random groups, of which some may be spoilt.

Secure aggregation opens one sum for each group; nobody sees a device's own update. One device that sends
nonsense spoils the mean of its whole group and of no other, so what is tolerated is counted in groups:
`num_trimmed` of them under "trimmed", fewer than half under "median", none under "mean". In the worst case
every corrupt device sits in another group: five groups bear one or two such devices, not one fifth of all.

"trimmed" and "median" count every group alike. The weight of a group is what its own devices declared, and a
device that lies about its update lies about its weight as well: it would buy its group a larger say. The
groups are balanced (`mimo_fed.secagg.groups`), so little is lost by that. After trimming there is a second
reason: each coordinate keeps other groups, and weights would make it a mean over another total each time.

Shapes: D entries of a shell, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import ConfigError, RoundAborted, SpecMismatch

F64 = NDArray[np.float64]
Rule = Literal["mean", "trimmed", "median"]

MIN_GROUPS: Final = 5
"""with four, trimming one from each end leaves a mean of two"""
TRIM: Final = 0.2
"""share of the groups left out at each end of a coordinate"""
TOLERANCE: Final = 1e-3
"""the geometric median is done when the norm of its gradient, which is 1 far away, is below"""
MAX_STEPS: Final = 300
"""then the point reached is taken; the norm of its gradient stands for `TOLERANCE` in the bound"""
SMOOTHING: Final = 1e-3
"""a distance below this share of the typical one counts as that; else steps near a group get ever shorter"""
_CHUNK: Final = 1 << 16
"""coordinates sorted at a time, so that memory stays O(D) beside the groups themselves"""


def robust_mean(groups: Sequence[F64], weights: Sequence[float], rule: Rule, *, trim: float = TRIM) -> F64:
    """Return the mean over groups by a rule that some spoilt groups cannot move far.

    Args:
        groups: per group, its mean, float64, shape (D,). A group that stayed closed, or whose devices
            declared no weight, is left out by the caller.
        weights: per group, sum of the weights of its devices; used by "mean" alone (see above).
        rule: "mean", the weighted mean, which one spoilt group can move anywhere; "trimmed", per coordinate
            the mean without the largest and the smallest `num_trimmed`; "median", the geometric median.
        trim: share left out at each end under "trimmed", in 0..0.5.

    Returns:
        Shape (D,). "trimmed": each coordinate lies between the least and the greatest of the groups that are
        not spoilt. "median": with a share a < 1/2 of the groups spoilt and the others within r of a point, it
        lies within 2 (1 - a) r / (1 - 2 a - TOLERANCE) of that point; smoothing adds less than 1 %.

    Raises:
        RoundAborted: fewer than `MIN_GROUPS` groups.
        SpecMismatch: groups of different shapes, an entry not finite, or a weight not positive.
        ConfigError: no such rule, or a share that leaves nothing.
    """
    _check(groups, weights)
    match rule:
        case "mean":
            return _weighted(groups, np.asarray(weights, np.float64))
        case "trimmed":
            return _trimmed_mean(groups, num_trimmed(len(groups), trim))
        case "median":
            return _geometric_median(groups)
        case _:
            raise ConfigError(f"no such rule for a mean over groups: {rule!r}")


def num_trimmed(num_groups: int, trim: float = TRIM) -> int:
    """Count the groups left out at each end of a coordinate: floor(trim * groups), at least 1.

    Raises:
        ConfigError: nothing would be left.
    """
    if not (math.isfinite(trim) and 0 <= trim < 0.5):
        raise ConfigError(f"share of groups to trim must be in 0..0.5: {trim}")
    count = max(1, math.floor(trim * num_groups + 1e-9))
    if 2 * count >= num_groups:
        raise ConfigError(f"trimming leaves no group: {count} from each end of {num_groups}")
    return count


def _check(groups: Sequence[F64], weights: Sequence[float]) -> None:
    if len(groups) < MIN_GROUPS:
        raise RoundAborted(
            f"too few groups for a robust mean, at least {MIN_GROUPS} are needed: {len(groups)}"
        )
    if len(weights) != len(groups):
        raise SpecMismatch(f"{len(groups)} groups need as many weights: {len(weights)}")
    for index, (group_D, weight) in enumerate(zip(groups, weights, strict=True)):
        if group_D.ndim != 1 or group_D.shape != groups[0].shape:
            raise SpecMismatch(f"mean of group {index} has another shape: {group_D.shape}")
        if not np.isfinite(group_D).all():
            raise SpecMismatch(f"mean of a group is not finite: {index}")
        if not (math.isfinite(weight) and weight > 0):
            raise SpecMismatch(f"weight of group {index} must be positive: {weight}")


def _weighted(groups: Sequence[F64], weights_G: F64) -> F64:
    """Add the groups up by weights that are first made to sum to 1."""
    mean_D = np.zeros_like(groups[0], dtype=np.float64)
    for group_D, share in zip(groups, weights_G / weights_G.sum(), strict=True):
        mean_D += share * group_D
    return mean_D


def _trimmed_mean(groups: Sequence[F64], count: int) -> F64:
    """Ref: Yin, Chen, Kannan, Bartlett 2018 (Byzantine-robust distributed learning), trimmed mean."""

    def middle(chunk_GD: F64) -> F64:
        kept_GD = np.sort(chunk_GD, axis=0)[count : len(groups) - count]
        mean_D: F64 = np.mean(kept_GD, axis=0)
        return np.clip(mean_D, kept_GD[0], kept_GD[-1])

    return _by_chunks(groups, middle)


def _by_chunks(groups: Sequence[F64], reduce: Callable[[F64], F64]) -> F64:
    """Reduce over the groups, a range of coordinates at a time."""
    out_D = np.empty(groups[0].shape, np.float64)
    for low in range(0, out_D.size, _CHUNK):
        out_D[low : low + _CHUNK] = reduce(np.stack([g[low : low + _CHUNK] for g in groups]))
    return out_D


def _geometric_median(groups: Sequence[F64]) -> F64:
    """Find the point with the least sum of distances to the groups, by smoothed Weiszfeld steps.

    Begins at the coordinate-wise median, which no minority can move far: from the mean, the first steps
    would only walk back from wherever the spoilt groups pulled it. A step z -> sum(w_i x_i) / sum(w_i), with
    w_i = 1 / distance_i, moves by the gradient over sum(w_i); so the gradient's norm, which ends the search
    and stands in the bound on the result, comes with the step.

    Ref: Pillutla, Kakade, Harchaoui 2022 (robust aggregation for federated learning, RFA).
    """
    point_D = _by_chunks(groups, lambda chunk_GD: np.median(chunk_GD, axis=0).astype(np.float64))
    typical = float(np.sort(_distances(groups, point_D))[len(groups) // 2])
    if typical * SMOOTHING < np.finfo(np.float64).tiny:
        return point_D  # more than half of the groups are this very point: it is the geometric median
    for _ in range(MAX_STEPS):
        pull_G = 1 / np.maximum(_distances(groups, point_D), SMOOTHING * typical)
        next_D = _weighted(groups, pull_G)
        gradient = float(np.linalg.norm(next_D - point_D)) * float(pull_G.sum()) / len(groups)
        point_D = next_D
        if gradient <= TOLERANCE:
            break
    return point_D


def _distances(groups: Sequence[F64], point_D: F64) -> F64:
    return np.array([np.linalg.norm(group_D - point_D) for group_D in groups])
