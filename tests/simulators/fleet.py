"""A fleet in memory: real device drivers on simulated devices, and a way to lose them at any stage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, Module
from mimo_fed.config import AdapterConfig, RoundConfig
from mimo_fed.events import EventLog
from mimo_fed.round import envelope
from mimo_fed.round.contribute import Contributor, Tap
from mimo_fed.round.device import Evaluation, Policy, TrainedUpdate
from mimo_fed.round.fleet import Answer
from mimo_fed.round.membership import Membership
from mimo_fed.round.records import Record
from mimo_fed.secagg import Anchors, Certificate, DevicePolicy, SigningKey, issue_certificate, verify_hello

NOW_S = 1_790_000_000.0
RANKS = (4, 4, 8, 8, 16, 16, 16, 16)
SPEC = AdapterSpec(
    base_fingerprint="ab" * 32,
    modules=(Module("model.layers.0.self_attn.q_proj", 24, 32), Module("model.layers.0.mlp.up_proj", 40, 32)),
    config=AdapterConfig(),
)


class Stream:
    """Reproducible entropy."""

    def __init__(self, seed: str) -> None:
        self._seed, self._count = seed, 0

    def __call__(self, size: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"{self._seed}/{self._count}".encode()).digest(size)


class MemoryJournal:
    """A journal that forgets when the test ends."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def put(self, key: str, value: bytes) -> None:
        self.values[key] = value

    def erase(self, key: str) -> None:
        self.values.pop(key, None)

    def keys(self, prefix: str) -> tuple[str, ...]:
        return tuple(sorted(k for k in self.values if k.startswith(prefix)))


@dataclass
class SimulatedDevice:
    """Random updates instead of training; everything else is the real driver."""

    name: str
    rank: int
    weight: int = 2
    spec: AdapterSpec = SPEC
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
            m.name: rng.normal(0, 0.01, (m.out, self.rank)).astype(np.float32) for m in self.spec.modules
        }
        update = TrainedUpdate(delta=delta, weight=self.weight, loss_before=3.0, loss_after=2.5)
        self.trained.append(update)
        return update

    def evaluate(self, candidate: bytes, config: RoundConfig) -> Evaluation:
        return Evaluation(weight=self.weight, loss_current=3.0, loss_candidate=2.75)

    def installed(self, request: bytes) -> bytes:
        self.notices.append(request)
        return b'{"state": "committed", "release": 1}'


class Killed(Exception):
    """The process is gone."""


class DictSpool:
    """Contributions that are still there when the coordinator comes back."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        self.files[name] = data

    def get(self, name: str) -> bytes:
        return self.files[name]

    def read(self, name: str, start: int, length: int) -> bytes:
        return self.files[name][start : start + length]


@dataclass
class MemoryStore:
    """A round's records that survive the coordinator; `kill_after` counts appends until it is killed."""

    kept: list[Record] = field(default_factory=list)
    spool: DictSpool = field(default_factory=DictSpool)
    kill_after: int = -1

    def append(self, record: Record) -> None:
        self.kept.append(record)
        self.kill_after -= 1
        if self.kill_after == 0:
            raise Killed

    def records(self) -> tuple[Record, ...]:
        return tuple(self.kept)

    def contributions(self) -> Iterator[bytes]:
        yield from (self.spool.files[name] for name in sorted(self.spool.files))


class MemoryFleet:
    """Devices, and helper organisations, in this process.

    Args:
        folder: event logs go here.
        ranks: one device for each.
        lost: (stage, device id) -> True: the device does not answer.
        helpers: how many pinned organisations there are.
        population: what the anchors say of the number of enrolled devices.
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
        self.now_s, self.policy, self._folder = now_s, policy, folder
        entropy = Stream("fleet")
        self.key, self.authority = SigningKey.generate(entropy), SigningKey.generate(entropy)
        pinned = [SigningKey.generate(entropy) for _ in range(helpers)]
        self.anchors = Anchors(
            self.key.public_key,
            self.authority.public_key,
            helpers=frozenset(key.public_key for key in pinned),
            population=population,
        )
        self.lost, self.devices = lost, {}
        self.contributors: dict[str, Contributor] = {}
        self.helpers: dict[str, Membership] = {}
        self.certificates: dict[str, Certificate] = {}
        self.asked: list[tuple[str, str]] = []
        for i, rank in enumerate(ranks):
            name, key = f"device-{i + 1}", SigningKey.generate(entropy)
            self.devices[name] = SimulatedDevice(name, rank, weight=1 + i % 3)
            self.contributors[name] = Contributor(
                self.devices[name], MemoryJournal(), policy=policy, tap=tap, **self._identity(name, key)
            )
        for i, key in enumerate(pinned):
            name = f"helper-{i + 1}"
            self.helpers[name] = Membership(
                MemoryJournal(),
                policy=DevicePolicy(n_min_floor=3, suites=policy.of_manifests().suites),
                **self._identity(name, key),
            )

    def _identity(self, name: str, key: SigningKey) -> dict[str, Any]:
        """What every party is given."""
        self.certificates[name] = issue_certificate(
            self.authority,
            device_id=name,
            public_key=key.public_key,
            serial=len(self.certificates) + 1,
            not_before_s=int(self.now_s()) - 10,
            not_after_s=int(self.now_s()) + 86_400,
        )
        return {
            "key": key,
            "certificate": self.certificates[name],
            "anchors": lambda: self.anchors,
            "entropy": Stream(name),
            "now_s": self.now_s,
            "events": EventLog(self._folder / f"{name}.jsonl"),
        }

    def discover(self, *, deadline_at_s: float) -> tuple[Certificate, ...]:
        nonce, there = b"n" * 32, []
        for name in (*self.contributors, *self.helpers):
            if not self.lost("hello", name):
                answer = envelope.unwrap(self.answer("hello", name, nonce))
                there.append(verify_hello(answer, nonce, self.anchors, int(self.now_s())))
        return tuple(sorted(there, key=lambda certificate: certificate.device_id))

    def answer(self, stage: str, name: str, payload: bytes) -> bytes:
        """One party's answer."""
        if name in self.contributors:
            return self.contributors[name].handle(stage, payload)
        return self.helpers[name].handle(stage, payload)

    def ask(
        self, stage: str, requests: Mapping[str, bytes], *, deadline_at_s: float, stop: Callable[[], bool]
    ) -> Iterator[Answer]:
        for device_id, payload in requests.items():
            if stop():
                return
            self.asked.append((stage, device_id))
            if not self.lost(stage, device_id):
                yield Answer(device_id, self.answer(stage, device_id, payload))
