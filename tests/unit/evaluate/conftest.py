"""One nano base for all evaluations, and a trainer of a few short steps; torch is loaded for these alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mimo_fed.evaluate.plan import Plan

if TYPE_CHECKING:
    from mimo_fed.evaluate.training import Trainer
    from mimo_fed.model import Base

PLAN = Plan(rounds=2, steps=4, seeds=(0,), batch_size=1, seq_len=16, rates=(1e-2,), pooled_batch=4)


@pytest.fixture(scope="session")
def nano() -> Base:
    from mimo_fed.model import load_base

    return load_base("mimo-nano")


@pytest.fixture
def trainer(nano: Base) -> Trainer:
    from mimo_fed.evaluate.training import Trainer

    return Trainer(nano, PLAN)
