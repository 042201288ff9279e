"""The two kinds of training of a round: what all devices share, and what stays on this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.config import Phase, TrainConfig
from mimo_fed.errors import ConfigError, SpecMismatch
from mimo_fed.model import personal
from mimo_fed.model.lora import Branches, Shared
from mimo_fed.model.mezo import TwoForwardPasses
from mimo_fed.model.phase import PhaseFactors
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

DRAW_GLOBAL, DRAW_PERSONAL, DRAW_BRANCH = range(3)
"""what a device's seed is drawn for: batches of a shared adapter, of the personal one, and branch dropout"""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a device can afford when it trains."""

    max_steps: int | None = None
    """most steps on a shared adapter per round, however many the round asks for; None: as many as asked"""
    checkpointing: bool = False
    """compute activations again in the backward pass instead of keeping them: less memory, more time"""
    forward_only: bool = False
    """no backward pass at all: trains the core alone (phase M), and no personal adapter"""

    def __post_init__(self) -> None:
        if self.max_steps is not None and self.max_steps < 1:
            raise ConfigError(f"a device's step budget must be at least 1: {self.max_steps}")

    def check_phase(self, phase: Phase) -> None:
        """Raise ConfigError if this device cannot train the phase."""
        if self.forward_only and phase != "M":
            raise ConfigError(
                f"a device without backward passes trains phase M alone, not phase {phase}",
                hint="let it decline the round",
            )


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What a stretch of training did."""

    loss_before: float
    """nats per token, on the held-out text, or else on the first batch"""
    loss_after: float
    """nats per token, on the same text"""
    num_tokens: int
    """trained on"""
    num_steps: int
    """optimizer steps taken"""
    seconds: float
    """wall time"""


@dataclass(frozen=True, kw_only=True)
class GlobalDelta(TrainReport):
    """What a device learnt for others: the change of X, what the phase trains (see mimo_fed/adapter)."""

    delta: dict[str, Float32]
    """by part name, the prefix of this device's rank: B (out, rank), A (rank, inp), M (rank, rank)"""


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


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Which shared adapter to train, from where, and how much of it."""

    branch: Shared
    adapter: GlobalAdapter
    """installed in that branch"""
    rank: int
    """of the device"""
    limits: Limits


def learn_shared(branches: Branches, lesson: Lesson, goal: Goal, restore: Callable[[], None]) -> GlobalDelta:
    """Train the device's prefix of X in a shared branch, and put the installed adapter back with `restore`.

    In a step that branch dropout leaves alone, the branches on top of the trained one take part too.

    Raises:
        ConfigError: the device's limits do not allow the phase.
    """
    config, limits = lesson.config, goal.limits
    limits.check_phase(config.phase)
    num_steps = min(config.num_steps, limits.max_steps or config.num_steps)
    draws = np.random.default_rng((lesson.seed, DRAW_BRANCH)).random(num_steps)

    def on_first_batch() -> float:
        branches.use(goal.branch)
        return batch_loss(branches.model, next(lesson.batches(DRAW_GLOBAL)), backward=False)

    try:
        loss_before = (lesson.before or on_first_batch)()
        factors = PhaseFactors(branches, goal.branch, goal.adapter, config.phase, goal.rank)
        forward_only = TwoForwardPasses(branches.model, factors, lesson.seed) if limits.forward_only else None

        def by_backward(rows_BT: torch.Tensor) -> float:
            loss = batch_loss(branches.model, rows_BT, backward=True)
            factors.take_gradients()
            return loss

        def pick_arm(step: int) -> None:
            branches.use("personal" if draws[step] >= config.branch_dropout else goal.branch)
            if forward_only is None:
                factors.unfreeze()

        plan = Plan(
            parameters=factors.parameters,
            num_steps=num_steps,
            learning_rate=config.learning_rate,
            before_step=pick_arm,
            gradients=forward_only or by_backward,
            after_step=factors.show,
        )
        with branches.training():
            stream = lesson.batches(DRAW_GLOBAL)
            done = run_steps(branches.model, stream, plan, progress=lesson.progress, stop=lesson.stop)
        loss_after = (lesson.after or on_first_batch)()
        delta = factors.delta()
    finally:
        restore()
        give_memory_back()
    return GlobalDelta(
        delta=delta,
        loss_before=loss_before,
        loss_after=loss_after,
        num_tokens=done.num_tokens,
        num_steps=num_steps,
        seconds=lesson.watch.seconds,
    )


def learn_personal(branches: Branches, lesson: Lesson, num_steps: int) -> TrainReport:
    """Train the personal branch with lambda 1; on any error it is put back as it was.

    Raises:
        SpecMismatch: training came to a number that is not finite.
    """
    config = lesson.config
    kept, scale = branches.personal_tensors(), branches.personal_scale
    try:
        if not kept:
            branches.start_personal(config.personal_rank, lesson.seed)
        branches.scale_personal(1.0)
        loss_before = lesson.before() if lesson.before else None
        branches.use("personal")
        plan = Plan(
            parameters=branches.personal_weights(),
            num_steps=num_steps,
            learning_rate=config.personal_learning_rate,
            weight_decay=config.personal_weight_decay,
        )
        with branches.training():
            stream = lesson.batches(DRAW_PERSONAL)
            done = run_steps(branches.model, stream, plan, progress=lesson.progress, stop=lesson.stop)
        if not all(bool(weight.isfinite().all()) for weight in plan.parameters):
            raise SpecMismatch(
                f"personal training came to numbers that are not finite, at the rate {plan.learning_rate:g}",
                hint="the personal adapter is as it was",
            )
        if lesson.after:
            loss_after = lesson.after()
        else:
            first = next(lesson.batches(DRAW_PERSONAL))
            loss_after = batch_loss(branches.model, first, backward=False)
    except BaseException:
        personal.restore(branches, kept, scale)
        raise
    finally:
        give_memory_back()
    return TrainReport(
        loss_before=done.first_loss if loss_before is None else loss_before,
        loss_after=loss_after,
        num_tokens=done.num_tokens,
        num_steps=num_steps,
        seconds=lesson.watch.seconds,
    )
