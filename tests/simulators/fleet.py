"""The fleet of `mimo_fed.simulate` on random updates, and a store whose coordinator can be killed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mimo_fed import simulate
from mimo_fed.adapter import AdapterSpec, GlobalAdapter, Module, prefix
from mimo_fed.config import AdapterConfig, RoundConfig
from mimo_fed.events import EventLog
from mimo_fed.round.contribute import Tap
from mimo_fed.round.device import Evaluation, Policy, TrainedUpdate
from mimo_fed.round.records import Record
from mimo_fed.simulate import MemoryJournal, Stream

__all__ = ["Killed", "MemoryFleet", "MemoryJournal", "MemoryStore", "SimulatedDevice", "Stream"]

NOW_S = 1_790_000_000.0
RANKS = (4, 4, 8, 8, 16, 16, 16, 16)
SPEC = AdapterSpec(
    base_fingerprint="ab" * 32,
    modules=(Module("model.layers.0.self_attn.q_proj", 24, 32), Module("model.layers.0.mlp.up_proj", 40, 32)),
    config=AdapterConfig(),
)


@dataclass
class SimulatedDevice:
    """Random updates instead of training; everything else is the real driver."""

    name: str
    rank: int
    weight: int = 2
    num_steps: int = 0
    """taken in a round; 0: all that it asks for"""
    spec: AdapterSpec = SPEC
    cohort: str = ""
    trained: list[TrainedUpdate] = field(default_factory=list)
    fetch: Callable[[str], bytes] | None = None
    """digest -> release; without it only the zero adapter can be had"""
    notices: list[bytes] = field(default_factory=list)

    def fetch_base(self, digest: str) -> bytes:
        base = self.fetch(digest) if self.fetch else GlobalAdapter.zero(self.spec).to_safetensors()
        assert hashlib.sha256(base).hexdigest() == digest
        return base

    def train(self, base: bytes, config: RoundConfig, seed: str) -> TrainedUpdate:
        number = int.from_bytes(hashlib.sha256(f"{self.name}/{seed}".encode()).digest()[:8], "big")
        rng = np.random.default_rng(number)
        delta = {
            part.name: prefix(part, rng.normal(0, 0.01, (part.rows, part.cols)).astype(np.float32), self.rank)
            for part in self.spec.parts(config.train.phase)
        }
        steps = self.num_steps or config.train.num_steps
        update = TrainedUpdate(
            delta=delta, weight=self.weight, num_steps=steps, loss_before=3.0, loss_after=2.5
        )
        self.trained.append(update)
        return update

    def evaluate(self, candidate: bytes, config: RoundConfig) -> Evaluation:
        return Evaluation(weight=self.weight, loss_current=3.0, loss_candidate=2.75)

    def installed(self, request: bytes) -> bytes:
        self.notices.append(request)
        return b'{"state": "committed", "release": 1}'


class Killed(Exception):
    """The process is gone."""


@dataclass
class MemoryStore(simulate.MemoryStore):
    """A round's records that survive the coordinator; `kill_after` counts appends until it is killed."""

    kill_after: int = -1

    def append(self, record: Record) -> None:
        super().append(record)
        self.kill_after -= 1
        if self.kill_after == 0:
            raise Killed


class MemoryFleet(simulate.MemoryFleet):
    """Devices that draw random updates, and helper organisations, in this process.

    Args:
        folder: event logs go here.
        ranks: one device for each.
    """

    def __init__(
        self,
        folder: Path,
        ranks: tuple[int, ...] = RANKS,
        lost: Callable[[str, str], bool] = lambda stage, device: False,
        policy: Policy = Policy(n_min_floor=3, suites=("hybrid", "classic", "reference")),
        tap: Tap | None = None,
        now_s: Callable[[], float] = lambda: NOW_S,
        helpers: int = 0,
        population: int = 0,
    ) -> None:
        self.devices = {
            f"device-{i + 1}": SimulatedDevice(f"device-{i + 1}", rank, weight=1 + i % 3)
            for i, rank in enumerate(ranks)
        }
        super().__init__(
            self.devices,
            policy=policy,
            now_s=now_s,
            lost=lost,
            helpers=helpers,
            population=population,
            events=lambda name: EventLog(folder / f"{name}.jsonl"),
            tap=tap,
        )
