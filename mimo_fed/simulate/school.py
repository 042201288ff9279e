"""The devices of a simulation at school: a whole cohort is trained together when the first is asked.

The seed of a device's steps comes from the simulation's seed, the round's number and the device's name, not
from the manifest: a round with encryption and one without draw the same batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, prefix
from mimo_fed.config import Phase, RoundConfig, TrainConfig
from mimo_fed.data import DemoDevice
from mimo_fed.data.weight import num_bytes, weight_of
from mimo_fed.errors import LocalProtocolError
from mimo_fed.model import Loss
from mimo_fed.model.stack import Job, Personal, Trained
from mimo_fed.round.device import TrainedUpdate
from mimo_fed.simulate.settings import SimulateSettings

Pairs = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""(B (out, R), A (R, inp)) by module"""
TOGETHER: Final = 64
"""devices trained in one go; bounds memory, not results"""


class Stack(Protocol):
    """What trains and measures many devices at once; see `mimo_fed.model.stack.StackedModel`."""

    def train_shared(
        self, adapter: GlobalAdapter, jobs: Sequence[Job], config: TrainConfig, *, train: Any = "global"
    ) -> Sequence[Trained]:
        """Train one shared adapter on every device's text."""
        ...

    def train_personal(
        self, adapter: GlobalAdapter, jobs: Sequence[Job], config: TrainConfig, *, num_steps: int
    ) -> Sequence[Personal]:
        """Train every device's personal adapter."""
        ...

    def train_product(
        self, adapter: GlobalAdapter, jobs: Sequence[Job], config: TrainConfig
    ) -> Sequence[Pairs]:
        """Train both factors of the shared adapter on every device's text."""
        ...

    def losses(
        self,
        texts_per_device: Sequence[Sequence[str]],
        adapter: GlobalAdapter | None,
        cohorts: Sequence[GlobalAdapter | None],
        personals: Sequence[Personal | None],
    ) -> Sequence[Loss]:
        """Measure every device's texts under its own adapters."""
        ...


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What the round under way trains.

    Attributes:
        sequence: number of the round among all, those of cohorts too.
        config: what it fixes.
        adapter: what is trained.
        shared: the global adapter; frozen if a cohort's is trained.
        cohorts: adapters of the cohorts, by name.
        layout: shape of what is summed; None: that of the adapter.
    """

    sequence: int
    config: RoundConfig
    adapter: GlobalAdapter
    shared: GlobalAdapter
    cohorts: Mapping[str, GlobalAdapter]
    layout: AdapterSpec | None = None
    released: bytes = field(init=False, repr=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "released", self.adapter.to_safetensors())
        object.__setattr__(self, "digest", hashlib.sha256(self.released).hexdigest())

    @property
    def spec(self) -> AdapterSpec:
        """Shape of what is summed."""
        return self.layout or self.adapter.spec


Teach = Callable[[Sequence[str]], dict[str, TrainedUpdate]]
"""trains the devices named, and returns the update of each"""


class School:
    """All devices of a simulation, and the model that trains them.

    Args:
        stack: trains and measures many at once.
        devices: by name.
        settings: of the simulation.

    Attributes:
        choices: the cohort of every device; empty: none.
        personals: personal adapters, of the devices that have one.
    """

    def __init__(self, stack: Stack, devices: Mapping[str, DemoDevice], settings: SimulateSettings) -> None:
        self.stack, self.devices, self.settings = stack, devices, settings
        self.choices = {name: settings.start(device) for name, device in devices.items()}
        self.personals: dict[str, Personal] = {}
        self._turn: Turn | None = None
        self._asked: tuple[str, ...] = ()
        self._updates: dict[str, TrainedUpdate] = {}
        self._teacher: Teach = self._teach

    @property
    def turn(self) -> Turn:
        """What is trained now.

        Raises:
            LocalProtocolError: no round is under way.
        """
        if self._turn is None:
            raise LocalProtocolError("no round of the simulation is under way")
        return self._turn

    def begin(self, turn: Turn, teach: Teach | None = None) -> None:
        """Begin a round; nothing of the one before is kept."""
        self._turn, self._asked, self._teacher = turn, (), teach or self._teach
        self._updates.clear()

    def expect(self, names: Iterable[str]) -> None:
        """Say whom the round asks, so that they can be trained together."""
        self._asked = tuple(names)

    def rank(self, name: str) -> int:
        """Return the rank of a device in this round: the outermost shell that its class can hold."""
        return self.rank_in(name, self.turn.spec)

    def rank_in(self, name: str, spec: AdapterSpec) -> int:
        """Return the rank of a device in an adapter of this shape."""
        own, bounds = self.devices[name].rank, spec.config.shells
        return max((high for high in bounds if high <= own), default=bounds[0])

    def update(self, name: str) -> TrainedUpdate:
        """Return what a device has trained, once; the first that is asked has those expected trained."""
        if name not in self._updates:
            at = self._asked.index(name) if name in self._asked else -1
            together = self._asked[at : at + TOGETHER] if at >= 0 else (name,)
            self._updates |= self._teacher(together)
        return self._updates.pop(name)

    def job(self, name: str, *, num_steps: int, salt: str = "") -> Job:
        """Return a device's part of a stretch of training in this round."""
        return Job(
            texts=self.devices[name].corpus.train,
            seed=seed_of(f"{self.settings.seed}/{self.turn.sequence}/{name}/{salt}"),
            rank=self.rank_in(name, self.turn.adapter.spec),
            num_steps=num_steps,
            personal=self.personals.get(name),
            cohort=self.turn.cohorts.get(self.choices[name]),
        )

    def _teach(self, names: Sequence[str]) -> dict[str, TrainedUpdate]:
        """Train all of these: their personal adapters first, then what is shared."""
        turn, config = self.turn, self.turn.config
        if self.settings.personal_steps and not config.cohort:
            self.teach_personal(names, self.settings.personal_steps, config.train)
        jobs = self._jobs(names)
        kind = "cohort" if config.cohort else "global"
        trained = self.stack.train_shared(turn.shared, jobs, config.train, train=kind)
        phase = config.train.phase
        own = [moved(turn.adapter, phase, t.delta, job.rank) for t, job in zip(trained, jobs, strict=True)]
        first = [result.first_loss for result in trained]
        updates = self._updates_of(names, jobs, own, first)
        return {name: replace(updates[name], delta=t.delta) for name, t in zip(names, trained, strict=True)}

    def teach_products(self, names: Sequence[str]) -> dict[str, tuple[Pairs, TrainedUpdate]]:
        """Train both factors of every device: (the factors as trained, the update without its delta)."""
        adapter, jobs = self.turn.adapter, self._jobs(names)
        config = replace(self.turn.config.train, phase="AB")
        products = self.stack.train_product(self.turn.shared, jobs, config)
        own = [
            adapter.with_values(
                "AB", {f"{m}.{f}": x for m, pair in p.items() for f, x in zip("BA", pair, strict=True)}
            )
            for p in products
        ]
        updates = self._updates_of(names, jobs, own, None)
        return {name: (product, updates[name]) for name, product in zip(names, products, strict=True)}

    def _jobs(self, names: Sequence[str]) -> list[Job]:
        asked, classes = self.turn.config.train.num_steps, (self.devices[name].device_class for name in names)
        steps = [self.settings.num_steps(device_class, asked) for device_class in classes]
        return [self.job(name, num_steps=count) for name, count in zip(names, steps, strict=True)]

    def teach_personal(
        self, names: Sequence[str], num_steps: int, config: TrainConfig, *, salt: str = "personal"
    ) -> None:
        """Take personal steps on the frozen shared adapters; lambda is 1 afterwards."""
        jobs = [self.job(name, num_steps=num_steps, salt=salt) for name in names]
        taught = self.stack.train_personal(self.turn.shared, jobs, config, num_steps=num_steps)
        self.personals |= dict(zip(names, taught, strict=True))

    def _updates_of(
        self,
        names: Sequence[str],
        jobs: Sequence[Job],
        own: Sequence[GlobalAdapter],
        first: Sequence[float] | None,
    ) -> dict[str, TrainedUpdate]:
        """Return updates with their weight, steps and losses, and no delta yet.

        Losses are nats per token on held-out text, with the adapter of the round and with each device's own;
        if none is to be measured, those of the first batch, `first`.
        """
        turn, config = self.turn, self.turn.config
        if first is not None and not self.settings.held_out_bytes:
            before, after = first, first
        else:
            under = turn.shared if config.cohort else None
            before = self._per_token(names, under, [turn.adapter] * len(names))
            after = self._per_token(names, under, own)
        return {
            name: TrainedUpdate(
                delta={},
                weight=weight_of(num_bytes(job.texts), config.privacy.weight_max),
                num_steps=job.num_steps,
                loss_before=before[at],
                loss_after=after[at],
            )
            for at, (name, job) in enumerate(zip(names, jobs, strict=True))
        }

    def _per_token(
        self, names: Sequence[str], under: GlobalAdapter | None, over: Sequence[GlobalAdapter]
    ) -> Sequence[float]:
        texts = [held_out(self.devices[name], max(1, self.settings.held_out_bytes)) for name in names]
        losses = self.stack.losses(texts, under, over, [None] * len(names))
        return [loss.per_token for loss in losses]


def moved(
    adapter: GlobalAdapter, phase: Phase, delta: Mapping[str, NDArray[np.float32]], rank: int
) -> GlobalAdapter:
    """Return an adapter with a device's delta added to its prefix of X."""
    values = {name: value.copy() for name, value in adapter.values(phase).items()}
    for part in adapter.spec.parts(phase):
        prefix(part, values[part.name], rank)[...] += delta[part.name]
    return adapter.with_values(phase, values)


def held_out(device: DemoDevice, most_bytes: int = 0) -> tuple[str, ...]:
    """Return the text on which a device decides: validation text, or the last piece to train on.

    Args:
        device: whose.
        most_bytes: stop before the piece that would go beyond; the first is always there. 0: all.
    """
    corpus, used = device.corpus, 0
    kept: list[str] = []
    for text in corpus.validation or corpus.train[-1:]:
        used += len(text.encode())
        if kept and most_bytes and used > most_bytes:
            break
        kept.append(text)
    return tuple(kept)


def with_scale(personal: Personal, scale: float) -> Personal:
    """Return a personal adapter with another lambda."""
    return replace(personal, scale=scale)


def seed_of(text: str) -> int:
    """Return a seed for one draw, from its name."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
