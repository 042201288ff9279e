"""The model as a device holds it: one frozen base, the installed global adapter, the personal one.

Arms: "base", "global", and "personal" (global + lambda * personal). Everything here runs in one thread of one
process; a call that raises leaves the model as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.config import TrainConfig
from mimo_fed.errors import ConfigError
from mimo_fed.model import chat, personal
from mimo_fed.model.base import Base
from mimo_fed.model.costs import Costs
from mimo_fed.model.learn import GlobalDelta, Lesson, TrainReport, learn_global, learn_personal
from mimo_fed.model.lora import Arm, Branches
from mimo_fed.model.loss import Loss, measure
from mimo_fed.model.train import Progress, Stop
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
        self._personal_epoch = 0
        self._costs = Costs()

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
        """Return the cost of `texts` under one arm, every token counted once.

        A cost once measured is remembered while the arm's adapters stay as they are.
        """
        if arm == "personal" and not self.personal_scale:
            arm = "global"
        adapters: dict[Arm, tuple[object, ...]] = {
            "base": (),
            "global": (self._digest,),
            "personal": (self._digest, self._personal_epoch, self.personal_scale),
        }
        return self._costs.get(texts, (arm, *adapters[arm]), lambda: self._measure(texts, arm))

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
        lesson = self._lesson("global", texts, held_out, config, seed, progress, stop)
        return learn_global(
            self._branches, lesson, rank, restore=lambda: self._branches.set_global(self._installed)
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
            return self.loss(held_out, arm).per_token if arm == "global" else after()

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

    def trial(self, adapter: bytes, texts: Sequence[str], *, loss_bound: float) -> TrialReport:
        """Judge a release before it is installed; afterwards the old adapter is in place.

        Args:
            adapter: the release's bytes.
            texts: held out by this device; without any, only the fixed prompts are tried.
            loss_bound: the loss may rise by this share, e.g. 0.05.
        """
        digest = hashlib.sha256(adapter).hexdigest()

        def before() -> float:
            return self.loss(texts, "global").per_token

        def after() -> float:
            adapters = ("global", digest)
            return self._costs.get(texts, adapters, lambda: self._measure(texts, "global")).per_token

        return try_adapter(
            self._branches,
            self.base.tokenizer,
            self._installed,
            adapter,
            before=before if texts else None,
            after=after if texts else None,
            loss_bound=loss_bound,
        )
