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
_PROBED: Final = 32
_PROBE_TOKENS: Final = 4096


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
    plan = trainer.plan
    step = plan.batch_size * plan.seq_len
    devices = users.federated[: max(2, min(_PROBED, _PROBE_TOKENS // step))]
    zero = GlobalAdapter.zero(trainer.spec)
    jobs = [
        Lesson(texts=d.corpus.train, seed=0, rank=1, num_steps=1, personal=None, cohort=None) for d in devices
    ]
    config = plan.train(1, Rates(shared=1e-3, personal=1e-3))
    trainer.stack.train_shared(zero, jobs[:1], config)
    started = time.perf_counter()
    trainer.stack.train_shared(zero, jobs, config)
    trained_s = time.perf_counter() - started
    texts = [device.corpus.validation[:2] for device in devices]
    none = [None] * len(devices)
    started = time.perf_counter()
    losses = trainer.stack.losses(texts, zero, none, none)
    measured_s = time.perf_counter() - started
    tokens = sum(loss.tokens for loss in losses)
    return Speed(
        trained=len(jobs) * step / max(trained_s, 1e-6),
        measured=tokens / max(measured_s, 1e-6),
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
