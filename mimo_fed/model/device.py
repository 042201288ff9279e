"""The model as a device holds it: one frozen base, the installed global adapter, the personal one.

Arms: "base", "global", and "personal" (global + lambda * personal). Everything here runs in one thread of one
process; a call that raises leaves the model as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.config import TrainConfig
from mimo_fed.errors import ConfigError
from mimo_fed.model import chat, personal
from mimo_fed.model.base import Base
from mimo_fed.model.lora import Arm, Branches
from mimo_fed.model.loss import Loss, measure
from mimo_fed.model.train import (
    GlobalDelta,
    Plan,
    Progress,
    Stop,
    Stopwatch,
    TrainReport,
    batch_loss,
    batches,
    give_memory_back,
    run_steps,
)
from mimo_fed.model.trial import TrialReport, try_adapter

LAMBDAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""the personal adapter's possible shares"""


class DeviceModel:
    """A base with a global and a personal adapter.

    Args:
        base: the frozen base; may be shared by several device models.
        spec: the adapter's shape; must be for this base.

    Raises:
        SpecMismatch: `spec` is for another base.
    """

    def __init__(self, base: Base, spec: AdapterSpec) -> None:
        torch.set_num_threads(1)
        self.base = base
        self.spec = spec
        self._branches = Branches(base, spec)
        self._installed = GlobalAdapter.zero(spec)
        self._digest = self._installed.digest()

    @property
    def installed_digest(self) -> str:
        """Digest of the installed global adapter; of the zero adapter at first."""
        return self._digest

    @property
    def personal_scale(self) -> float:
        """Lambda, the share of the personal adapter; 0 while there is none."""
        return self._branches.personal_scale

    def install(self, adapter: bytes) -> None:
        """Replace the global adapter; the bytes are checked in full before anything moves.

        Raises:
            DigestMismatch: not a whole safetensors file.
            SpecMismatch: of another shape, base or basis, or with a value that is not finite.
        """
        checked = GlobalAdapter.from_safetensors(adapter, self.spec)
        self._branches.set_global(checked)
        self._installed, self._digest = checked, hashlib.sha256(adapter).hexdigest()

    def loss(self, texts: Sequence[str], arm: Arm) -> Loss:
        """Cost of `texts` under one arm, every token counted once."""
        self._branches.use(arm)
        return measure(self._branches.model, self.base.tokenizer, texts)

    def train_global(
        self,
        texts: Sequence[str],
        *,
        rank: int,
        config: TrainConfig,
        seed: int,
        held_out: Sequence[str] = (),
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> GlobalDelta:
        """Train the first `rank` columns of every global B; afterwards the installed adapter is back.

        In some steps, drawn with `config.branch_dropout`, the personal branch is left out, so that the global
        adapter also works alone.

        Args:
            texts: to train on.
            rank: this device's rank, 1 to the adapter's.
            config: steps, batch shape and learning rate.
            seed: fixes batches and branch dropout.
            held_out: text for the losses before and after; the first batch if empty.
            progress: called after every step.
            stop: polled before every step.

        Raises:
            ConfigError: `rank` is out of range.
            DataError: no text.
            TrainingStopped: `stop` returned True.
        """
        if not 1 <= rank <= self.spec.config.rank:
            raise ConfigError(f"a device's rank must be 1 to {self.spec.config.rank}: {rank}")
        watch, branches = Stopwatch(), self._branches
        evaluate = self._evaluation("global", texts, held_out, config, seed)
        with_personal = np.random.default_rng([seed, 1]).random(config.num_steps) >= config.branch_dropout

        def pick_arm(step: int) -> None:
            branches.use("personal" if with_personal[step] and branches.personal_scale else "global")
            branches.trainable("global")

        plan = Plan(
            parameters=branches.trainable("global"),
            num_steps=config.num_steps,
            learning_rate=config.learning_rate,
            before_step=pick_arm,
            after_backward=lambda: branches.keep_columns(rank),
        )
        before = branches.global_factors(rank)
        try:
            loss_before = evaluate()
            stream = self._batches(texts, config, seed)
            num_tokens = run_steps(branches.model, stream, plan, progress=progress, stop=stop)
            branches.freeze()
            loss_after = evaluate()
            after = branches.global_factors(rank)
        finally:
            branches.freeze()
            branches.set_global(self._installed)
            give_memory_back()
        return GlobalDelta(
            delta={name: after[name] - before[name] for name in after},
            loss_before=loss_before,
            loss_after=loss_after,
            num_tokens=num_tokens,
            seconds=watch.seconds,
        )

    def train_personal(
        self,
        texts: Sequence[str],
        *,
        config: TrainConfig,
        seed: int,
        num_steps: int | None = None,
        held_out: Sequence[str] = (),
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> TrainReport:
        """Train the personal adapter on top of the frozen global one; afterwards lambda is 1 until picked.

        The first call creates the adapter with `config.personal_rank`; an existing one keeps its rank.

        Args:
            texts: to train on.
            config: batch shape, learning rate, decay, and the rank of a new adapter.
            seed: fixes batches and the initial values of a new adapter.
            num_steps: optimizer steps; `config.num_personal_steps` if not given.
            held_out: text for the losses before and after; the first batch if empty.
            progress: called after every step.
            stop: polled before every step.

        Raises:
            DataError: no text.
            TrainingStopped: `stop` returned True; the adapter is as it was.
        """
        watch, branches = Stopwatch(), self._branches
        kept, scale = branches.personal_tensors(), branches.personal_scale
        evaluate = self._evaluation("personal", texts, held_out, config, seed)
        if not kept:
            branches.start_personal(config.personal_rank, seed)
        branches.scale_personal(1.0)
        try:
            loss_before = evaluate()
            branches.use("personal")
            plan = Plan(
                parameters=branches.trainable("personal"),
                num_steps=config.num_personal_steps if num_steps is None else num_steps,
                learning_rate=config.personal_learning_rate,
                weight_decay=config.personal_weight_decay,
            )
            stream = self._batches(texts, config, seed)
            num_tokens = run_steps(branches.model, stream, plan, progress=progress, stop=stop)
            branches.freeze()
            loss_after = evaluate()
        except BaseException:
            branches.freeze()
            personal.restore(branches, kept, scale)
            raise
        finally:
            give_memory_back()
        return TrainReport(
            loss_before=loss_before, loss_after=loss_after, num_tokens=num_tokens, seconds=watch.seconds
        )

    def _evaluation(
        self, arm: Arm, texts: Sequence[str], held_out: Sequence[str], config: TrainConfig, seed: int
    ) -> Callable[[], float]:
        """Return a function that measures nats per token under `arm`, always on the same text."""
        if held_out:
            return lambda: self.loss(held_out, arm).per_token
        rows_BT = next(self._batches(texts, config, seed))

        def on_first_batch() -> float:
            self._branches.use(arm)
            return batch_loss(self._branches.model, rows_BT, backward=False)

        return on_first_batch

    def _batches(self, texts: Sequence[str], config: TrainConfig, seed: int) -> Iterator[torch.Tensor]:
        return batches(
            self.base.tokenizer, texts, batch_size=config.batch_size, seq_len=config.seq_len, seed=seed
        )

    def pick_lambda(self, texts: Sequence[str]) -> float:
        """Set lambda to the value in `LAMBDAS` of least loss on `texts`, and return it.

        The loss is nearly convex in lambda, so the search walks downhill from the present value and always
        measures 0: the personal adapter cannot hurt on these texts. Without text, lambda stays.
        """
        branches = self._branches
        if not branches.personal_rank or not texts:
            return branches.personal_scale

        def cost(scale: float) -> float:
            branches.scale_personal(scale)
            return self.loss(texts, "personal" if scale else "global").nats

        best = personal.walk_downhill(LAMBDAS, cost, start=branches.personal_scale)
        branches.scale_personal(best)
        return best

    def personal_bytes(self) -> bytes:
        """Return the personal adapter and lambda as safetensors; no tensors while there is none."""
        return personal.to_bytes(self._branches, self.spec)

    def load_personal(self, data: bytes) -> None:
        """Replace the personal adapter by what `personal_bytes` returned.

        Raises:
            SpecMismatch: malformed, or of another base or shape; nothing has changed.
        """
        tensors, scale = personal.from_bytes(data, self.spec)
        personal.restore(self._branches, tensors, scale)

    def generate(
        self,
        messages: Sequence[dict[str, str]],
        arm: Arm,
        max_new_tokens: int = 128,
        on_token: chat.OnToken | None = None,
    ) -> str:
        """Answer a conversation, greedily.

        Raises:
            ConfigError: the base has no chat template, or a message lacks its role or content.
        """
        self._branches.use(arm)
        return chat.answer(
            self._branches.model,
            self.base.tokenizer,
            messages,
            max_new_tokens=max_new_tokens,
            on_token=on_token,
        )

    def trial(self, adapter: bytes, texts: Sequence[str], *, loss_bound: float) -> TrialReport:
        """Judge a release before it is installed; afterwards the old adapter is in place.

        Args:
            adapter: the release's bytes.
            texts: held out by this device; without any, only the fixed prompts are tried.
            loss_bound: the loss may rise by this share, e.g. 0.05.
        """
        return try_adapter(
            self._branches, self.base.tokenizer, self._installed, adapter, texts, loss_bound=loss_bound
        )
