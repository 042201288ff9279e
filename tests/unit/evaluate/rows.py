"""Synthetic rows and results whose answers are known."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

from mimo_fed.evaluate.findings import Findings, compute
from mimo_fed.evaluate.records import ArmRecord, Results, Roles, Row

ROLES = Roles(base="base", local="local", shared="global", cold="global + cohort", full="full")


def user_name(index: int) -> str:
    return hashlib.sha256(str(index).encode()).hexdigest()[:12]


def row(index: int = 0, **changes: Any) -> Row:
    """A row of user `index`; a language for every fourth, a class for every third."""
    fields: dict[str, Any] = {
        "dataset": "synthetic",
        "base": "mimo-nano",
        "arm": "base",
        "seed": 0,
        "user": user_name(index),
        "group": "federated",
        "language": ("de", "en", "it", "pt-BR")[index % 4],
        "device_class": ("watch", "phone", "car")[index % 3],
        "rank": (4, 8, 16)[index % 3],
        "train_bytes": 1000 + 10 * index,
        "test_bytes": 500,
        "bits_per_byte": 2.0,
        "accuracy": None,
        "encrypted": False,
    }
    return Row(**{**fields, **changes})


def rows_of(arm: str, values: Sequence[float], *, first: int = 0, **changes: Any) -> list[Row]:
    """One row per value, for users `first`, `first` + 1 and so on."""
    return [row(first + i, arm=arm, bits_per_byte=v, **changes) for i, v in enumerate(values)]


def arm_record(arm: str = "base", seed: int = 0, **changes: Any) -> ArmRecord:
    fields: dict[str, Any] = {
        "arm": arm,
        "seed": seed,
        "steps_per_user": 24,
        "learning_rate": 1e-3,
        "rounds": 0,
        "bytes_up_per_device": 0.0,
        "bytes_down_per_device": 0.0,
        "device_cpu_s": 0.0,
    }
    return ArmRecord(**{**fields, **changes})


def results(*arms: ArmRecord, **changes: Any) -> Results:
    made = Results(
        dataset="synthetic",
        base="mimo-nano",
        command="mimo-fed evaluate synthetic --base mimo-nano",
        roles=ROLES,
        settings={"rounds": 4},
        provenance={"package": "none", "licence": "CC0-1.0"},
        arms=arms or (arm_record(),),
        versions={"python": "3.11"},
        machine={"processor": "a processor"},
    )
    return dataclasses.replace(made, **changes)


def whole(**changes: Any) -> Findings:
    """A whole evaluation with known figures: 20 federated users in four languages, 8 cold ones, five arms.

    full beats local for 16 of 20 users.
    """
    level = [2.0 + 0.01 * i for i in range(20)]
    rows = [
        *rows_of("base", [v + 1.0 for v in level]),
        *rows_of("local", level),
        *rows_of("global", [v - 0.1 for v in level]),
        *rows_of("global + cohort", [v - 0.2 for v in level]),
        *rows_of("full", [v - 0.03 * (i + 1) if i < 16 else v + 0.25 for i, v in enumerate(level)]),
    ]
    for arm, shift in (("base", 1.0), ("global", 0.5), ("global + cohort", 0.25)):
        rows += rows_of(arm, [2.0 + shift] * 8, first=100, group="cold")
    history = tuple({"round": n, "cohort": "", "loss_before": 4.0 - 0.1 * n} for n in range(1, 9))
    arms = [arm_record("base", learning_rate=0.0, steps_per_user=0), arm_record("local")]
    for size, arm in enumerate(("global", "global + cohort", "full"), 1):
        arms.append(arm_record(arm, rounds=8, bytes_up_per_device=1e6 * size, history=history))
    return compute(results(*arms, **changes), rows)
