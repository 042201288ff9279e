"""The arms: what they are named, how they share a budget out, and that they really spend it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.config import TrainConfig
from mimo_fed.errors import ConfigError
from mimo_fed.evaluate.arms import (
    ALL,
    BASE,
    DEFAULT,
    DEFAULT_ENCRYPTED,
    FEDIT,
    FULL,
    LOCAL,
    MAIN,
    PERSONAL,
    POOLED,
    Arm,
    parse_arms,
    roles_of,
    short,
    with_encryption,
)
from mimo_fed.evaluate.jobs import record_from, rows_from, train_and_measure
from mimo_fed.evaluate.plan import Plan, Rates
from mimo_fed.evaluate.training import Trainer
from mimo_fed.model import Base
from mimo_fed.model.stack import Job, Personal, StackedModel
from tests.unit.evaluate.conftest import PLAN
from tests.unit.evaluate.population import user_set

RATES = Rates(shared=1e-2, personal=1e-2)


def test_groups_and_names() -> None:
    assert parse_arms("all") == ALL
    assert parse_arms("main") == MAIN
    assert parse_arms("default,local") == (BASE, LOCAL, DEFAULT), "in the order of the report, base first"
    assert parse_arms("default@encrypted,default")[-1] == DEFAULT_ENCRYPTED
    assert len({short(arm) for arm in ALL}) == len(ALL)


def test_no_schedule_is_run_twice() -> None:
    whole = [arm.cycle for arm in ALL if arm.kind == "federated" and arm.parts == 1 and not arm.encrypted]
    assert len(set(whole)) == len(whole)


def test_no_update_is_clipped_and_encryption_keeps_its_digits(trainer: Trainer) -> None:
    users, plan = user_set(), trainer.plan
    longest = plan.longest(DEFAULT, trainer.spec, RATES, plan.steps)
    assert longest == 2 * plan.longest(DEFAULT, trainer.spec, Rates(shared=5e-3, personal=1), plan.steps)
    for arm in (FEDIT, DEFAULT, parse_arms("sketch")[1], FULL):
        history = train_and_measure(trainer, users, arm, RATES, 0)["record"]["history"]
        assert history
        assert all(entry["clipped"] == 0 for entry in history)


def test_a_wrong_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such arm: 'fedot'"):
        parse_arms("b,fedot")
    with pytest.raises(ConfigError, match="twice"):
        parse_arms("b,b")


def test_every_arm_with_rounds_has_one_encrypted_twin() -> None:
    arms = with_encryption(ALL)
    encrypted = {arm.plain.name for arm in arms if arm.encrypted}
    assert encrypted == {arm.name for arm in ALL if arm.in_rounds and not arm.encrypted}
    assert len({arm.name for arm in arms}) == len(arms)


def test_the_goals_speak_of_arms_that_are_there() -> None:
    assert roles_of(MAIN).full == FULL.name
    assert roles_of((BASE, LOCAL, DEFAULT, PERSONAL)).full == PERSONAL.name


@pytest.mark.parametrize("arm", [arm for arm in ALL if arm.in_rounds], ids=lambda arm: arm.name)
def test_an_arm_spends_the_budget_and_no_more(arm: Arm) -> None:
    plan = Plan(rounds=6, steps=8)
    shared, cohort, personal = plan.shares(arm, 10)
    assert plan.rounds * (shared + cohort) + personal == plan.budget(10) == 48


def test_steps_that_cannot_be_cut_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be cut into 4 parts"):
        Plan(steps=6).shares(FULL, 10)


def test_the_budget_follows_how_often_a_device_is_asked() -> None:
    assert Plan(rounds=8, steps=4, devices_per_round=5).budget(20) == 8
    assert Plan(rounds=8, steps=4, devices_per_round=50).budget(20) == 32


class CountingStack(StackedModel):
    """Counts the tokens that are trained on, by the first text of each device."""

    tokens: Counter[str]

    def count(self, jobs: Sequence[Job], config: TrainConfig, steps: int | None = None) -> None:
        for job in jobs:
            num = job.num_steps if steps is None else steps
            self.tokens[job.texts[0]] += num * config.batch_size * config.seq_len

    def train_shared(
        self, adapter: GlobalAdapter, jobs: Sequence[Job], config: TrainConfig, **more: Any
    ) -> Any:
        self.count(jobs, config)
        return super().train_shared(adapter, jobs, config, **more)

    def train_product(self, adapter: GlobalAdapter, jobs: Sequence[Job], config: TrainConfig) -> Any:
        self.count(jobs, config)
        return super().train_product(adapter, jobs, config)

    def train_personal(
        self, adapter: GlobalAdapter, jobs: Sequence[Job], config: TrainConfig, **more: Any
    ) -> list[Personal]:
        self.count(jobs, config, more["num_steps"])
        return super().train_personal(adapter, jobs, config, **more)


@pytest.mark.parametrize("arm", [arm for arm in ALL if not arm.encrypted], ids=lambda arm: arm.name)
def test_every_user_sees_equally_much_text_in_every_arm(nano: Base, arm: Arm) -> None:
    users, trainer = user_set(), Trainer(nano, PLAN)
    stack = CountingStack(nano, trainer.spec)
    stack.tokens = Counter()
    trainer.stack = stack

    result = train_and_measure(trainer, users, arm, RATES, 0)

    record, rows = record_from(result), rows_from(result)
    budget = 0 if arm is BASE else PLAN.rounds * PLAN.steps
    per_user = budget * PLAN.batch_size * PLAN.seq_len
    seen = [stack.tokens[device.corpus.train[0]] for device in users.federated]
    if arm is POOLED:
        assert sum(stack.tokens.values()) == per_user * len(users.federated)
    else:
        assert seen == [per_user] * len(users.federated)
    cold = sum(stack.tokens[device.corpus.train[0]] for device in users.cold)
    assert cold == (per_user * len(users.cold) if arm is LOCAL else 0), "cold-start users train nothing"
    assert record.steps_per_user == budget
    assert record.rounds == (PLAN.rounds if arm.in_rounds else 0)
    assert (record.bytes_up_per_device > 0) == (record.bytes_down_per_device > 0) == arm.in_rounds
    assert {row.user for row in rows} == {device.author for device in (*users.federated, *users.cold)}


def test_fedit_has_the_smallest_rank(trainer: Trainer) -> None:
    users = user_set()
    fitted = trainer.fit(FEDIT, users.federated, RATES, min_rank=users.min_rank, seed=0)
    assert fitted.adapter is not None
    assert fitted.adapter.spec.config.rank == users.min_rank == 4


def test_encryption_changes_what_quantisation_changes(trainer: Trainer) -> None:
    users = user_set()
    plain, sealed = (
        rows_from(train_and_measure(trainer, users, arm, RATES, 0)) for arm in (DEFAULT, DEFAULT_ENCRYPTED)
    )
    base = rows_from(train_and_measure(trainer, users, BASE, RATES, 0))
    apart = max(abs(a.bits_per_byte - b.bits_per_byte) for a, b in zip(plain, sealed, strict=True))
    moved = np.mean([a.bits_per_byte - b.bits_per_byte for a, b in zip(base, plain, strict=True)])
    assert all(row.encrypted for row in sealed)
    assert 0 < apart < 0.1 * moved, "another path was taken, and the outcome is the same but for rounding"
