"""One device in a process of its own: its driver, over what lies in the run's folder and what it kept itself.

It knows neither Flower nor Ray: a stage and bytes come in, bytes go out.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.config import RoundConfig
from mimo_fed.data import DemoDevice, load_extract
from mimo_fed.errors import DigestMismatch
from mimo_fed.events import EventLog
from mimo_fed.model import load_base
from mimo_fed.model.stack import StackedModel
from mimo_fed.round.contribute import Contributor
from mimo_fed.round.device import Journal, TrainedUpdate
from mimo_fed.secagg import Anchors, SigningKey
from mimo_fed.simulate.device import SimulatedDevice
from mimo_fed.simulate.fleet import certify
from mimo_fed.simulate.rounds import START_S, policy_for
from mimo_fed.simulate.school import School, Turn
from mimo_fed.simulate.settings import SimulateSettings
from mimo_fed.simulate.simulation import spec_of
from mimo_fed.simulate.stores import Stream

DEVICES: Final = "devices"
RELEASES: Final = "releases"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every actor is told: small, for it is sent with every message."""

    base: str
    folder: Path
    settings: SimulateSettings

    @property
    def coordinator(self) -> SigningKey:
        """The coordinator's key; a simulation's keys all come from its seed."""
        return SigningKey.generate(Stream(f"ray/{self.settings.seed}/coordinator"))

    @property
    def authority(self) -> SigningKey:
        """The enrolment authority's key."""
        return SigningKey.generate(Stream(f"ray/{self.settings.seed}/authority"))

    @property
    def anchors(self) -> Anchors:
        """The keys to trust."""
        return Anchors(self.coordinator.public_key, self.authority.public_key)

    def release(self, digest: str) -> Path:
        """Return where an adapter lies."""
        return self.folder / RELEASES / f"{digest}.safetensors"


@dataclass(frozen=True)
class NodeDevice(SimulatedDevice):
    """A device alone in its school, which trains from what lies in the run's folder."""

    work: Work

    @property
    def rank(self) -> int:
        """Rank of this device's class."""
        return self.school.rank_in(self.name, self.spec)

    @property
    def spec(self) -> AdapterSpec:
        """Shape of the global adapter."""
        return _classroom(self.work).spec

    def fetch_base(self, digest: str) -> bytes:
        """Return the adapter with this digest.

        Raises:
            DigestMismatch: the run's folder has none, or other bytes under its name.
        """
        try:
            released = self.work.release(digest).read_bytes()
        except OSError:
            released = b""
        if hashlib.sha256(released).hexdigest() != digest:
            raise DigestMismatch(f"the run's folder has no adapter with the digest: {digest[:16]}")
        return released

    def train(self, base: bytes, config: RoundConfig, seed: str) -> TrainedUpdate:
        """Train; the manifest's hash, `seed`, names the draw of the steps."""
        adapter = GlobalAdapter.from_safetensors(base, self.spec)
        sequence = int(seed[:12], 16)
        turn = Turn(sequence=sequence, config=config, adapter=adapter, shared=adapter, cohorts={})
        self.school.begin(turn)
        return self.school.update(self.name)


@dataclass(frozen=True, kw_only=True)
class _Classroom:
    """What an actor keeps for all the devices it takes up."""

    devices: tuple[DemoDevice, ...]
    spec: AdapterSpec
    stack: StackedModel


@lru_cache(maxsize=1)
def _classroom(work: Work) -> _Classroom:
    base = load_base(work.base)
    spec = spec_of(base, work.settings.round.adapter)
    return _Classroom(devices=load_extract(work.folder / DEVICES), spec=spec, stack=StackedModel(base, spec))


def answer(work: Work, number: int, journal: Journal, stage: str, payload: bytes) -> bytes:
    """Let the real driver of a device answer one message.

    Args:
        work: of the run.
        number: of the device.
        journal: what its driver kept since the last message.
        stage: of the round.
        payload: the request.
    """
    room = _classroom(work)
    device = room.devices[number]
    school = School(room.stack, {device.name: device}, work.settings)
    key = SigningKey.generate(Stream(f"ray/{work.settings.seed}/{device.name}"))
    driver = Contributor(
        NodeDevice(device.name, school, work),
        journal,
        key=key,
        certificate=certify(work.authority, device.name, key, number + 1, START_S),
        anchors=lambda: work.anchors,
        policy=policy_for(work.settings.round),
        entropy=os.urandom,
        now_s=time.time,
        events=EventLog(None),
    )
    return driver.handle(stage, payload)
