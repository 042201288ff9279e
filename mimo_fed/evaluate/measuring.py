"""Every user's test text under what an arm came to: bits per byte, and intents told rightly."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from mimo_fed.data import DemoDevice
from mimo_fed.data.weight import num_bytes
from mimo_fed.evaluate.arms import Arm
from mimo_fed.evaluate.records import Group, Row
from mimo_fed.evaluate.sets import UserSet
from mimo_fed.evaluate.training import Fitted, Tell, nobody
from mimo_fed.model.stack import StackedModel
from mimo_fed.simulate.personal import choose_cohorts, chunks

INTENT: Final = "\nintent: "
"""between what was said and what is meant"""
TEXTS_TOGETHER: Final = 512
"""texts that are scored at a time; bounds memory, not results"""


@dataclass(frozen=True)
class Question:
    """What a user said, and what was meant."""

    device: DemoDevice
    said: str
    intent: str


def settle(stack: StackedModel, fitted: Fitted, newcomers: Sequence[DemoDevice]) -> Fitted:
    """Let devices that never took part choose the cohort of least loss on their own validation text."""
    if not fitted.cohorts or fitted.adapter is None:
        return fitted
    chosen = choose_cohorts(stack, newcomers, fitted.adapter, fitted.cohorts, {})
    return replace(fitted, choices={**fitted.choices, **chosen})


def bits_per_byte(
    stack: StackedModel,
    fitted: Fitted,
    devices: Sequence[DemoDevice],
    *,
    validation: bool = False,
    tell: Tell = nobody,
) -> list[float]:
    """Return each device's bits per byte on its test text, or on its validation text."""
    found: list[float] = []
    for some in chunks(devices):
        texts = [d.corpus.validation if validation else d.corpus.test for d in some]
        losses = stack.losses(
            texts,
            fitted.adapter,
            [fitted.over(device) for device in some],
            [fitted.personals.get(device.name) for device in some],
        )
        found += [loss.bits_per_byte for loss in losses]
        tell(float(sum(loss.tokens for loss in losses)))
    return found


def questions_of(device: DemoDevice, most: int) -> list[Question]:
    """Return some of a device's test items, the same in every arm and for every seed."""
    items = [text.rpartition(INTENT) for text in device.corpus.test]
    asked = [Question(device, said, intent) for said, sign, intent in items if sign]
    if len(asked) > most:
        asked = random.Random(device.author).sample(asked, most)  # noqa: S311 - a draw to be repeated
    return asked


def accuracies(
    stack: StackedModel,
    fitted: Fitted,
    devices: Sequence[DemoDevice],
    labels: Sequence[str],
    most: int,
    *,
    tell: Tell = nobody,
) -> list[float | None]:
    """Return for each device the share of its questions whose own intent costs least among all labels.

    What was said is the same before every label, so comparing whole texts compares what follows it.

    Args:
        stack: measures.
        fitted: what the arm came to.
        devices: whose.
        labels: of all intents.
        most: questions a device is asked.
        tell: told of progress.

    Returns:
        None for a device without any question.
    """
    questions = [question for device in devices for question in questions_of(device, most)]
    pairs = [(q, f"{q.said}{INTENT}{label}") for q in questions for label in labels]
    nats: list[float] = []
    for low in range(0, len(pairs), TEXTS_TOGETHER):
        some = pairs[low : low + TEXTS_TOGETHER]
        losses = stack.losses(
            [[text] for _, text in some],
            fitted.adapter,
            [fitted.over(q.device) for q, _ in some],
            [fitted.personals.get(q.device.name) for q, _ in some],
        )
        nats += [loss.nats for loss in losses]
        tell(float(sum(loss.tokens for loss in losses)))
    right: dict[str, list[bool]] = {}
    for question, costs in zip(questions, np.reshape(nats, (-1, len(labels))), strict=True):
        told = labels[int(np.argmin(costs))]
        right.setdefault(question.device.name, []).append(told == question.intent)
    return [float(np.mean(right[d.name])) if d.name in right else None for d in devices]


def rows_of(
    stack: StackedModel,
    arm: Arm,
    fitted: Fitted,
    users: UserSet,
    *,
    base: str,
    seed: int,
    intents_per_user: int,
    tell: Tell = nobody,
) -> list[Row]:
    """Measure every user that took part, and every cold-start user."""
    rows: list[Row] = []
    groups: tuple[tuple[Group, tuple[DemoDevice, ...]], ...] = (
        ("federated", users.federated),
        ("cold", users.cold),
    )
    for group, devices in groups:
        bits = bits_per_byte(stack, fitted, devices, tell=tell)
        right: list[float | None] = [None] * len(devices)
        if users.labels:
            right = accuracies(stack, fitted, devices, users.labels, intents_per_user, tell=tell)
        rows += [
            Row(
                dataset=users.name,
                base=base,
                arm=arm.name,
                seed=seed,
                user=device.author,
                group=group,
                language=device.language,
                device_class=device.device_class,
                rank=device.rank,
                train_bytes=num_bytes(device.corpus.train),
                test_bytes=num_bytes(device.corpus.test),
                bits_per_byte=bits[at],
                accuracy=right[at],
                encrypted=arm.encrypted,
            )
            for at, device in enumerate(devices)
        ]
    return rows
