"""The agent of one device: puts its parts together, answers rounds, and looks for releases.

One model, so one thing that computes at a time: training, judging and installing wait for one another.
Short answers of a round never wait for them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import AdapterSpec
from mimo_fed.config import AdapterConfig
from mimo_fed.errors import ConfigError, InstallError, MimoFedError
from mimo_fed.events import EventLog
from mimo_fed.model import Base, DeviceModel, Limits, load_base
from mimo_fed.round.contribute import Contributor
from mimo_fed.secagg import Arithmetic
from mimo_fed_client.compute import ComputeSlots
from mimo_fed_client.corpus import PrivateCorpus
from mimo_fed_client.device import LocalDevice
from mimo_fed_client.identity import enrol_device
from mimo_fed_client.install import Installer
from mimo_fed_client.journal import FileJournal, state_key
from mimo_fed_client.lock import only_agent
from mimo_fed_client.mounted import Mounted
from mimo_fed_client.releases import Releases
from mimo_fed_client.report import write_report
from mimo_fed_client.settings import AgentSettings, load_settings
from mimo_fed_client.slots import Slots
from mimo_fed_client.updater import Updater
from mimo_fed_client.usage import Usage

STOP_S = 60.0
"""longest wait for what is being computed when the agent ends"""

LONG_STAGES = ("contribute", "installed")
PLAINTEXT_ENV = "MIMO_FED_TEST_PLAINTEXT"
"""names a folder; for tests alone: what this device seals is written there too"""

Meter = Callable[[], tuple[int, int, float]]
"""bytes up, bytes down and seconds of the transport, in this process's life"""


