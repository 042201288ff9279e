"""What a run will take: tokens of every job, and how many of them this machine gets through in a second."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.data import DemoDevice
from mimo_fed.data.weight import num_bytes
from mimo_fed.evaluate.jobs import Job
from mimo_fed.evaluate.measuring import questions_of
from mimo_fed.evaluate.plan import Plan, Rates
from mimo_fed.evaluate.sets import UserSet
from mimo_fed.evaluate.training import Trainer
from mimo_fed.model import LAMBDAS
from mimo_fed.model.stack import Job as Lesson

ENCRYPTION: Final = 1.5
"""about how much longer rounds with encryption take on a small base"""
PROBE_S: Final = 3.0
"""about how long a probe takes"""
_MOST: Final = 32


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What one worker gets through.

    Attributes:
        trained: tokens a second, forward and backward.
        measured: tokens a second, forward alone.
        tokens_per_byte: of the set's text.
    """

    trained: float
    measured: float
    tokens_per_byte: float


def probe(trainer: Trainer, users: UserSet) -> Speed:
    """Train and measure a little, and see how long it takes."""
    plan, zero, none = trainer.plan, GlobalAdapter.zero(trainer.spec), [None]
    config = plan.train(1, Rates(shared=1e-3, personal=1e-3))

    def train(devices: Sequence[DemoDevice]) -> float:
        texts = [device.corpus.train for device in devices]
        jobs = [Lesson(texts=t, seed=0, rank=1, num_steps=1, personal=None, cohort=None) for t in texts]
        started = time.perf_counter()
        trainer.stack.train_shared(zero, jobs, config)
        return time.perf_counter() - started

    train(users.federated[:1])
    num = min(len(users.federated), max(1, int(PROBE_S / train(users.federated[:1]))), _MOST)
    trained_s = train(users.federated[:num])
    texts = [device.corpus.validation[:1] for device in users.federated[:num]]
    started = time.perf_counter()
    losses = trainer.stack.losses(texts, zero, none * num, none * num)
    measured_s = time.perf_counter() - started
    tokens = sum(loss.tokens for loss in losses)
    return Speed(
        trained=num * plan.batch_size * plan.seq_len / trained_s,
        measured=tokens / measured_s,
        tokens_per_byte=tokens / max(1, sum(loss.num_bytes for loss in losses)),
    )


def seconds(job: Job, users: UserSet, plan: Plan, speed: Speed) -> float:
    """Return about how long a job takes one worker."""
    if job.kind == "tune":
        return _tuning(job, users, plan, speed)
    trained, arm = _trained(job, users.federated, plan), job.arm
    if arm.kind == "local":
        trained += _trained(job, users.cold, plan)
    everyone = (*users.federated, *users.cold)
    read = _bytes(everyone, "test")
    if arm.has_personal:
        read += len(LAMBDAS) * _bytes(everyone if arm.kind == "local" else users.federated, "validation")
    if arm.has_cohorts:
        read += len(users.languages(users.federated, plan.n_min)) * _bytes(users.cold, "validation")
    for device in everyone if users.labels else ():
        asked = questions_of(device, plan.intents_per_user)
        read += len(users.labels) * sum(len(q.said.encode()) + 24 for q in asked)
    factor = ENCRYPTION if arm.encrypted else 1.0
    return factor * trained / speed.trained + read * speed.tokens_per_byte / speed.measured


def _tuning(job: Job, users: UserSet, plan: Plan, speed: Speed) -> float:
    trained, read = _trained(job, users.tuning, plan), _bytes(users.tuning, "validation")
    if job.arm.has_personal:
        read *= 1 + len(LAMBDAS)
    return len(plan.rates) * (trained / speed.trained + read * speed.tokens_per_byte / speed.measured)


def _trained(job: Job, devices: Sequence[DemoDevice], plan: Plan) -> float:
    """Return tokens that these devices train on: as many in every arm that trains."""
    budget = plan.budget(max(1, len(devices))) if job.arm.parts else 0
    return float(len(devices) * budget * plan.batch_size * plan.seq_len)


def _bytes(devices: Sequence[DemoDevice], split: str) -> int:
    return sum(num_bytes(getattr(device.corpus, split)) for device in devices)
