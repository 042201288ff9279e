"""Rates are chosen on the tuning users alone, part by part, from one grid."""

from __future__ import annotations

import dataclasses
import json

import pytest

from mimo_fed.data import DemoDevice, Text
from mimo_fed.errors import ConfigError
from mimo_fed.evaluate.arms import BASE, DEFAULT, LOCAL, PERSONAL, POOLED
from mimo_fed.evaluate.sets import UserSet
from mimo_fed.evaluate.training import Trainer
from mimo_fed.evaluate.tune import DIVERGED, Curve, Tuned, tune, untuned
from tests.unit.evaluate.population import user_set

GRID = (1e-7, 1e-2, 3.0)


@pytest.fixture
def grid(trainer: Trainer) -> Trainer:
    return Trainer.of(trainer, dataclasses.replace(trainer.plan, rates=GRID))


def without_text(device: DemoDevice) -> DemoDevice:
    return dataclasses.replace(device, texts=(Text(text="x", split="train"),))


def test_a_tie_goes_to_the_smaller_rate() -> None:
    curve = Curve(part="shared", points=((3e-3, 2.0), (1e-3, 2.0), (1e-2, 2.1)))
    assert curve.best == 1e-3
    assert curve.at_edge


def test_a_best_rate_inside_the_grid_is_not_at_its_edge() -> None:
    assert not Curve(part="shared", points=((1e-3, 2.1), (3e-3, 2.0), (1e-2, 2.1))).at_edge
    assert not Curve(part="shared", points=((1e-3, 2.1),)).at_edge, "a grid of one has no edge"


def test_the_rate_that_learns_is_taken(grid: Trainer) -> None:
    users = user_set()
    tuned = tune(grid, DEFAULT, users)
    assert tuned.rates.shared == 1e-2
    assert [rate for rate, _ in tuned.curves[0].points] == list(GRID)
    assert tuned == tune(grid, DEFAULT, users)


def test_a_rate_at_which_training_diverges_loses_and_does_not_end_the_run(trainer: Trainer) -> None:
    def of(*rates: float) -> Trainer:
        return Trainer.of(trainer, dataclasses.replace(trainer.plan, rates=rates))

    tuned = tune(of(1e-3, 1e30), POOLED, user_set())
    assert tuned.rates.shared == 1e-3
    assert dict(tuned.curves[0].points)[1e30] == DIVERGED
    with pytest.raises(ConfigError, match="diverged at every rate"):
        tune(of(1e29, 1e30), POOLED, user_set())


def test_the_personal_rate_is_chosen_on_top_of_the_shared_one(grid: Trainer) -> None:
    tuned = tune(grid, PERSONAL, user_set())
    shared, personal = tuned.curves
    assert (shared.part, personal.part) == ("shared", "personal")
    values = dict(shared.points)
    assert min(value for _, value in personal.points) < values[tuned.rates.shared]


def test_training_alone_has_a_personal_rate_only(grid: Trainer) -> None:
    assert [curve.part for curve in tune(grid, LOCAL, user_set()).curves] == ["personal"]
    assert tune(grid, BASE, user_set()) == untuned(grid.plan)


def test_nobody_else_s_text_is_looked_at(grid: Trainer) -> None:
    """The other users' texts may as well not be there; nor do tuning users' test texts matter."""
    users = user_set()
    blind: UserSet = dataclasses.replace(
        users,
        federated=tuple(without_text(device) for device in users.federated),
        cold=tuple(without_text(device) for device in users.cold),
        tuning=tuple(
            dataclasses.replace(device, texts=tuple(t for t in device.texts if t.split != "test"))
            for device in users.tuning
        ),
    )
    assert tune(grid, PERSONAL, blind) == tune(grid, PERSONAL, users)


def test_what_was_chosen_survives_being_written() -> None:
    curve = Curve(part="personal", points=((1e-3, 2.5), (1e-2, 2.25)))
    tuned = Tuned(rates=dataclasses.replace(Tuned.from_json(_raw()).rates, personal=1e-2), curves=(curve,))
    assert Tuned.from_json(json.loads(json.dumps(tuned.to_json()))) == tuned


def _raw() -> dict[str, object]:
    return {"shared": 1e-3, "personal": 1e-3, "curves": []}
