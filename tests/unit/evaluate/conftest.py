"""One nano base for all evaluations, and a trainer of a few short steps."""

from __future__ import annotations

import pytest

from mimo_fed.evaluate.plan import Plan
from mimo_fed.evaluate.training import Trainer
from mimo_fed.model import Base, load_base

PLAN = Plan(rounds=2, steps=4, seeds=(0,), batch_size=1, seq_len=16, rates=(1e-2,), pooled_batch=4)


@pytest.fixture(scope="session")
def nano() -> Base:
    return load_base("mimo-nano")


@pytest.fixture
def trainer(nano: Base) -> Trainer:
    return Trainer(nano, PLAN)
