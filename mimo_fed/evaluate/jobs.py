"""The jobs of an evaluation: tune an arm, or train and measure it under one seed; each is kept when done.

A job's result is a file named by everything that it depends on: the base, the users and their texts, the
settings, the arm, the rates, the seed. So a run that was cut short, or is run again with more arms or seeds,
finds what it has, and never takes up what other settings gave.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

from mimo_fed.config import PrivacyConfig, ScheduleConfig, TrainConfig
from mimo_fed.evaluate.arms import Arm
from mimo_fed.evaluate.measuring import rows_of, settle
from mimo_fed.evaluate.plan import Plan, Rates
from mimo_fed.evaluate.records import ArmRecord, Json, Row
from mimo_fed.evaluate.sets import UserSet
from mimo_fed.evaluate.training import Tell, Trainer, nobody
from mimo_fed.evaluate.tune import tune

FORMAT: Final = "mimo-fed evaluation job 2"
FOLDER: Final = "jobs"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job.

    Attributes:
        kind: "tune" chooses an arm's rates; "train" trains and measures it.
        arm: which.
        seed: of a training.
        rates: of a training.
    """

    kind: Literal["tune", "train"]
    arm: Arm
    seed: int = 0
    rates: Rates | None = None

    @property
    def title(self) -> str:
        """What people read."""
        return f"{self.arm.name}: rates" if self.kind == "tune" else f"{self.arm.name}, seed {self.seed}"


class Kept:
    """Results of jobs in a folder.

    Args:
        folder: of the run; made if missing.
        base: fingerprint of the base.
        users: of the evaluation.
        plan: the settings; which seeds there are in all does not matter to a job.
    """

    def __init__(self, folder: Path, base: str, users: UserSet, plan: Plan) -> None:
        self._folder = folder / FOLDER
        fixed = [asdict(kind()) for kind in (ScheduleConfig, TrainConfig, PrivacyConfig)]
        world = [FORMAT, base, users.name, users.digest, replace(plan, seeds=(0,)).to_json(), fixed]
        self._world = json.dumps(world, sort_keys=True)

    def load(self, job: Job) -> Json | None:
        """Return a job's result, if there is one."""
        path = self._path(job)
        if not path.exists():
            return None
        found: Json = json.loads(path.read_text(encoding="utf-8"))
        return found

    def save(self, job: Job, result: Json) -> None:
        """Keep a job's result: whole or not at all."""
        path = self._path(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(result, allow_nan=False), encoding="utf-8")
        part.replace(path)

    def _path(self, job: Job) -> Path:
        settings = {key: value for key, value in asdict(job.arm).items() if key != "says"}
        raw = json.dumps(
            [self._world, job.kind, settings, job.seed, job.rates and asdict(job.rates)], sort_keys=True
        )
        key = hashlib.sha256(raw.encode()).hexdigest()[:16]
        name = "".join(c if c.isalnum() or c == "+" else "-" for c in job.arm.name)
        return self._folder / f"{job.kind}.{name}.{job.seed}.{key}.json"


def perform(trainer: Trainer, users: UserSet, job: Job, *, tell: Tell = nobody) -> Json:
    """Do a job; the result is plain values."""
    if job.kind == "tune":
        return tune(trainer, job.arm, users, tell=tell).to_json()
    assert job.rates is not None  # noqa: S101 - for the type checker
    return train_and_measure(trainer, users, job.arm, job.rates, job.seed, tell=tell)


def train_and_measure(
    trainer: Trainer, users: UserSet, arm: Arm, rates: Rates, seed: int, *, tell: Tell = nobody
) -> Json:
    """Train an arm on the federated users, and measure it on them and on the cold-start users.

    A cold-start user gets what is shared, and the cohort that costs least on its validation text, untrained.
    Training alone is the exception: there they train on their own text, for comparison.
    """
    plan, devices = trainer.plan, users.federated
    fitted = trainer.fit(
        arm,
        devices,
        rates,
        cohorts=users.languages(devices, plan.n_min),
        min_rank=users.min_rank,
        seed=seed,
        tell=tell,
    )
    if arm.has_personal:
        who = (*devices, *users.cold) if arm.kind == "local" else devices
        _, _, num_steps = plan.shares(arm, len(devices))
        fitted = trainer.personalise(fitted, who, rates, num_steps, seed=seed, tell=tell)
    fitted = settle(trainer.stack, fitted, users.cold)
    rows = rows_of(
        trainer.stack,
        arm,
        fitted,
        users,
        base=trainer.base.name,
        seed=seed,
        intents_per_user=plan.intents_per_user,
        tell=tell,
    )
    record = ArmRecord(
        arm=arm.name,
        seed=seed,
        steps_per_user=float(plan.budget(len(devices)) if arm.parts else 0),
        learning_rate=_rate(arm, rates),
        rounds=plan.rounds if arm.in_rounds else 0,
        bytes_up_per_device=fitted.bytes_up,
        bytes_down_per_device=fitted.bytes_down,
        device_cpu_s=fitted.cpu_s,
        history=tuple(fitted.history),
    )
    return {"rows": [asdict(row) for row in rows], "record": asdict(record)}


def _rate(arm: Arm, rates: Rates) -> float:
    """Return the rate that is shown for an arm: that of what is shared, if anything is."""
    if not arm.parts:
        return 0.0
    return rates.personal if arm.kind == "local" else rates.shared


def rows_from(result: Json) -> list[Row]:
    """Read the rows of a training's result."""
    return [Row(**row) for row in result["rows"]]


def record_from(result: Json) -> ArmRecord:
    """Read the record of a training's result."""
    raw = result["record"]
    return ArmRecord(**{**raw, "history": tuple(raw["history"])})
