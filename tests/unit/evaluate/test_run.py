"""A whole evaluation in this process: what it writes, and that it is taken up where it stopped."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mimo_fed.errors import ConfigError
from mimo_fed.evaluate.arms import BASE, COHORT, DEFAULT, DEFAULT_ENCRYPTED, LOCAL, Arm
from mimo_fed.evaluate.files import RESULTS, ROWS, read_folder
from mimo_fed.evaluate.findings import read
from mimo_fed.evaluate.measuring import accuracies, bits_per_byte, questions_of, settle
from mimo_fed.evaluate.method import method_tables
from mimo_fed.evaluate.plan import Rates
from mimo_fed.evaluate.run import Order, run, usable
from mimo_fed.evaluate.training import Fitted, Trainer
from mimo_fed.evaluate.view import View
from mimo_fed.evaluate.workers import World
from mimo_fed.model.loss import measure
from tests.unit.evaluate.conftest import PLAN
from tests.unit.evaluate.population import LABELS, user_set

ARMS = (BASE, LOCAL, DEFAULT)


def order(out: Path, arms: tuple[Arm, ...] = ARMS, *, seeds: tuple[int, ...] = (0,)) -> Order:
    plan = dataclasses.replace(PLAN, seeds=seeds, rates=(1e-3, 1e-2))
    world = World(base="mimo-nano", users=user_set(), plan=plan, out=out)
    return Order(world=world, arms=arms, workers=1, command="mimo-fed evaluate made-up")


def work(asked: Order) -> list[str]:
    """Run, and return the lines that were shown."""
    shown = io.StringIO()
    with View(Console(file=shown, width=200)) as view:
        run(asked, view)
    return shown.getvalue().splitlines()


def test_it_writes_two_files_that_can_be_reported_on(tmp_path: Path) -> None:
    lines = work(order(tmp_path))
    results, rows = read_folder(tmp_path)
    assert "7 users take part, 4 tune, 2 are cold starts" in lines[0]
    assert lines[1].startswith("about ")
    assert [record.arm for record in results.arms] == [arm.name for arm in ARMS]
    assert len(rows) == len(ARMS) * 9
    steps = {name: arm["steps"] for name, arm in results.settings["arms"].items()}
    assert steps == {"base": [0, 0, 0], "local only": [0, 0, 8], "default": [8, 0, 0]}
    by_title = {table.title.partition(":")[0]: table for table in method_tables(results)}
    assert [row[:2] for row in by_title["Learning rates"].rows] == [
        ("local only", "personal"),
        ("default", "global and cohort"),
    ]
    assert all(row[-1].partition(" ")[0] in ("0.001", "0.01") for row in by_title["Learning rates"].rows)
    summaries = {s.arm: s for s in read(tmp_path).sections[0].summaries}
    assert summaries["default"].mean.value < summaries["base"].mean.value


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    work(order(tmp_path))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "jobs").iterdir()}
    rows = (tmp_path / ROWS).read_bytes()
    lost = next(path for path in (tmp_path / "jobs").iterdir() if path.name.startswith("train.local"))
    lost.unlink()

    work(order(tmp_path))

    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "jobs").iterdir()}
    assert set(after) == set(before)
    assert [name for name in after if after[name] != before[name]] == [lost.name]
    assert (tmp_path / ROWS).read_bytes() == rows, "the same seed gives the same bits"


def test_more_seeds_and_arms_are_added_to_what_is_there(tmp_path: Path) -> None:
    work(order(tmp_path))
    before = {path.name for path in (tmp_path / "jobs").iterdir()}
    lines = work(order(tmp_path, (*ARMS, COHORT), seeds=(0, 1)))
    done = [line.split("  ")[-1].split(";")[0] for line in lines[2:]]
    assert done == [
        "local only, seed 1",
        "default, seed 1",
        "default+cohort: rates",
        *_both("default+cohort"),
    ]
    assert before < {path.name for path in (tmp_path / "jobs").iterdir()}


def _both(arm: str) -> list[str]:
    return [f"{arm}, seed 0", f"{arm}, seed 1"]


def test_other_settings_take_up_nothing(tmp_path: Path) -> None:
    work(order(tmp_path, (BASE,)))
    other = order(tmp_path, (BASE,))
    plan = dataclasses.replace(other.world.plan, seq_len=24)
    lines = work(dataclasses.replace(other, world=dataclasses.replace(other.world, plan=plan)))
    assert len(lines) == 3, "the base was measured again"


def test_where_there_is_one_rate_none_is_tuned(tmp_path: Path) -> None:
    asked = order(tmp_path, (BASE, DEFAULT))
    plan = dataclasses.replace(asked.world.plan, rates=(1e-2,))
    lines = work(dataclasses.replace(asked, world=dataclasses.replace(asked.world, plan=plan)))
    assert not any("rates" in line for line in lines)
    assert {r.arm: r.learning_rate for r in read_folder(tmp_path)[0].arms}["default"] == 1e-2


def test_encryption_is_never_run_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to compare with: default, encrypted"):
        work(order(tmp_path, (BASE, DEFAULT_ENCRYPTED)))
    assert not (tmp_path / RESULTS).exists()


def test_cohorts_need_two_languages() -> None:
    users = user_set()
    french = tuple(device for device in users.federated if device.language == "fr")
    assert usable((*ARMS, COHORT), users, PLAN) == (*ARMS, COHORT)
    assert usable((*ARMS, COHORT), dataclasses.replace(users, federated=french), PLAN) == ARMS


def test_a_newcomer_takes_the_cohort_of_least_loss(trainer: Trainer) -> None:
    users = user_set()
    rates = Rates(shared=1e-2, personal=1e-2)
    fitted = trainer.fit(COHORT, users.federated, rates, cohorts=("fr", "it"), min_rank=4, seed=0)
    settled = settle(trainer.stack, fitted, users.cold)
    for device in users.cold:
        costs = {}
        for name in fitted.cohorts:
            there = dataclasses.replace(fitted, choices={device.name: name})
            costs[name] = bits_per_byte(trainer.stack, there, [device], validation=True)[0]
        assert settled.choices[device.name] == min(costs, key=costs.__getitem__)
    assert {settled.choices[device.name] for device in users.federated} == {"fr", "it"}


def test_bits_per_byte_are_those_of_the_model_alone(trainer: Trainer) -> None:
    device = user_set().federated[0]
    base = trainer.base
    expected = measure(base.model, base.tokenizer, device.corpus.test).bits_per_byte
    assert bits_per_byte(trainer.stack, Fitted(), [device]) == pytest.approx([expected], rel=1e-5)


def test_an_intent_is_told_by_what_costs_least(trainer: Trainer) -> None:
    users = user_set(intents=True)
    told = accuracies(trainer.stack, Fitted(), users.federated, LABELS, 2)
    for device, right in zip(users.federated, told, strict=True):
        (question,) = questions_of(device, 2)
        base = trainer.base
        texts = [f"{question.said}\nintent: {label}" for label in LABELS]
        nats = [measure(base.model, base.tokenizer, [text]).nats for text in texts]
        assert right == float(LABELS[int(np.argmin(nats))] == question.intent)


def test_a_user_without_intents_has_no_accuracy(trainer: Trainer) -> None:
    assert accuracies(trainer.stack, Fitted(), user_set().cold, LABELS, 2) == [None, None]


def test_questions_are_drawn_alike_every_time() -> None:
    device = user_set(intents=True).federated[0]
    many = dataclasses.replace(device, texts=device.texts * 9)
    drawn = questions_of(many, 4)
    assert len(drawn) == 4
    assert drawn == questions_of(many, 4)
    assert drawn[0].intent in LABELS
    assert "\n" not in drawn[0].said
