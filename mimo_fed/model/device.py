"""The model as a device holds it: one frozen base, the installed shared adapters, the personal one.

Arms: "base", "global", "cohort" (global + cohort), and "personal" (global + cohort + lambda * personal); an
adapter that is not there is left out. Everything here runs in one thread of one process; a call that raises
leaves the model as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch

from mimo_fed.adapter import AdapterSpec
from mimo_fed.config import TrainConfig
from mimo_fed.errors import ConfigError, DataError
from mimo_fed.model import chat, personal
from mimo_fed.model.base import Base
from mimo_fed.model.cohort import HYSTERESIS, choose
from mimo_fed.model.costs import Costs
from mimo_fed.model.installed import Installed
from mimo_fed.model.learn import (
    GlobalDelta,
    Goal,
    Lesson,
    Limits,
    TrainReport,
    learn_personal,
    learn_shared,
)
from mimo_fed.model.lora import Arm, Branches, Shared
from mimo_fed.model.loss import Loss, measure
from mimo_fed.model.train import Progress, Stop
from mimo_fed.model.trial import TrialReport, try_adapter

LAMBDAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""the personal adapter's possible shares"""


class DeviceModel:
    """A base with a global adapter, perhaps one of a cohort, and a personal one.

    Args:
        base: the frozen base; may be shared by several device models.
        spec: the global adapter's shape; must be for this base.
        cohort_spec: the cohort adapters' shape; None if the device takes part in no cohort.
        limits: what the device can afford when it trains.

    Raises:
        SpecMismatch: a spec is for another base.
    """

    def __init__(
        self,
        base: Base,
        spec: AdapterSpec,
        *,
        cohort_spec: AdapterSpec | None = None,
        limits: Limits = Limits(),
    ) -> None:
        torch.set_num_threads(1)
        self.base = base
        self.spec, self.cohort_spec = spec, cohort_spec
        self.limits = limits
        self._branches = Branches(base, spec, cohort_spec, checkpointing=limits.checkpointing)
        self._installed = Installed(self._branches, spec, cohort_spec)
        self._personal_epoch = 0
        self._costs = Costs()

    @property
    def installed_digest(self) -> str:
        """Digest of the installed global adapter; of the zero adapter at first."""
        return str(self._installed.digest("global"))

    @property
    def cohort_digest(self) -> str | None:
        """Digest of the installed cohort adapter; None while there is none."""
        return self._installed.digest("cohort")

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
        self._installed.install("global", adapter)

    def install_cohort(self, adapter: bytes | None) -> None:
        """Replace the cohort adapter, or with None take it away; checked like `install`.

        Raises:
            ConfigError: the device has no `cohort_spec`.
            DigestMismatch: not a whole safetensors file.
            SpecMismatch: of another shape, base or basis, or with a value that is not finite.
        """
        self._installed.install("cohort", adapter)

    def loss(self, texts: Sequence[str], arm: Arm) -> Loss:
        """Return the cost of `texts` under one arm, every token counted once.

        A branch that is not there is left out. A cost once measured is remembered while the arm's adapters
        stay as they are.
        """
        names: tuple[object, ...] = self._installed.names(arm)
        if arm == "personal" and self.personal_scale:
            names = (*names, self._personal_epoch, self.personal_scale)
        return self._costs.get(texts, names, lambda: self._measure(texts, arm))

    def _measure(self, texts: Sequence[str], arm: Arm) -> Loss:
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
        """Train this rank's prefix of what `config.phase` trains; afterwards the installed adapter is back.

        In some steps, drawn with `config.branch_dropout`, the cohort and the personal branch are left out, so
        that the global adapter also works alone.

        Args:
            texts: to train on.
            rank: this device's rank, 1 to the adapter's.
            config: phase, steps (the device's limits may allow fewer), batch shape and learning rate.
            seed: fixes batches and branch dropout.
            held_out: text for the losses before and after; the first batch if empty.
            progress: called after every step.
            stop: polled before every step.

        Raises:
            ConfigError: `rank` is out of range, or the device's limits do not allow the phase.
            DataError: no text.
            TrainingStopped: `stop` returned True.
        """
        lesson = self._lesson("global", texts, held_out, config, seed, progress, stop)
        return self._train_shared("global", lesson, rank)

    def train_cohort(
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
        """Do what `train_global` does for the installed cohort adapter, on top of the frozen global one.

        Raises:
            ConfigError: no cohort adapter is installed, or as for `train_global`.
            DataError: no text.
            TrainingStopped: `stop` returned True.
        """
        lesson = self._lesson("cohort", texts, held_out, config, seed, progress, stop)
        return self._train_shared("cohort", lesson, rank)

    def _train_shared(self, branch: Shared, lesson: Lesson, rank: int) -> GlobalDelta:
        adapter = self._installed.adapter(branch)
        if not 1 <= rank <= adapter.spec.config.rank:
            raise ConfigError(f"a device's rank must be 1 to {adapter.spec.config.rank}: {rank}")
        goal = Goal(branch=branch, adapter=adapter, rank=rank, limits=self.limits)
        return learn_shared(self._branches, lesson, goal, restore=lambda: self._installed.restore(branch))

    def choose_cohort(
        self,
        candidates: Mapping[str, bytes],
        texts: Sequence[str],
        *,
        current: str | None,
        hysteresis: float = HYSTERESIS,
    ) -> str:
        """Return the name of the cohort whose adapter, on top of the global one, makes `texts` cheapest.

        The installed cohort adapter is back afterwards; whoever decides to move installs the other one.

        Args:
            candidates: releases by the cohort's name.
            texts: this device's own.
            current: the cohort it is in, or would begin in by its declared language.
            hysteresis: relative margin by which another one must be better.

        Raises:
            ConfigError: no candidate, no `cohort_spec`, or a negative margin.
            DataError: no text to choose by.
            AdapterError: a candidate does not fit.
        """
        if not any(texts):
            raise DataError("there is no text to choose a cohort by")
        adapters = {name: self._installed.read("cohort", data) for name, data in candidates.items()}

        def cost(name: str) -> float:
            with self._installed.replaced("cohort", adapters[name]):
                return self._measure(texts, "cohort").nats

        losses = {name: cost(name) for name in adapters}
        return choose(losses, current=current, hysteresis=hysteresis)

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
        """Train the personal adapter on top of the frozen shared ones; afterwards lambda is 1 until picked.

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
            ConfigError: the device runs forward only.
            DataError: no text.
            SpecMismatch: training came to a number that is not finite; the adapter is as it was.
            TrainingStopped: `stop` returned True; the adapter is as it was.
        """
        if self.limits.forward_only:
            raise ConfigError("a device without backward passes trains no personal adapter")
        lesson = self._lesson("personal", texts, held_out, config, seed, progress, stop)
        self._personal_epoch += 1
        return learn_personal(
            self._branches, lesson, config.num_personal_steps if num_steps is None else num_steps
        )

    def _lesson(
        self,
        arm: Arm,
        texts: Sequence[str],
        held_out: Sequence[str],
        config: TrainConfig,
        seed: int,
        progress: Progress | None,
        stop: Stop | None,
    ) -> Lesson:
        def after() -> float:
            return self._measure(held_out, arm).per_token

        def before() -> float:
            return after() if arm == "personal" else self.loss(held_out, arm).per_token

        return Lesson(
            tokenizer=self.base.tokenizer,
            texts=texts,
            config=config,
            seed=seed,
            before=before if held_out else None,
            after=after if held_out else None,
            progress=progress,
            stop=stop,
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
            return self.loss(texts, "personal").nats

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
        self._personal_epoch += 1
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

    def trial(
        self, adapter: bytes, texts: Sequence[str], *, loss_bound: float, branch: Shared = "global"
    ) -> TrialReport:
        """Judge a release before it is installed; afterwards the old adapter is in place.

        Args:
            adapter: the release's bytes.
            texts: held out by this device; without any, only the fixed prompts are tried.
            loss_bound: the loss may rise by this share, e.g. 0.05.
            branch: where it would be installed.

        Raises:
            ConfigError: a cohort's release, but the device has no `cohort_spec`.
        """
        names = self._installed.names(branch, instead=hashlib.sha256(adapter).hexdigest())

        def before() -> float:
            return self.loss(texts, branch).per_token

        def after() -> float:
            return self._costs.get(texts, names, lambda: self._measure(texts, branch)).per_token

        return try_adapter(
            self._branches,
            self.base.tokenizer,
            self._installed,
            adapter,
            branch=branch,
            before=before if texts else None,
            after=after if texts else None,
            loss_bound=loss_bound,
        )
