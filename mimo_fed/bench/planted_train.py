"""How a planted client trains: full-batch least squares, Adam on what the phase trains, fresh each round.

The loss is |inputs dW^T - targets|^2 / 2T. All R columns take part in the forward pass and the prefix of the
device's rank moves, as on a device.

Shapes: T inputs of a client, out and inp of the module, R rank of the adapter, r that of the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import GlobalAdapter, prefix
from mimo_fed.bench.planted_task import F32, MODULE, Client
from mimo_fed.config import Phase

Values = dict[str, F32]
Gradient = Callable[[Values], Values]
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def train(
    adapter: GlobalAdapter, phase: Phase, client: Client, rank: int, rate: float, num_steps: int
) -> Values:
    """Train what a phase trains.

    Returns:
        Per part name, float32, the whole X afterwards, shape (rows, cols); its prefix has moved.
    """
    start = adapter.values(phase)
    gradient = _gradient(adapter, phase, client)
    masks = {}
    for part in adapter.spec.parts(phase):
        masks[part.name] = np.zeros((part.rows, part.cols), np.float32)
        prefix(part, masks[part.name], rank)[...] = 1
    return adam(start, gradient, masks, rate, num_steps)


def adam(start: Values, gradient: Gradient, masks: Mapping[str, F32], rate: float, num_steps: int) -> Values:
    """Take Adam steps from fresh moments where the masks are 1."""
    values = {name: value.copy() for name, value in start.items()}
    first = {name: np.zeros_like(value) for name, value in start.items()}
    second = {name: np.zeros_like(value) for name, value in start.items()}
    for step in range(1, num_steps + 1):
        for name, slope in gradient(values).items():
            slope = _f32(slope * masks[name])
            first[name] += (1 - BETA1) * (slope - first[name])
            second[name] += (1 - BETA2) * (slope * slope - second[name])
            root = np.sqrt(second[name] / (1 - BETA2**step)) + EPS
            values[name] -= _f32(rate / (1 - BETA1**step) * first[name] / root)
    return values


def _gradient(adapter: GlobalAdapter, phase: Phase, client: Client) -> Gradient:
    """Return the gradient of the loss by X; what does not change is multiplied out once."""
    left, right = adapter.left[MODULE], adapter.right[MODULE]
    count = float(len(client.inputs))
    if phase == "AB":
        return lambda values: _both(values, client, count)
    if phase == "A":
        square_RR = left.T @ left
        aim_RI = (client.targets @ left).T @ client.inputs / count

        def by_a(values: Values) -> Values:
            x = values[f"{MODULE}.A"]
            spread_RI = (client.inputs @ x.T).T @ client.inputs / count
            return {f"{MODULE}.A": _f32(square_RR @ spread_RI - aim_RI)}

        return by_a
    seen_TR = client.inputs @ right.T
    square_RR = seen_TR.T @ seen_TR / count
    aim_OR = client.targets.T @ seen_TR / count
    if phase == "B":
        return lambda values: {f"{MODULE}.B": _f32(values[f"{MODULE}.B"] @ square_RR - aim_OR)}
    inner_RR, aim_RR = left.T @ left, left.T @ aim_OR
    return lambda values: {f"{MODULE}.M": _f32(inner_RR @ values[f"{MODULE}.M"] @ square_RR - aim_RR)}


def _both(values: Values, client: Client, count: float) -> Values:
    b, a = values[f"{MODULE}.B"], values[f"{MODULE}.A"]
    seen_TR = client.inputs @ a.T
    missed_TO = seen_TR @ b.T - client.targets
    return {
        f"{MODULE}.B": _f32(missed_TO.T @ seen_TR / count),
        f"{MODULE}.A": _f32((missed_TO @ b).T @ client.inputs / count),
    }


def _f32(values: NDArray[np.floating[Any]]) -> F32:
    return values.astype(np.float32, copy=False)
