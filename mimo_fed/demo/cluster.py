"""Lays out a run and starts its processes, each by its own command, as a person would on as many machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.data import DemoDevice, write_corpus
from mimo_fed.demo.layout import (
    HOST,
    DemoSettings,
    Layout,
    Ports,
    agent_table,
    coordinator_table,
    helper_table,
    write_secret,
    write_settings,
)
from mimo_fed.demo.processes import Processes, free_ports, listening
from mimo_fed.secagg import Anchors

MIMO_FED = (sys.executable, "-m", "mimo_fed.cli")
PREPARE_S = 300.0
START_S = 60.0


class Cluster:
    """All processes of one run on this machine.

    Args:
        layout: where everything lies.
        settings: what the person chose.
        devices: with their text.
        processes: starts and watches children.
        say: shows a line.
    """

    def __init__(
        self,
        layout: Layout,
        settings: DemoSettings,
        devices: Sequence[DemoDevice],
        processes: Processes,
        say: Callable[[str], None],
    ) -> None:
        self._layout, self._settings, self._devices = layout, settings, devices
        self._processes, self._say = processes, say
        authority, registry, superlink = free_ports(3)
        self.ports = Ports(authority=authority, registry=registry, superlink=superlink)

    def set_up(self) -> None:
        """Make keys, signed roots, the adapter's shape, release 0, and every file the processes read."""
        self._prepare_base()
        self._write_helpers()
        self._make_keys()
        self._start_services()
        self._write_coordinator()
        for device in self._devices:
            self._write_device(device)
        for name in self._settings.helper_names:
            write_secret(self._layout.helper(name) / "token", self._token(name))
        self._say(f"{len(self._devices)} devices have their text and a one-time token to enrol with")
        self._processes.wait_until(self._base_is_there, f"base {self._settings.base}", timeout_s=PREPARE_S)
        self._publish_zero()

    def start(self) -> None:
        """Start the helper organisations and the agents, then the supervisor."""
        for name in self._settings.helper_names:
            self._start(name, "helper", "run", "--config", str(self._helper_file(name)))
        for device in self._devices:
            settings = str(self._layout.device(device.name) / "agent.toml")
            if device.name == self._settings.test_stock_node:
                self._start_stock_node(device.name, settings)
            else:
                self._start(device.name, "agent", "run", "--config", settings)
        self._start(
            "supervisor",
            *("coordinator", "run", "--config", str(self._layout.coordinator / "coordinator.toml")),
            finite=True,
        )
        helpers = f", {self._settings.helpers} helper organisations" if self._settings.helpers else ""
        self._say(f"{len(self._devices)} device agents{helpers} and the supervisor started")

    def _start_stock_node(self, name: str, settings: str) -> None:
        """Start Flower's own SuperNode: it installs the app of the run, and loads it for every message."""
        from mimo_fed_server.superlink import ENVIRONMENT, flower_environment, flower_program

        variables = flower_environment(self._layout.device(name) / "flower")
        (port,) = free_ports(1)
        command = ["env", *(f"{key}={variables[key]}" for key in (*ENVIRONMENT, "FLWR_HOME", "PATH"))]
        command += [flower_program("flower-supernode"), "--insecure"]
        command += ["--superlink", f"{HOST}:{self.ports.superlink}", "--host", HOST, "--port", str(port)]
        command += ["--node-config", f"agent={json.dumps(settings)}"]
        self._processes.start(name, command, self._layout.log(name))

    def records(self) -> list[dict[str, Any]]:
        """Ask the registry for the rounds' public records, oldest first."""
        from mimo_fed_server.client import RegistryClient

        with RegistryClient(self.ports.registry_url) as registry:
            return registry.rounds()

    def _prepare_base(self) -> None:
        command = [sys.executable, "-m", "mimo_fed.demo.prepare"]
        command += ["--base", self._settings.base, "--spec", str(self._layout.spec)]
        self._processes.start("prepare", command, self._layout.log("prepare"), finite=True)

    def _base_is_there(self) -> bool:
        return self._layout.spec.exists() and not self._processes.running("prepare")

    def _make_keys(self) -> None:
        from mimo_fed_server.authority import Authority
        from mimo_fed_server.registry.service import initialize
        from mimo_fed_server.setup import make_coordinator_key

        layout = self._layout
        coordinator = make_coordinator_key(layout.coordinator / "key")
        anchors = Anchors(
            coordinator,
            Authority.initialize(layout.authority),
            helpers=frozenset(map(self._helper_key, self._settings.helper_names)),
        )
        initialize(layout.registry, anchors=anchors.to_json())
        self._say("keys of the coordinator, the enrolment authority and the registry made")

    def _write_helpers(self) -> None:
        for name in self._settings.helper_names:
            table = helper_table(self._layout, self._settings, self.ports, name)
            write_settings(self._helper_file(name), table)

    def _helper_file(self, name: str) -> Path:
        return self._layout.helper(name) / "helper.toml"

    def _helper_key(self, name: str) -> bytes:
        """Make an organisation's key: the public half is pinned before the organisation enrols."""
        from mimo_fed_client.helper_settings import load_helper_settings
        from mimo_fed_client.identity import own_key

        return own_key(load_helper_settings(self._helper_file(name))).public_key

    def _start_services(self) -> None:
        layout, ports = self._layout, self.ports
        for name, port in asdict(ports).items():
            home = str(layout.root / name)
            self._start(name, name, "serve", "--home", home, "--host", HOST, "--port", str(port))
        for name, port in asdict(ports).items():
            self._processes.wait_until(partial(listening, port), name, timeout_s=START_S)
        self._say("enrolment authority, registry and SuperLink answer")

    def _publish_zero(self) -> None:
        """Put the zero adapter on both channels: the first round trains from it, and it serves until then."""
        from mimo_fed_server.client import RegistryClient
        from mimo_fed_server.setup import RELEASE_ZERO

        spec = AdapterSpec.from_json(self._layout.spec.read_bytes())
        zero = GlobalAdapter.zero(spec).to_safetensors()
        token = (self._layout.registry / "admin-token").read_text().strip()
        with RegistryClient(self.ports.registry_url, token) as registry:
            info = registry.publish(
                zero,
                channel="dev",
                base_fingerprint=spec.base_fingerprint,
                basis_epoch=0,
                spec_digest=spec.digest(),
                round_id=RELEASE_ZERO,
                quorum_digest="",
            )
            registry.promote(info.number, "stable")
        self._say(f"release {info.number}, the zero adapter ({len(zero) / 1e6:.1f} MB), is on dev and stable")

    def _write_coordinator(self) -> None:
        path = self._layout.coordinator / "coordinator.toml"
        write_settings(path, coordinator_table(self._layout, self._settings, self.ports))

    def _write_device(self, device: DemoDevice) -> None:
        layout, home = self._layout, self._layout.device(device.name)
        home.mkdir(parents=True)
        write_corpus(home / "corpus.jsonl", device.texts)
        write_secret(home / "token", self._token(device.name))
        write_settings(home / "agent.toml", agent_table(layout, self._settings, self.ports, device))

    def _token(self, device_id: str) -> str:
        from mimo_fed_server.authority import Authority

        authority = Authority(self._layout.authority)
        try:
            return authority.make_token(device_id)
        finally:
            authority.close()

    def _start(self, name: str, *arguments: str, finite: bool = False) -> None:
        self._processes.start(name, (*MIMO_FED, *arguments), self._layout.log(name), finite=finite)
