"""Which cohort a device belongs to: the one whose adapter makes its own text cheapest (IFCA).

A small relative margin keeps a device from moving to and fro between two cohorts that serve it alike.
Ref: Ghosh, Chung, Yin, Ramchandran 2020, An Efficient Framework for Clustered Federated Learning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mimo_fed.errors import ConfigError

HYSTERESIS = 0.01
"""relative margin by which another cohort must be better"""


def choose(losses: Mapping[str, float], *, current: str | None, hysteresis: float = HYSTERESIS) -> str:
    """Return the cohort of least loss, or the current one if that is not better by the margin.

    Args:
        losses: nats on the device's own text, by cohort; a loss that is not a number is the worst there is.
        current: the cohort the device is in; None, or one that is no longer offered, binds to nothing.
        hysteresis: 0 or more; another cohort's loss must be below (1 - hysteresis) times the current one's.

    Raises:
        ConfigError: no cohort is offered, or the margin is negative.
    """
    if not losses:
        raise ConfigError("there is no cohort to choose from")
    if not hysteresis >= 0:
        raise ConfigError(f"a cohort's margin must not be negative: {hysteresis}")
    known = {name: math.inf if math.isnan(loss) else loss for name, loss in losses.items()}
    best = min(sorted(known), key=known.__getitem__)
    if current is None or current not in known:
        return best
    return best if known[best] < known[current] * (1 - hysteresis) else current