class Agent:
    """One device, running. A context manager: the folder's lock and the connections are its.

    Args:
        settings: the device's.
        stop: set when the agent shall end; training stops at its next step.
        base: an already loaded base; loaded by name if not given.

    Raises:
        ConfigError: the settings, or another agent runs on this home.
        DataError: the corpus or the base cannot be used.
        TransportError: the authority cannot be reached, and the device is not enrolled.
    """

    def __init__(
        self, settings: AgentSettings, *, stop: threading.Event | None = None, base: Base | None = None
    ) -> None:
        self.settings = settings
        self.stop = stop or threading.Event()
        self._resources = ExitStack()
        try:
            self._resources.enter_context(only_agent(settings.home))
            self.events = EventLog(settings.home / "events.jsonl")
            self._build(base)
        except BaseException:
            self._resources.close()
            raise

    def _build(self, base: Base | None) -> None:
        settings, events = self.settings, self.events
        identity = enrol_device(settings)
        corpus = PrivateCorpus.load(settings.corpus)
        self.usage = Usage(settings.home / "usage.json")
        journal = FileJournal(settings.home / "journal", state_key(settings.home / "state.key"))
        updater = Updater(settings.home / "updater", settings.registry_url, _root(settings.root_file))
        self._resources.callback(updater.close)
        self.releases = Releases(
            updater, journal, patience_s=settings.patience_s, usage=self.usage, stop=self.stop.is_set
        )
        compute = ComputeSlots(settings.slots_folder, settings.compute_slots)
        base = base or load_base(settings.base, dtype=settings.precision)
        spec = device_spec(base)
        self.model = DeviceModel(base, spec, limits=Limits(**settings.training.model_dump()))
        mounted = Mounted(self.model, corpus)
        parts: dict[str, Any] = {
            "releases": self.releases,
            "compute": compute,
            "usage": self.usage,
            "events": events,
            "stop": self.stop.is_set,
        }
        self.installer = Installer(
            mounted,
            spec,
            slots=Slots(settings.home / "slots", lambda what: events.emit("slot.damaged", message=what)),
            settings=settings.install,
            state_file=settings.home / "install.json",
            **parts,
        )
        self._device = LocalDevice(
            device_id=settings.device_id,
            rank=settings.rank,
            mounted=mounted,
            spec=spec,
            installer=self.installer,
            personal_file=personal_file(settings),
            personal_steps=settings.install.personal_steps,
            report=partial(self._report, corpus),
            **parts,
        )
        arithmetic = Arithmetic()
        arithmetic.backend.prepare()
        self._contributor = Contributor(
            self._device,
            journal,
            key=identity.key,
            certificate=identity.certificate,
            anchors=self.releases.anchors,
            policy=settings.policy.policy(),
            entropy=os.urandom,
            now_s=time.time,
            events=events,
            rest=lambda seconds: self._rest(seconds),
            arithmetic=arithmetic,
            tap=_tap(settings.device_id, events),
        )
        self._rest: Callable[[float], None] = lambda _: None
        self._meter: Meter = lambda: (0, 0, 0.0)
        self._long, self._short = threading.Lock(), threading.Lock()
        events.emit(
            "agent.started",
            pid=os.getpid(),
            device=settings.device_id,
            rank=settings.rank,
            release=self.installer.release,
            test_only=settings.policy.test_only,
        )

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Keep the counts, and let the folder and the connections go."""
        try:
            self._count()
            self.events.emit("agent.stopped")
        finally:
            self._resources.close()

    def handle(self, stage: str, payload: bytes) -> bytes:
        """Answer one request of a round; any thread may call."""
        self._answered()
        if stage not in LONG_STAGES:
            return self._contributor.handle(stage, payload)
        with self._long:
            self._answered()  # another thread's answer may have left while this one waited
            answer = b""
            try:
                answer = self._contributor.handle(stage, payload)
            finally:  # also after an error that is not ours: the next round must find the device ready
                if stage == "contribute":
                    self._follow(answer[:1] == b"\x01")
            self._count()
        return answer

    def _answered(self) -> None:
        with self._short:
            if self._device.machine.state == "UPLOAD":
                self._device.machine.move("answered")

    def _follow(self, sealed: bool) -> None:
        """Move the training state on, by what became of the request to contribute."""
        machine = self._device.machine
        with self._short:
            if machine.state == "SEAL":
                machine.move("sealed" if sealed else "failed")
            elif machine.state == "ELIGIBLE" and sealed:
                machine.move("again")

    def _count(self) -> None:
        up, down, network_s = self._meter()
        self.usage.observe(
            up=up,
            down=down + self.releases.bytes_down,
            seconds=self._contributor.seconds | {"network": network_s},
        )
        try:
            self.usage.save()
        except InstallError as error:  # a count is worth less than the answer that waits
            self.events.emit("usage.lost", message=error.message)
        self.events.emit("bytes", up=self.usage.bytes_up, down=self.usage.bytes_down)

    def _report(self, corpus: PrivateCorpus) -> None:
        self._count()
        write_report(
            self.settings.home / "report.json",
            name=self.settings.device_id,
            release=self.installer.release,
            model=self.model,
            corpus=corpus,
            usage=self.usage,
        )

    def look(self) -> str:
        """Look for a release and install it, unless the model is busy; say what came of it."""
        if not self._long.acquire(blocking=False):
            return "busy"
        try:
            outcome = self.installer.check()
            if outcome.state == "committed" and self.settings.install.measure:
                self._device.settle()
            return outcome.state
        except MimoFedError as error:
            self.events.emit("look.failed", code=error.code, message=error.message)
            return "failed"
        finally:
            self._long.release()

    def watch(self) -> None:
        """Look again and again until stopped."""
        while not self.stop.wait(self.settings.poll_s):
            self.look()

    def run(self) -> None:
        """Look once, then answer rounds over Flower until stopped.

        Raises:
            TransportError: the SuperLink refuses this device.
        """
        from mimo_fed_client.node import EmbeddedNode

        settings = self.settings
        self.look()
        certificates = settings.root_certificates.read_bytes() if settings.root_certificates else None
        node = EmbeddedNode(
            settings.superlink, self.handle, root_certificates=certificates, events=self.events
        )
        self._meter = lambda: (node.bytes_up, node.bytes_down, node.network_s)
        self._rest = node.rest
        try:
            node.run_beside(self.watch, self.stop, patience_s=STOP_S)
        finally:
            if self._long.acquire(timeout=STOP_S):  # training ends at its next step
                self._long.release()


def device_spec(base: Base) -> AdapterSpec:
    """Shape of the global adapter on a base."""
    config = AdapterConfig()
    return AdapterSpec(base_fingerprint=base.fingerprint, modules=base.modules(config.targets), config=config)


def personal_file(settings: AgentSettings) -> Path:
    """Where a device keeps its personal adapter."""
    return settings.home / "personal.safetensors"


def _root(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"pinned root cannot be read ({error.strerror}): {path}") from None


def _tap(device_id: str, events: EventLog) -> Callable[[str, Mapping[str, NDArray[np.uint32]]], None] | None:
    folder = os.environ.get(PLAINTEXT_ENV)
    if not folder:
        return None
    events.emit("test.plaintext", message="what this device seals is also kept in the clear", folder=folder)

    def tap(round_id: str, inputs: Mapping[str, NDArray[np.uint32]]) -> None:
        arrays: dict[str, Any] = dict(inputs)
        np.savez(Path(folder) / f"{round_id}.{device_id}.npz", **arrays)

    return tap


_shared: dict[str, Agent] = {}
_shared_lock = threading.Lock()


def stock_handler(node_config: Mapping[str, Any]) -> Callable[[str, bytes], bytes]:
    """Return the handler of this process's one agent, for Flower's own SuperNode.

    Args:
        node_config: may name the settings file under `agent`; else the variable MIMO_FED_AGENT does.

    Raises:
        ConfigError: neither names one.
    """
    path = str(node_config.get("agent") or os.environ.get("MIMO_FED_AGENT") or "")
    if not path:
        raise ConfigError("agent's settings are not named", hint="--node-config 'agent=\"/path/agent.toml\"'")
    with _shared_lock:
        if path not in _shared:
            agent = Agent(load_settings(Path(path)))
            agent.look()
            threading.Thread(target=agent.watch, name="watch", daemon=True).start()
            _shared[path] = agent
        return _shared[path].handle
