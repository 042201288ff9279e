"""The bench of planted adapters: every arm on the same tasks, each at its own best learning rate.

The rate of an arm is chosen on tasks of other seeds than those that are reported. Keys of the document that
are stable: `arms.NAME.{error,floats_per_round}`, `floor`, `goals`.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from mimo_fed.bench.machine import describe_machine, describe_versions
from mimo_fed.bench.planted_arms import EXACT, Arm, Point, arms
from mimo_fed.bench.planted_task import RANKS, SHAPES, Shape, make_task
from mimo_fed.bench.progress import Bar
from mimo_fed.bench.secagg import round_figures
from mimo_fed.config import ScheduleConfig

Json = dict[str, Any]
TUNE_OFFSET: Final = 1000
"""a rate is chosen on this seed and the next ones"""
WITHIN: Final = 1.2
"""an arm's error, as a multiple of the best other exact arm's, at most"""
UPLOAD: Final = 0.5
"""the default's upload, as a share of that arm's, at most"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to run."""

    shape: Shape
    seeds: tuple[int, ...] = (0, 1, 2)
    """of the tasks that are reported"""
    num_tune: int = 1
    """tasks on which each rate is tried"""
    skew: float = 0.0
    """how unlike the clients' inputs are; see `make_task`"""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """of the default arm"""


def run(settings: Settings, bar: Bar) -> Json:
    """Tune and run every arm; returns the document."""
    shape, found = settings.shape, arms(settings.schedule)
    machine = describe_machine()
    bar.expect(len(found) * (settings.num_tune + len(settings.seeds)))
    grids = _tune(settings, found, bar)
    rates = {name: min(grid, key=lambda rate: grid[rate]) for name, grid in grids.items()}
    curves: dict[str, list[list[Point]]] = {name: [] for name in found}
    floors = []
    for seed in settings.seeds:
        task = make_task(shape, seed, skew=settings.skew)
        floors.append(task.floor)
        for name, arm in found.items():
            bar.step(f"{name}, seed {seed}")
            curves[name].append(arm.run(task, shape, rates[name]))
    entries = {name: _entry(found[name], rates[name], grids[name], curves[name]) for name in found}
    document: Json = {
        "bench": "planted",
        "settings": {**asdict(settings), "ranks": list(RANKS)},
        "floor": float(np.mean(floors)),
        "arms": entries,
        "goals": judge(entries),
        "machine": machine,
        "versions": describe_versions(),
    }
    machine["load_at_end"] = round(os.getloadavg()[0], 2)
    rounded: Json = round_figures(document)
    return rounded


def judge(entries: Json) -> list[Json]:
    """Compare the default, and the cycle that spares upload, each with the best of the other exact arms."""
    goals = []
    for name in ("default", "spare"):
        others = {other: entries[other] for other in EXACT if other != name}
        best = min(others, key=lambda other: float(others[other]["error"]))
        for what, key, at_most in (("error", "error", WITHIN), ("upload", "floats_per_round", UPLOAD)):
            ratio = entries[name][key] / others[best][key]
            goals.append(_goal(f"{name}'s {what}, of {best}'s", ratio, at_most))
    return goals


def _goal(figure: str, measured: float, at_most: float) -> Json:
    return {
        "figure": figure,
        "goal": f"<= {at_most:g}",
        "unit": "times",
        "measured": measured,
        "met": bool(measured <= at_most),
    }


def _tune(settings: Settings, found: dict[str, Arm], bar: Bar) -> dict[str, dict[float, float]]:
    """Return per arm and learning rate the mean error on the tuning tasks."""
    grids = {name: dict.fromkeys(settings.shape.rates, 0.0) for name in found}
    first = TUNE_OFFSET + max(settings.seeds)
    for seed in range(first, first + settings.num_tune):
        task = make_task(settings.shape, seed, skew=settings.skew)
        for name, arm in found.items():
            bar.step(f"{name}, rates")
            for rate in settings.shape.rates:
                points = arm.run(task, settings.shape, rate)
                grids[name][rate] += points[-1].error / settings.num_tune
    return grids


def _entry(arm: Arm, rate: float, grid: dict[float, float], curves: list[list[Point]]) -> Json:
    errors = [curve[-1].error for curve in curves]
    mean = np.mean([[point.error for point in curve] for curve in curves], axis=0)
    return {
        "error": float(np.mean(errors)),
        "errors": errors,
        "floats_per_round": curves[0][-1].floats / len(curves[0]),
        "exact": arm.exact,
        "rate": rate,
        "tuning": {f"{tried:g}": error for tried, error in grid.items()},
        "curve": [[point.floats, float(error)] for point, error in zip(curves[0], mean, strict=True)],
    }


def settings_of(shape: str, seeds: tuple[int, ...], skew: float, schedule: ScheduleConfig) -> Settings:
    """Return the settings for a named shape; the larger one is tuned on one task alone."""
    return Settings(
        shape=SHAPES[shape],
        seeds=seeds,
        num_tune=3 if shape == "small" else 1,
        skew=skew,
        schedule=schedule,
    )
