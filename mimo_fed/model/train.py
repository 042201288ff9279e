# mypy: disable-error-code="no-untyped-call"
"""Training steps on a device: packing little text into full batches, and the loop around AdamW."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mimo_fed.errors import DataError, MimoFedError
from mimo_fed.model.loss import decoder_output, encode

Float32 = NDArray[np.float32]
Progress = Callable[[int, int, float], None]
"""called after each step with (steps done, steps in all, nats per token of the step)"""
Stop = Callable[[], bool]
"""polled before each step; True ends training"""


class TrainingStopped(MimoFedError):
    """Training was asked to stop; the model is as it was before it began."""

    code = "train.stopped"


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What a stretch of training did."""

    loss_before: float
    """nats per token, on the held-out text, or else on the first batch"""
    loss_after: float
    """nats per token, on the same text"""
    num_tokens: int
    """trained on"""
    seconds: float
    """wall time"""


@dataclass(frozen=True, kw_only=True)
class GlobalDelta(TrainReport):
    """What a device learnt for all: the change of the global B factors."""

    delta: dict[str, Float32]
    """by module, shape (out, rank)"""


def batches(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, batch_size: int, seq_len: int, seed: int
) -> Iterator[torch.Tensor]:
    """Yield batches without end: int64, shape (batch_size, seq_len + 1), the last column only a target.

    The texts follow one another in a random order, each after an end-of-sequence token, and start over in a
    new order when they are used up, so that a device with little text still fills its batches.

    Raises:
        DataError: there is no text to train on.
    """
    encoded = [ids for text in texts if (ids := encode(tokenizer, text))]
    if not encoded:
        raise DataError("there is no text to train on", hint="the corpus has an empty training split")
    generator = np.random.default_rng(seed)
    needed = batch_size * (seq_len + 1)
    stream: list[int] = []
    while True:
        while len(stream) < needed:
            for index in generator.permutation(len(encoded)):
                stream += [tokenizer.eos_token_id, *encoded[index]]
                if len(stream) >= needed:
                    break
        yield torch.tensor(stream[:needed]).reshape(batch_size, seq_len + 1)
        del stream[:needed]


def batch_loss(model: PreTrainedModel, rows_BT: torch.Tensor) -> torch.Tensor:
    """Mean nats per token of a batch as `batches` yields it."""
    rows_BT = rows_BT.to(model.device)
    hidden = decoder_output(model, rows_BT[:, :-1])
    head = model.get_output_embeddings()
    return functional.cross_entropy(head(hidden).flatten(0, 1).float(), rows_BT[:, 1:].flatten())


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `run_steps` does: AdamW with a fresh state on some parameters."""

    parameters: Sequence[nn.Parameter]
    num_steps: int
    learning_rate: float
    weight_decay: float = 0.0
    before_step: Callable[[int], None] = lambda step: None
    """called with the step's index before its forward pass; picks the branches"""
    after_backward: Callable[[], None] = lambda: None
    """called when the gradients are there; masks them"""


def run_steps(
    model: PreTrainedModel,
    stream: Iterator[torch.Tensor],
    plan: Plan,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> int:
    """Take the steps of `plan` on batches from `stream`; returns the number of tokens trained on.

    Raises:
        TrainingStopped: `stop` said so; parameters are as the last whole step left them.
    """
    optimizer = torch.optim.AdamW(
        plan.parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    num_tokens = 0
    for step in range(plan.num_steps):
        if stop is not None and stop():
            raise TrainingStopped(f"training was stopped before step {step + 1} of {plan.num_steps}")
        plan.before_step(step)
        rows_BT = next(stream)
        loss = batch_loss(model, rows_BT)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        plan.after_backward()
        optimizer.step()
        num_tokens += rows_BT.shape[0] * (rows_BT.shape[1] - 1)
        if progress is not None:
            progress(step + 1, plan.num_steps, float(loss.detach()))
    return num_tokens


class Stopwatch:
    """Wall time since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._started
