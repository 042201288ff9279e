"""How a planted client trains: full-batch least squares, Adam on what the phase trains, fresh each round.

The gradient of the loss by dW is G = (dW - teacher) S; by X it is G right^T, left^T G or left^T G right^T,
and G is never formed. All R columns take part in the forward pass and the prefix of the
device's rank moves, as on a device.

Shapes: out and inp of the module, R rank of the adapter, r that of the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from mimo_fed.adapter import GlobalAdapter, prefix
from mimo_fed.bench.planted_task import F32, MODULE, Client
from mimo_fed.config import Phase

Values = dict[str, F32]
Gradient = Callable[[Values], Values]
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def train(
    adapter: GlobalAdapter,
    phase: Phase,
    clients: Sequence[Client],
    rank: int,
    rate: float,
    num_steps: int,
) -> Values:
    """Train what a phase trains.

    Args:
        adapter: what training starts from.
        phase: which factor moves.
        clients: one device, or several whose losses are added by their weights, as if pooled.
        rank: how much of X moves.
        rate: Adam's.
        num_steps: how often.

    Returns:
        Per part name, float32, the whole X afterwards, shape (rows, cols); its prefix has moved.
    """
    total = sum(client.weight for client in clients)
    slopes = [(gradient_of(adapter, phase, client), client.weight / total) for client in clients]

    def gradient(values: Values) -> Values:
        each = [(slope(values), share) for slope, share in slopes]
        return {name: _f32(sum(share * one[name] for one, share in each)) for name in values}

    masks = {}
    for part in adapter.spec.parts(phase):
        masks[part.name] = np.zeros((part.rows, part.cols), np.float32)
        prefix(part, masks[part.name], rank)[...] = 1
    return adam(adapter.values(phase), gradient, masks, rate, num_steps)


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


def gradient_of(adapter: GlobalAdapter, phase: Phase, client: Client) -> Gradient:
    """Return the gradient of a client's loss by X; what does not change is multiplied out once."""
    left, right = adapter.left[MODULE], adapter.right[MODULE]
    if phase == "AB":
        return partial(_both, client)
    square_RR = left.T @ left
    if phase == "A":
        aim_RI = (left.T @ client.tall) @ client.wide_spread
        return lambda x: {f"{MODULE}.A": _f32(square_RR @ client.spread(x[f"{MODULE}.A"]) - aim_RI)}
    seen_RR = client.spread(right) @ right.T
    aim_OR = client.tall @ (client.wide_spread @ right.T)
    if phase == "B":
        return lambda x: {f"{MODULE}.B": _f32(x[f"{MODULE}.B"] @ seen_RR - aim_OR)}
    aim_RR = left.T @ aim_OR
    return lambda x: {f"{MODULE}.M": square_RR @ x[f"{MODULE}.M"] @ seen_RR - aim_RR}


def _both(client: Client, values: Values) -> Values:
    b, a = values[f"{MODULE}.B"], values[f"{MODULE}.A"]
    spread_RI = client.spread(a)
    return {
        f"{MODULE}.B": b @ (spread_RI @ a.T) - client.tall @ (client.wide @ spread_RI.T),
        f"{MODULE}.A": (b.T @ b) @ spread_RI - (b.T @ client.tall) @ client.wide_spread,
    }


def _f32(values: Any) -> F32:
    return np.asarray(values, np.float32)
