"""Learning rates, chosen for each arm on the tuning users alone, from one grid.

The tuning users are a small federation of their own: they train the arm as the others will, with as many
rounds and steps, once for every rate, and the rate with the least mean bits per byte on their validation text
is taken. An arm with a personal adapter chooses the rate of what is shared first, and then, on top of that,
the personal one. No text of any other user is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mimo_fed.data import DemoDevice
from mimo_fed.errors import ConfigError, SpecMismatch
from mimo_fed.evaluate.arms import Arm
from mimo_fed.evaluate.measuring import bits_per_byte
from mimo_fed.evaluate.plan import Plan, Rates
from mimo_fed.evaluate.records import Json
from mimo_fed.evaluate.sets import UserSet
from mimo_fed.evaluate.training import Fitted, Tell, Trainer, nobody

SEED = 0
DIVERGED = 1e9
"""bits per byte that stand for training that came to no number"""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What each rate of the grid gave.

    Attributes:
        part: which adapters the rate is of.
        points: (rate, mean bits per byte on the tuning users' validation text), in the order of the grid.
    """

    part: Literal["shared", "personal"]
    points: tuple[tuple[float, float], ...]

    @property
    def best(self) -> float:
        """The rate of least bits per byte; a tie goes to the smaller rate."""
        return min(self.points, key=lambda point: (point[1], point[0]))[0]

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is an end of the grid, so that a better one may lie beyond."""
        rates = [rate for rate, _ in self.points]
        return len(rates) > 1 and self.best in (min(rates), max(rates))


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The rates of an arm, and how they were chosen."""

    rates: Rates
    curves: tuple[Curve, ...] = ()

    def to_json(self) -> Json:
        """Return it as plain values."""
        return {
            "shared": self.rates.shared,
            "personal": self.rates.personal,
            "curves": [
                {"part": c.part, "points": [list(p) for p in c.points], "at_edge": c.at_edge}
                for c in self.curves
            ],
        }

    @classmethod
    def from_json(cls, raw: Json) -> Tuned:
        """Read what `to_json` wrote."""
        curves = tuple(
            Curve(part=c["part"], points=tuple((float(r), float(v)) for r, v in c["points"]))
            for c in raw["curves"]
        )
        return cls(rates=Rates(shared=float(raw["shared"]), personal=float(raw["personal"])), curves=curves)


def untuned(plan: Plan) -> Tuned:
    """Return what stands for the rates of an arm that trains nothing."""
    return Tuned(rates=Rates(shared=plan.rates[0], personal=plan.rates[0]))


def tune(trainer: Trainer, arm: Arm, users: UserSet, *, tell: Tell = nobody) -> Tuned:
    """Choose an arm's rates.

    Args:
        trainer: with the plan and its grid.
        arm: which; one that trains nothing gets what `untuned` returns.
        users: of whom those for tuning are looked at.
        tell: told of progress.
    """
    devices, grid = users.tuning, trainer.plan.rates
    small = Trainer.of(trainer, replace(trainer.plan, n_min=1, devices_per_round=_asked(trainer, users)))
    cohorts, curves = users.languages(devices, 1), []
    rates, kept = untuned(trainer.plan).rates, Fitted()

    if arm.in_rounds or arm.kind == "pooled":
        fitted: dict[float, Fitted] = {}

        def shared(rate: float) -> float:
            tried = replace(rates, shared=rate)
            try:
                fitted[rate] = small.fit(
                    arm.plain, devices, tried, cohorts=cohorts, min_rank=users.min_rank, seed=SEED, tell=tell
                )
            except SpecMismatch:  # an adapter of numbers that are not finite
                return DIVERGED
            return _mean(small, fitted[rate], devices)

        curves.append(_curve("shared", grid, shared))
        rates = replace(rates, shared=curves[-1].best)
        if rates.shared not in fitted:
            raise ConfigError(
                f"training diverged at every rate of the grid, arm {arm.name}: {', '.join(map(str, grid))}",
                hint="give smaller ones with --rates",
            )
        kept = fitted[rates.shared]

    if arm.has_personal:
        _, _, num_steps = small.plan.shares(arm, len(devices))

        def personal(rate: float) -> float:
            tried = replace(rates, personal=rate)
            return _mean(
                small, small.personalise(kept, devices, tried, num_steps, seed=SEED, tell=tell), devices
            )

        curves.append(_curve("personal", grid, personal))
        rates = replace(rates, personal=curves[-1].best)
    return Tuned(rates=rates, curves=tuple(curves))


def _curve(
    part: Literal["shared", "personal"], grid: Sequence[float], cost: Callable[[float], float]
) -> Curve:
    return Curve(part=part, points=tuple((rate, cost(rate)) for rate in grid))


def _mean(trainer: Trainer, fitted: Fitted, devices: Sequence[DemoDevice]) -> float:
    """Return mean bits per byte on validation text; training that came to no number is the worst there is."""
    mean = float(np.mean(bits_per_byte(trainer.stack, fitted, devices, validation=True)))
    return mean if math.isfinite(mean) else DIVERGED


def _asked(trainer: Trainer, users: UserSet) -> int:
    """Ask as large a share of the tuning users in a round as is asked of the others."""
    asked = trainer.plan.devices_per_round
    return max(1, round(asked * len(users.tuning) / len(users.federated))) if asked else 0
