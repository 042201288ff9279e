"""One arm, trained, and its cost: rounds of a simulation, personal adapters, or all text in one place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.data import DemoDevice
from mimo_fed.evaluate.arms import Arm
from mimo_fed.evaluate.plan import Plan, Rates
from mimo_fed.evaluate.records import Json
from mimo_fed.model import Base
from mimo_fed.model.stack import Job, Personal, StackedModel
from mimo_fed.simulate.personal import chunks, pick_scales
from mimo_fed.simulate.school import seed_of
from mimo_fed.simulate.simulation import Simulation, spec_of
from mimo_fed.simulate.state import Entry

Tell = Callable[[float], None]
"""told of tokens that were trained on or measured since the last time"""


def nobody(tokens: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What an arm came to.

    Attributes:
        adapter: the global one; None: the base alone.
        cohorts: adapters of the cohorts, by name.
        choices: cohort of a device, by name; empty: none.
        personals: personal adapters, by the device's name, each with its lambda.
        bytes_up: mean over devices, whole run.
        bytes_down: likewise: every release of the adapters that the device uses.
        cpu_s: mean processor seconds a device, whole run; the server's part of a round is in it.
        history: one entry a round.
    """

    adapter: GlobalAdapter | None = None
    cohorts: Mapping[str, GlobalAdapter] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)
    personals: Mapping[str, Personal] = field(default_factory=dict)
    bytes_up: float = 0.0
    bytes_down: float = 0.0
    cpu_s: float = 0.0
    history: Sequence[Json] = ()

    def over(self, device: DemoDevice) -> GlobalAdapter | None:
        """Return the adapter of a device's cohort, if it is in one."""
        return self.cohorts.get(self.choices.get(device.name, ""))


class Meter:
    """Listens to a simulation: counts what devices download, and tells of the tokens of each round."""

    def __init__(self, plan: Plan, steps: tuple[int, int], num_devices: int, tell: Tell) -> None:
        self.bytes_down = 0.0
        self.simulation: Simulation | None = None
        self._num_devices, self._tell = num_devices, tell
        self._tokens = [count * plan.batch_size * plan.seq_len for count in steps]

    def began(self, cohort: str, index: int, rounds: int, devices: int) -> None:
        """Hear that a round begins."""

    def ended(self, entry: Entry, rounds: int) -> None:
        """Count the release that follows a round: all devices of the adapter fetch it."""
        assert self.simulation is not None  # noqa: S101 - for the type checker
        cohort = str(entry["cohort"])
        adapter = self.simulation.cohorts[cohort] if cohort else self.simulation.adapter
        users = [chosen for chosen in self.simulation.choices.values() if cohort in ("", chosen)]
        self.bytes_down += len(adapter.to_safetensors()) * len(users) / self._num_devices
        self._tell(float(int(entry["survivors"]) * self._tokens[1 if cohort else 0]))


