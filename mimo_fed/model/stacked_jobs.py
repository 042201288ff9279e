# mypy: disable-error-code="no-untyped-call"
"""What many devices train, and how they are put into passes."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.config import TrainConfig
from mimo_fed.errors import ConfigError
from mimo_fed.model.learn import DRAW_BRANCH, DRAW_GLOBAL, DRAW_PERSONAL
from mimo_fed.model.lora import Shared
from mimo_fed.model.loss import encode
from mimo_fed.model.stacked_factors import Float32, Personal
from mimo_fed.model.train import Progress, pack


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one device trains."""

    texts: Sequence[str]
    seed: int
    """fixes batches, branch dropout, and the start of a new personal adapter"""
    rank: int
    """of the device, 1 to the adapter's; it moves that prefix of what the phase trains"""
    num_steps: int
    """optimizer steps on a shared adapter"""
    personal: Personal | None
    cohort: GlobalAdapter | None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one device learnt for others."""

    delta: dict[str, Float32]
    """by part name, the prefix of the device's rank"""
    num_tokens: int
    first_loss: float
    """nats per token of the first batch before its step, under the branches of that step; 0 without a step"""


Numbered = tuple[int, Job]


class Count:
    """Tells a caller of the device steps that are done.

    Args:
        total: device steps in all.
        progress: who is told.
    """

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def __call__(self, nats: Sequence[float]) -> None:
        """Count one step of each of these devices."""
        self._done += len(nats)
        if self._progress is not None:
            self._progress(self._done, self._total, sum(nats) / len(nats))


def starts(
    adapter: GlobalAdapter, jobs: Sequence[Job], train: Shared
) -> Iterator[tuple[GlobalAdapter, list[Numbered]]]:
    """Yield each adapter that is trained, and the jobs that train it.

    Raises:
        ConfigError: a rank is out of range, or a job has no cohort adapter to train.
    """
    groups: dict[int, tuple[GlobalAdapter, list[Numbered]]] = {}
    for index, job in enumerate(jobs):
        start = adapter if train == "global" else job.cohort
        if start is None:
            raise ConfigError(f"job {index} has no cohort adapter to train")
        if not 1 <= job.rank <= start.spec.config.rank:
            raise ConfigError(f"a device's rank must be 1 to {start.spec.config.rank}: {job.rank}")
        groups.setdefault(id(start), (start, []))[1].append((index, job))
    yield from groups.values()


def passes(numbered: Sequence[Numbered], devices_per_pass: int) -> Iterator[list[Numbered]]:
    """Deal jobs into passes of like size, those with the most steps first: few then wait for others."""
    ordered = sorted(numbered, key=lambda one: one[1].num_steps, reverse=True)
    if not ordered:
        return
    num_passes = -(-len(ordered) // devices_per_pass)
    size = -(-len(ordered) // num_passes)
    for low in range(0, len(ordered), size):
        yield ordered[low : low + size]


class Tokens:
    """The tokens of every text seen, so that a device's text is read once and not in every round.

    Args:
        tokenizer: of the base.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.eos: int = tokenizer.eos_token_id
        self._known: dict[str, array[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Return the tokens of `text`, with no special token added."""
        if text not in self._known:
            self._known[text] = array("i", encode(self._tokenizer, text))
        return self._known[text].tolist()

    def streams(
        self, jobs: Sequence[Job], config: TrainConfig, *, personal: bool
    ) -> list[Iterator[torch.Tensor]]:
        """Start every job's stream of batches, the one that its device would draw."""
        draw = DRAW_PERSONAL if personal else DRAW_GLOBAL
        shape = {"batch_size": config.batch_size, "seq_len": config.seq_len}
        return [pack(map(self.encode, job.texts), self.eos, seed=(job.seed, draw), **shape) for job in jobs]


def present(job: Job, config: TrainConfig) -> list[bool]:
    """Draw the steps in which the branches that are not trained take part."""
    draws = np.random.default_rng((job.seed, DRAW_BRANCH)).random(job.num_steps)
    return [bool(draw >= config.branch_dropout) for draw in draws]
