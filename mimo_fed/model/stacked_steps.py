# mypy: disable-error-code="no-untyped-call"
"""Training steps of many devices at once: one forward and backward pass, one AdamW, all in lockstep.

The cost is the sum over devices of each one's own mean, so that every gradient is the device's own. A device
with fewer steps is read when it has taken them, and leaves the pass: devices come in descending order of
steps, and those that still train are the first ones.

Shapes: N devices of a pass, B rows of one of them, T tokens of a row, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from mimo_fed.model.loss import decoder_output
from mimo_fed.model.stacked_pass import StackedPass

LOGITS = 1 << 20
"""about so many logits exist at once, 4 MB: they stay in the processor's cache"""
HEAD_ROWS = 256
"""but never those of fewer tokens: the head of a large vocabulary is read once for so many"""


@dataclass(frozen=True, kw_only=True)
class StackedPlan:
    """What `run_lockstep` does."""

    stacked: StackedPass
    num_steps: Sequence[int]
    """of each device, descending"""
    learning_rate: float
    weight_decay: float = 0.0
    finished: Callable[[int], None] = lambda row: None
    """called with the index of a device that has taken its last step, before it leaves"""
    after_step: Callable[[Sequence[float]], None] = lambda nats: None
    """called with each device's nats per token"""


def run_lockstep(
    model: PreTrainedModel, streams: Sequence[Iterator[torch.Tensor]], plan: StackedPlan
) -> list[float]:
    """Take every device's steps on batches of its own stream.

    Returns:
        Each device's nats per token of its first batch, before its step; 0 if it took none.
    """
    first = [0.0] * len(streams)
    optimizer = _adamw(plan)
    left = len(streams)
    for step in range(plan.num_steps[0] + 1):
        num_devices = sum(own > step for own in plan.num_steps)
        for row in range(num_devices, left):
            plan.finished(row)
        if num_devices == 0:
            break
        if num_devices < left:
            optimizer = _narrowed(optimizer, plan, num_devices)
            left = num_devices
        plan.stacked.before_step(step, num_devices)
        rows_NBT = torch.stack([next(stream) for stream in streams[:num_devices]])
        optimizer.zero_grad(set_to_none=True)
        nats = step_gradients(model, rows_NBT)
        optimizer.step()
        if step == 0:
            first[:num_devices] = nats
        plan.after_step(nats)
    return first


def step_gradients(model: PreTrainedModel, rows_NBT: torch.Tensor) -> list[float]:
    """Add up the gradients of every device's mean nats per token, and return these means.

    Args:
        model: with the branches of N devices mounted.
        rows_NBT: int64, the last column only a target.
    """
    num_devices, num_rows, length = rows_NBT.shape
    rows = rows_NBT.flatten(0, 1).to(model.device)
    hidden = decoder_output(model, rows[:, :-1])
    cost, gradient = head_cost(model, hidden.detach().flatten(0, 1), rows[:, 1:].flatten(), gradient=True)
    assert gradient is not None  # noqa: S101 - for the type checker
    num_tokens = num_rows * (length - 1)
    hidden.backward((gradient / num_tokens).view_as(hidden))
    means: list[float] = (cost.view(num_devices, -1).double().sum(1) / num_tokens).tolist()
    return means


def head_cost(
    model: PreTrainedModel, states_XH: torch.Tensor, targets_X: torch.Tensor, *, gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the nats of each target and, if asked for, their gradient on the states before the frozen head.

    A few logits exist at a time: with e = exp(logit - max) and s = sum e, nats are log s less the target's
    own, and the gradient is (e W) / s less the target's row of W.
    """
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Linear)  # noqa: S101 - for the type checker
    weight_VH = head.weight.detach()
    size = max(HEAD_ROWS, LOGITS // len(weight_VH))
    costs, gradients = [], []
    with torch.no_grad():
        for states, wanted in zip(states_XH.split(size), targets_X.split(size), strict=True):
            logits = head(states)
            logits -= logits.amax(1, keepdim=True)
            own = logits.gather(1, wanted[:, None])
            total = logits.exp_().sum(1, keepdim=True)
            costs.append((total.log() - own)[:, 0])
            if gradient:
                gradients.append(logits @ weight_VH / total - weight_VH[wanted])
    return torch.cat(costs), torch.cat(gradients) if gradient else None


def _adamw(plan: StackedPlan) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        plan.stacked.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )


def _narrowed(optimizer: torch.optim.AdamW, plan: StackedPlan, num_devices: int) -> torch.optim.AdamW:
    """Keep the first devices' parameters, and what AdamW remembers of them."""
    old = plan.stacked.parameters()
    plan.stacked.narrow(num_devices)
    narrowed = _adamw(plan)
    for before, now in zip(old, plan.stacked.parameters(), strict=True):
        state = optimizer.state.get(before, {})
        narrowed.state[now] = {
            name: value[:num_devices].clone() if value.ndim else value.clone()
            for name, value in state.items()
        }
    return narrowed
