# mypy: disable-error-code="no-untyped-call"
"""Training steps on a device: packing little text into full batches, and the loop around AdamW."""

from __future__ import annotations

import ctypes
import functools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mimo_fed.errors import DataError, MimoFedError
from mimo_fed.model.loss import decoder_output, encode

Progress = Callable[[int, int, float], None]
"""called after each step with (steps done, steps in all, nats per token of the step)"""
Stop = Callable[[], bool]
"""polled before each step; True ends training"""


MICRO_TOKENS = 258
"""most tokens in one forward and backward pass: two rows of 128 and their targets"""
HEAD_TOKENS = 64
"""positions whose logits exist at once"""


class TrainingStopped(MimoFedError):
    """Training was asked to stop; the model is as it was before it began."""

    code = "train.stopped"


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What `run_steps` did."""

    num_tokens: int
    first_loss: float
    """nats per token of the first batch before its step; 0 if there was no step"""


def batches(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    batch_size: int,
    seq_len: int,
    seed: int | Sequence[int],
) -> Iterator[torch.Tensor]:
    """Yield batches without end: int64, shape (batch_size, seq_len + 1), the last column only a target.

    The texts follow one another in a random order, each after an end-of-sequence token, and start over in a
    new order when they are used up, so that a device with little text still fills its batches.

    Raises:
        DataError: there is no text to train on.
    """
    eos: int = tokenizer.eos_token_id
    encoded = (encode(tokenizer, text) for text in texts)
    yield from pack(encoded, eos, batch_size=batch_size, seq_len=seq_len, seed=seed)


def pack(
    encoded: Iterable[Sequence[int]],
    eos: int,
    *,
    batch_size: int,
    seq_len: int,
    seed: int | Sequence[int],
) -> Iterator[torch.Tensor]:
    """Do what `batches` does with the tokens of the texts; `eos` is the end-of-sequence token.

    Raises:
        DataError: there is no token to train on.
    """
    known = [ids for ids in encoded if len(ids)]
    if not known:
        raise DataError("there is no text to train on", hint="the corpus has an empty training split")
    generator = np.random.default_rng(seed)
    needed = batch_size * (seq_len + 1)
    stream: list[int] = []
    while True:
        while len(stream) < needed:
            for index in generator.permutation(len(known)):
                stream += [eos, *known[index]]
                if len(stream) >= needed:
                    break
        yield torch.tensor(stream[:needed]).reshape(batch_size, seq_len + 1)
        del stream[:needed]


def batch_loss(model: PreTrainedModel, rows_BT: torch.Tensor, *, backward: bool) -> float:
    """Return the mean nats per token of a batch of `batches`; with `backward`, add up its gradients.

    Logits are large (a batch times the vocabulary), so they exist for a few tokens at a time; what flows back
    from them is gathered before it goes on into the decoder. Rows run a few at a time for the same reason.
    """
    total = 0.0
    for rows in rows_BT.to(model.device).split(max(1, MICRO_TOKENS // rows_BT.shape[1])):
        with torch.set_grad_enabled(backward):
            hidden = decoder_output(model, rows[:, :-1])
        nats, gradient = _head_loss(model, hidden, rows[:, 1:], backward)
        total += nats
        if backward:
            num_tokens = rows_BT.shape[0] * (rows_BT.shape[1] - 1)
            hidden.backward(gradient / num_tokens)
    return total / (rows_BT.shape[0] * (rows_BT.shape[1] - 1))


def _head_loss(
    model: PreTrainedModel, hidden_BTH: torch.Tensor, targets_BT: torch.Tensor, backward: bool
) -> tuple[float, torch.Tensor]:
    """Return summed nats and their gradient on the hidden states; the head is frozen."""
    head: nn.Module = model.get_output_embeddings()
    flat = hidden_BTH.detach().flatten(0, 1)
    gradient = torch.zeros_like(flat)
    nats = 0.0
    for low in range(0, len(flat), HEAD_TOKENS):
        states = flat[low : low + HEAD_TOKENS].clone().requires_grad_(backward)
        with torch.set_grad_enabled(backward):
            wanted = targets_BT.flatten()[low : low + HEAD_TOKENS]
            cost = functional.cross_entropy(head(states).float(), wanted, reduction="sum")
        if backward:
            (gradient[low : low + HEAD_TOKENS],) = torch.autograd.grad(cost, states)
        nats += float(cost.detach())
    return nats, gradient.view_as(hidden_BTH)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `run_steps` does: AdamW with a fresh state on some parameters."""

    parameters: Sequence[nn.Parameter]
    num_steps: int
    learning_rate: float
    weight_decay: float = 0.0
    before_step: Callable[[int], None] = lambda step: None
    """called with the step's index before its forward pass; picks the branches"""
    gradients: Callable[[torch.Tensor], float] | None = None
    """called with a batch; gives every parameter its gradient and returns nats per token; None: one backward
    pass"""
    after_step: Callable[[], None] = lambda: None
    """called when the parameters have moved; shows them to the forward pass"""


def run_steps(
    model: PreTrainedModel,
    stream: Iterator[torch.Tensor],
    plan: Plan,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Steps:
    """Take the steps of `plan` on batches from `stream`.

    Raises:
        TrainingStopped: `stop` said so; parameters are as the last whole step left them.
    """
    optimizer = torch.optim.AdamW(
        plan.parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    gradients = plan.gradients or functools.partial(batch_loss, model, backward=True)
    num_tokens, first_loss = 0, 0.0
    for step in range(plan.num_steps):
        if stop is not None and stop():
            raise TrainingStopped(f"training was stopped before step {step + 1} of {plan.num_steps}")
        plan.before_step(step)
        rows_BT = next(stream)
        optimizer.zero_grad(set_to_none=True)
        loss = gradients(rows_BT)
        optimizer.step()
        plan.after_step()
        first_loss = first_loss if step else loss
        num_tokens += rows_BT.shape[0] * (rows_BT.shape[1] - 1)
        if progress is not None:
            progress(step + 1, plan.num_steps, loss)
    return Steps(num_tokens=num_tokens, first_loss=first_loss)


class Stopwatch:
    """Wall time since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._started


def give_memory_back() -> None:
    """Return freed memory to the system: glibc would keep hundreds of megabytes of activations."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
