"""What every device does for itself between rounds: it chooses a cohort and picks its lambda.

All of it is measured on held-out text and in batches of many devices, and nothing of it leaves the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.data import DemoDevice
from mimo_fed.model import LAMBDAS
from mimo_fed.model.cohort import choose
from mimo_fed.model.stack import Personal
from mimo_fed.simulate.school import Stack, held_out, with_scale

TOGETHER: Final = 64
"""devices measured at a time; bounds memory, not results"""


def choose_cohorts(
    stack: Stack,
    devices: Sequence[DemoDevice],
    shared: GlobalAdapter,
    cohorts: Mapping[str, GlobalAdapter],
    current: Mapping[str, str],
) -> dict[str, str]:
    """Let every device choose the cohort of least loss on its own held-out text.

    Args:
        stack: measures.
        devices: who chooses; devices that never took part may choose too.
        shared: the global adapter.
        cohorts: what there is to choose from, at least one.
        current: the cohort that a device is in; empty or missing: none.

    Returns:
        Per device name, the cohort chosen; near-equal losses leave it where it is.
    """
    chosen: dict[str, str] = {}
    for some in chunks(devices):
        texts = [held_out(device) for device in some]
        none: list[Personal | None] = [None] * len(some)
        losses = {
            name: stack.losses(texts, shared, [cohort] * len(some), none) for name, cohort in cohorts.items()
        }
        for at, device in enumerate(some):
            own = {name: measured[at].nats for name, measured in losses.items()}
            chosen[device.name] = choose(own, current=current.get(device.name) or None)
    return chosen


def pick_scales(
    stack: Stack,
    devices: Sequence[DemoDevice],
    shared: GlobalAdapter,
    cohorts: Mapping[str, GlobalAdapter],
    choices: Mapping[str, str],
    personals: Mapping[str, Personal],
) -> dict[str, Personal]:
    """Let every device that has a personal adapter pick its lambda: of least loss on its own held-out text.

    0 is among them, so that the personal adapter cannot hurt on that text. A tie goes to the smaller lambda.

    Returns:
        Per device name, the personal adapter with its new lambda.
    """
    picked: dict[str, Personal] = {}
    for some in chunks([device for device in devices if device.name in personals]):
        texts = [held_out(device) for device in some]
        over = [cohorts.get(choices.get(device.name, "")) for device in some]
        costs = [
            stack.losses(texts, shared, over, [with_scale(personals[d.name], scale) for d in some])
            for scale in LAMBDAS
        ]
        for at, device in enumerate(some):
            best = min(range(len(LAMBDAS)), key=lambda index: costs[index][at].nats)
            picked[device.name] = with_scale(personals[device.name], LAMBDAS[best])
    return picked


def chunks(devices: Sequence[DemoDevice], size: int = TOGETHER) -> Iterator[Sequence[DemoDevice]]:
    """Yield some devices at a time."""
    for low in range(0, len(devices), size):
        yield devices[low : low + size]
