"""The two kinds of training of a round: what all devices share, and what stays on this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from mimo_fed.config import TrainConfig
from mimo_fed.model import personal
from mimo_fed.model.lora import Branches
from mimo_fed.model.train import (
    Plan,
    Progress,
    Stop,
    Stopwatch,
    batch_loss,
    batches,
    give_memory_back,
    run_steps,
)

Float32 = NDArray[np.float32]

_DRAW_GLOBAL, _DRAW_PERSONAL, _DRAW_BRANCH = range(3)


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


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What to train on, and how.

    Args:
        before: measures nats per token on held-out text before training; None: the first batch is measured.
        after: the same, after training.
    """

    tokenizer: PreTrainedTokenizerBase
    texts: Sequence[str]
    config: TrainConfig
    seed: int
    before: Callable[[], float] | None = None
    after: Callable[[], float] | None = None
    progress: Progress | None = None
    stop: Stop | None = None
    watch: Stopwatch = field(default_factory=Stopwatch)

    def batches(self, draw: int) -> Iterator[torch.Tensor]:
        """Start the stream of batches; `draw` tells the kinds of training apart."""
        shape = {"batch_size": self.config.batch_size, "seq_len": self.config.seq_len}
        return batches(self.tokenizer, self.texts, seed=(self.seed, draw), **shape)


def learn_global(branches: Branches, lesson: Lesson, rank: int, restore: Callable[[], None]) -> GlobalDelta:
    """Train the first `rank` columns of every global B, and put the installed adapter back with `restore`."""
    config = lesson.config
    draws = np.random.default_rng((lesson.seed, _DRAW_BRANCH)).random(config.num_steps)

    def pick_arm(step: int) -> None:
        with_personal = branches.personal_scale and draws[step] >= config.branch_dropout
        branches.use("personal" if with_personal else "global")
        branches.trainable("global")

    def on_first_batch() -> float:
        branches.use("global")
        return batch_loss(branches.model, next(lesson.batches(_DRAW_GLOBAL)), backward=False)

    before = branches.global_factors(rank)
    try:
        loss_before = (lesson.before or on_first_batch)()
        plan = Plan(
            parameters=branches.trainable("global"),
            num_steps=config.num_steps,
            learning_rate=config.learning_rate,
            before_step=pick_arm,
            after_backward=lambda: branches.keep_columns(rank),
        )
        stream = lesson.batches(_DRAW_GLOBAL)
        done = run_steps(branches.model, stream, plan, progress=lesson.progress, stop=lesson.stop)
        branches.freeze()
        loss_after = (lesson.after or on_first_batch)()
        after = branches.global_factors(rank)
    finally:
        branches.freeze()
        restore()
        give_memory_back()
    return GlobalDelta(
        delta={name: after[name] - before[name] for name in after},
        loss_before=loss_before,
        loss_after=loss_after,
        num_tokens=done.num_tokens,
        seconds=lesson.watch.seconds,
    )


def learn_personal(branches: Branches, lesson: Lesson, num_steps: int) -> TrainReport:
    """Train the personal branch with lambda 1; on any error it is put back as it was."""
    config = lesson.config
    kept, scale = branches.personal_tensors(), branches.personal_scale
    try:
        if not kept:
            branches.start_personal(config.personal_rank, lesson.seed)
        branches.scale_personal(1.0)
        loss_before = lesson.before() if lesson.before else None
        branches.use("personal")
        plan = Plan(
            parameters=branches.trainable("personal"),
            num_steps=num_steps,
            learning_rate=config.personal_learning_rate,
            weight_decay=config.personal_weight_decay,
        )
        stream = lesson.batches(_DRAW_PERSONAL)
        done = run_steps(branches.model, stream, plan, progress=lesson.progress, stop=lesson.stop)
        branches.freeze()
        if lesson.after:
            loss_after = lesson.after()
        else:
            first = next(lesson.batches(_DRAW_PERSONAL))
            loss_after = batch_loss(branches.model, first, backward=False)
    except BaseException:
        branches.freeze()
        personal.restore(branches, kept, scale)
        raise
    finally:
        give_memory_back()
    return TrainReport(
        loss_before=done.first_loss if loss_before is None else loss_before,
        loss_after=loss_after,
        num_tokens=done.num_tokens,
        seconds=lesson.watch.seconds,
    )
