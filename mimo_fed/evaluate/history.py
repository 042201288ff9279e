"""The course of training, out of the arms' histories: one loss a round."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mimo_fed.errors import DataError
from mimo_fed.evaluate.records import ArmRecord

Curve = tuple[tuple[int, float], ...]
"""round number and loss, in the order of the rounds"""


def loss_curves(arms: Sequence[ArmRecord]) -> dict[tuple[str, ...], Curve]:
    """Return each arm's loss before each global round, averaged over seeds.

    Rounds that train a cohort's adapter are left out, and so are rounds that opened nothing. Arms that share
    one training run, and so have the same curve, come as one, under all their names.

    Raises:
        DataError: an entry has no round number.
    """
    curves: dict[Curve, list[str]] = {}
    for arm in dict.fromkeys(record.arm for record in arms):
        if curve := _mean([_curve(record) for record in arms if record.arm == arm]):
            curves.setdefault(curve, []).append(arm)
    return {tuple(names): curve for curve, names in curves.items()}


def _curve(record: ArmRecord) -> dict[int, float]:
    points: dict[int, float] = {}
    for entry in record.history:
        number, loss = entry.get("round"), entry.get("loss_before")
        if not isinstance(number, int):
            raise DataError(f"an entry of {record.arm}'s history has no round number: {number}")
        if not entry.get("cohort") and isinstance(loss, int | float) and math.isfinite(loss):
            points[number] = float(loss)
    return points


def _mean(seeds: Sequence[dict[int, float]]) -> Curve:
    """Average over seeds the rounds that all of them have."""
    shared = set.intersection(*(set(points) for points in seeds))
    return tuple((n, math.fsum(points[n] for points in seeds) / len(seeds)) for n in sorted(shared))
