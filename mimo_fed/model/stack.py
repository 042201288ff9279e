# mypy: disable-error-code="no-untyped-call"
"""Many devices over one frozen base: their adapters are trained in one forward and backward pass.

Every device gets what a `DeviceModel` of its own would get from the same seed, up to rounding: the same
batches, the same steps in which branch dropout leaves the frozen branches out, the same AdamW. Devices go
through pass by pass, all the steps of one pass before the next begins, so that memory is that of one pass.

Shapes: R rank of an adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.config import TrainConfig
from mimo_fed.errors import SpecMismatch
from mimo_fed.model.base import Base
from mimo_fed.model.lora import Shared
from mimo_fed.model.loss import Loss
from mimo_fed.model.stacked_base import StackedBase
from mimo_fed.model.stacked_factors import (
    Float32,
    Personal,
    StackedFactors,
    check_fit,
    stack_cohorts,
    stack_personals,
    stack_trained,
    start_personal,
    take_personal,
)
from mimo_fed.model.stacked_jobs import Count, Job, Tokens, Trained, passes, present, starts
from mimo_fed.model.stacked_loss import measure_stacked
from mimo_fed.model.stacked_pass import StackedPass
from mimo_fed.model.stacked_steps import StackedPlan, run_lockstep
from mimo_fed.model.train import Progress, give_memory_back

__all__ = ["Job", "Personal", "StackedModel", "Trained"]

Taken = tuple[dict[str, Float32], float]


class StackedModel:
    """One base that trains and measures many devices' adapters.

    Args:
        base: the frozen base, in float32; its tensors are shared.
        spec: shape of the global adapter; personal and cohort adapters have no other modules.
        tokens_per_pass: about so many tokens of text in one forward pass; decides how many devices are in it.

    Raises:
        SpecMismatch: `spec` is for another base.
        ConfigError: the base is not of float32, or not in the processor's memory.
    """

    def __init__(self, base: Base, spec: AdapterSpec, *, tokens_per_pass: int = 4096) -> None:
        if spec.base_fingerprint != base.fingerprint:
            raise SpecMismatch(f"the adapter is for another base: {spec.base_fingerprint[:12]}")
        self.spec = spec
        self._tokens_per_pass = tokens_per_pass
        self._tokens = Tokens(base.tokenizer)
        self._base = StackedBase(base, [module.name for module in spec.modules])

    def train_shared(
        self,
        adapter: GlobalAdapter,
        jobs: Sequence[Job],
        config: TrainConfig,
        *,
        train: Shared = "global",
        progress: Progress | None = None,
    ) -> list[Trained]:
        """Train each device's prefix of X, what `config.phase` trains, of a shared adapter.

        Args:
            adapter: the global one.
            jobs: one a device.
            config: phase, batch shape, learning rate, branch dropout; the number of steps is the job's.
            train: "cohort" trains each job's cohort adapter on top of the frozen global one.
            progress: called with (device steps done, in all, mean nats per token) after every step.

        Raises:
            ConfigError: a rank is out of range, or a job has no cohort adapter to train.
            DataError: a job has no text.
        """
        taken = self._train(
            adapter, jobs, config, lambda factors, row: factors.delta(row), train=train, progress=progress
        )
        shape = config.batch_size * config.seq_len
        return [
            Trained(delta=delta, num_tokens=job.num_steps * shape, first_loss=first)
            for job, (delta, first) in zip(jobs, taken, strict=True)
        ]

    def train_product(
        self, adapter: GlobalAdapter, jobs: Sequence[Job], config: TrainConfig
    ) -> list[dict[str, tuple[Float32, Float32]]]:
        """Train both factors of the global adapter, of each device for itself.

        Returns:
            Of each device, (B (out, R), A (R, inp)) by module, whole: dW = B @ A.
        """
        config = replace(config, phase="AB")
        taken = self._train(adapter, jobs, config, lambda factors, row: factors.values(row))
        return [
            {m.name: (values[f"{m.name}.B"], values[f"{m.name}.A"]) for m in self.spec.modules}
            for values, _ in taken
        ]

    def train_personal(
        self,
        adapter: GlobalAdapter,
        jobs: Sequence[Job],
        config: TrainConfig,
        *,
        num_steps: int,
        progress: Progress | None = None,
    ) -> list[Personal]:
        """Train personal adapters on top of the frozen shared ones; a job without one begins with a new one.

        Args:
            adapter: the global one.
            jobs: one a device; rank and number of steps are those of shared adapters, and not used.
            config: batch shape, rank of a new adapter, learning rate and decay.
            num_steps: of every device.
            progress: called with (device steps done, in all, mean nats per token) after every step.

        Returns:
            Of each device, with a share of 1.

        Raises:
            DataError: a job has no text.
        """
        check_fit(self.spec, adapter, *(job.cohort for job in jobs))
        count = Count(num_steps * len(jobs), progress)
        found: dict[int, Personal] = {}
        with self._mounted(adapter):
            for numbered in passes(list(enumerate(jobs)), self._devices_per_pass(config)):
                chosen = [job for _, job in numbered]
                begun = [
                    j.personal or start_personal(self.spec, config.personal_rank, j.seed) for j in chosen
                ]
                branches = stack_trained(self.spec, begun)
                plan = StackedPlan(
                    stacked=StackedPass(
                        self._base, branches, [stack_cohorts(self.spec, [j.cohort for j in chosen])]
                    ),
                    num_steps=[num_steps] * len(chosen),
                    learning_rate=config.personal_learning_rate,
                    weight_decay=config.personal_weight_decay,
                    after_step=count,
                )
                run_lockstep(self._base.model, self._tokens.streams(chosen, config, personal=True), plan)
                found |= {i: take_personal(branches, row, begun[row]) for row, (i, _) in enumerate(numbered)}
        return [found[index] for index in range(len(jobs))]

    def losses(
        self,
        texts_per_device: Sequence[Sequence[str]],
        adapter: GlobalAdapter | None,
        cohorts: Sequence[GlobalAdapter | None],
        personals: Sequence[Personal | None],
    ) -> list[Loss]:
        """Return what each device's texts cost under the global, its cohort's and its personal adapter.

        Args:
            texts_per_device: those of each device.
            adapter: the global one; None: the base, with what else there is.
            cohorts: each device's, or None.
            personals: each device's, or None.
        """
        check_fit(self.spec, adapter, *cohorts)

        def mount(devices: Sequence[int]) -> None:
            frozen = [
                stack_cohorts(self.spec, [cohorts[device] for device in devices]),
                stack_personals(self.spec, [personals[device] for device in devices]),
            ]
            self._base.mount(len(devices), {}, frozen)

        with self._mounted(adapter):
            return measure_stacked(
                self._base, self._tokens, texts_per_device, mount, tokens_per_pass=self._tokens_per_pass
            )

    def _train(
        self,
        adapter: GlobalAdapter,
        jobs: Sequence[Job],
        config: TrainConfig,
        take: Callable[[StackedFactors, int], dict[str, Float32]],
        *,
        train: Shared = "global",
        progress: Progress | None = None,
    ) -> list[Taken]:
        """Train every job; return what `take` reads of a device after its steps, and its first loss."""
        check_fit(self.spec, adapter, *(job.cohort for job in jobs))
        count = Count(sum(job.num_steps for job in jobs), progress)
        found: dict[int, Taken] = {}
        with self._mounted(adapter if train == "cohort" else None):
            for start, group in starts(adapter, jobs, train):
                for numbered in passes(group, self._devices_per_pass(config)):
                    taken = self._train_pass(start, [job for _, job in numbered], config, take, train, count)
                    found |= {index: taken[row] for row, (index, _) in enumerate(numbered)}
        return [found[index] for index in range(len(jobs))]

    def _train_pass(
        self,
        start: GlobalAdapter,
        jobs: Sequence[Job],
        config: TrainConfig,
        take: Callable[[StackedFactors, int], dict[str, Float32]],
        train: Shared,
        count: Count,
    ) -> list[Taken]:
        factors = StackedFactors(start, config.phase, [job.rank for job in jobs])
        frozen = [stack_personals(self.spec, [job.personal for job in jobs])]
        if train == "global":
            frozen.append(stack_cohorts(self.spec, [job.cohort for job in jobs]))
        taken: dict[int, dict[str, Float32]] = {}

        def finished(row: int) -> None:
            taken[row] = take(factors, row)

        plan = StackedPlan(
            stacked=StackedPass(self._base, factors.branches, frozen, [present(job, config) for job in jobs]),
            num_steps=[job.num_steps for job in jobs],
            learning_rate=config.learning_rate,
            finished=finished,
            after_step=count,
        )
        first = run_lockstep(self._base.model, self._tokens.streams(jobs, config, personal=False), plan)
        return [(taken[row], loss) for row, loss in enumerate(first)]

    def _devices_per_pass(self, config: TrainConfig) -> int:
        return max(1, self._tokens_per_pass // (config.batch_size * config.seq_len))

    @contextmanager
    def _mounted(self, shared: GlobalAdapter | None) -> Iterator[None]:
        """Let an adapter be part of the base; afterwards nothing is on it."""
        try:
            self._base.fold(shared)
            yield
        finally:
            self._base.clear()
            give_memory_back()
