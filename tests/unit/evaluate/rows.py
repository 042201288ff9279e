"""Synthetic rows and results whose answers are known."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

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