class Trainer:
    """Trains arms on one base.

    Args:
        base: the frozen base.
        plan: the settings.
        tokens_per_pass: see `StackedModel`.
    """

    def __init__(self, base: Base, plan: Plan, *, tokens_per_pass: int = 4096) -> None:
        self.base, self.plan = base, plan
        self.spec = spec_of(base, plan.adapter)
        self.stack = StackedModel(base, self.spec, tokens_per_pass=tokens_per_pass)

    @classmethod
    def of(cls, other: Trainer, plan: Plan) -> Trainer:
        """Return a trainer on the same base and stack, with another plan for the same adapters."""
        made = cls.__new__(cls)
        made.base, made.plan, made.spec, made.stack = other.base, plan, other.spec, other.stack
        return made

    def fit(
        self,
        arm: Arm,
        devices: Sequence[DemoDevice],
        rates: Rates,
        *,
        cohorts: tuple[str, ...] = (),
        min_rank: int,
        seed: int,
        tell: Tell = nobody,
    ) -> Fitted:
        """Train what an arm shares; personal adapters are left to `personalise`.

        Args:
            arm: which.
            devices: who takes part.
            rates: learning rates.
            cohorts: names of the cohorts, for an arm that has any.
            min_rank: of an arm whose adapter has the rank of the smallest device.
            seed: of everything that is drawn.
            tell: told of progress.
        """
        if arm.in_rounds:
            return self._rounds(arm, devices, rates, cohorts if arm.has_cohorts else (), min_rank, seed, tell)
        if arm.kind == "pooled":
            return self._pooled(devices, rates, seed, tell)
        return Fitted()

    def personalise(
        self,
        fitted: Fitted,
        devices: Sequence[DemoDevice],
        rates: Rates,
        num_steps: int,
        *,
        seed: int,
        tell: Tell = nobody,
    ) -> Fitted:
        """Train a personal adapter for each of these devices on top of what is shared, and pick its lambda.

        Args:
            fitted: what is shared, frozen; nothing, for training alone.
            devices: whose.
            rates: learning rates.
            num_steps: of every device.
            seed: of everything that is drawn.
            tell: told of progress.
        """
        started = time.process_time()
        under = fitted.adapter or GlobalAdapter.zero(self.spec)
        config = self.plan.train(1, rates)
        trained: dict[str, Personal] = {}
        for some in chunks(devices):
            jobs = [self._job(device, seed, fitted.over(device)) for device in some]
            learnt = self.stack.train_personal(under, jobs, config, num_steps=num_steps)
            trained |= {device.name: own for device, own in zip(some, learnt, strict=True)}
            tell(float(len(some) * num_steps * self.plan.batch_size * self.plan.seq_len))
        picked = pick_scales(self.stack, devices, under, fitted.cohorts, fitted.choices, trained)
        spent = (time.process_time() - started) / max(1, len(devices))
        return replace(fitted, personals={**fitted.personals, **picked}, cpu_s=fitted.cpu_s + spent)

    def _job(self, device: DemoDevice, seed: int, cohort: GlobalAdapter | None) -> Job:
        return Job(
            texts=device.corpus.train,
            seed=seed_of(f"{seed}/{device.name}/personal"),
            rank=1,
            num_steps=1,
            personal=None,
            cohort=cohort,
        )

    def _rounds(
        self,
        arm: Arm,
        devices: Sequence[DemoDevice],
        rates: Rates,
        cohorts: tuple[str, ...],
        min_rank: int,
        seed: int,
        tell: Tell,
    ) -> Fitted:
        started, num_devices = time.process_time(), len(devices)
        spec = spec_of(self.base, self.plan.shape(arm, min_rank))
        settings = self.plan.simulation(
            arm, spec, rates, num_federated=num_devices, cohorts=cohorts, seed=seed
        )
        steps = (settings.round.train.num_steps, settings.cohort_train.num_steps)
        meter = Meter(self.plan, steps, num_devices, tell)
        simulation = Simulation(self.base, devices, settings, progress=meter, stack=self.stack)
        meter.simulation = simulation
        simulation.run()
        sent = sum(entry["survivors"] * entry.get("bytes_up", 0.0) for entry in simulation.history)
        return Fitted(
            adapter=simulation.adapter,
            cohorts=simulation.cohorts,
            choices=simulation.choices,
            bytes_up=sent / num_devices,
            bytes_down=meter.bytes_down,
            cpu_s=(time.process_time() - started) / num_devices,
            history=tuple(simulation.history),
        )

    def _pooled(self, devices: Sequence[DemoDevice], rates: Rates, seed: int, tell: Tell) -> Fitted:
        """Train a plain LoRA on all text: fewer, larger steps, and as many tokens as all devices together."""
        plan = self.plan
        num_steps = max(1, round(len(devices) * plan.budget(len(devices)) / plan.pooled_batch))
        config = replace(plan.train(num_steps, rates), batch_size=plan.batch_size * plan.pooled_batch)
        job = Job(
            texts=[text for device in devices for text in device.corpus.train],
            seed=seed_of(f"{seed}/pooled"),
            rank=plan.adapter.rank,
            num_steps=num_steps,
            personal=None,
            cohort=None,
        )
        zero = GlobalAdapter.zero(self.spec)
        (product,) = self.stack.train_product(zero, [job], config)
        tell(float(num_steps * config.batch_size * plan.seq_len))
        values = {f"{m}.{f}": x for m, pair in product.items() for f, x in zip("BA", pair, strict=True)}
        return Fitted(adapter=zero.with_values("AB", values))
