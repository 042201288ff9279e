"""The Compose file, brought up once for the tests, and what they ask it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mimo_fed.events import read_events
from tests.cluster.engine import ROOT, Engine, EngineUnavailable, answers, run

KEPT = "/var/tmp/mimo-fed-cluster"  # noqa: S108 gigabytes that outlive a run; /tmp may be memory

PROJECT = "mimofed-test"
DEVICES = ("device-1", "device-2", "device-3")
SERVERS = ("coordinator", "authority", "registry", "superlink", "gate")
HOME = "/var/lib/mimo-fed"
ROUNDS = 2
WAIT_S = 300


class Fleet:
    """The containers of one project.

    Args:
        wheels: image that holds the packages for the builds; `scratch` for none.
        scratch: folder for files that are copied out.
        variables: of the Compose file, where they differ from the tests' own.
    """

    def __init__(self, wheels: str, scratch: Path, **variables: str) -> None:
        self._scratch = scratch
        ports = dict.fromkeys(("REGISTRY_PORT", "AUTHORITY_PORT", "GATE_PORT"), "0")
        builds = {"WHEELS_IMAGE": wheels, "PIP_NO_INDEX": "" if wheels == "scratch" else "1"}
        self._variables = ports | builds | {"ROUNDS": str(ROUNDS), "BASE": "mimo-nano"} | variables
        self.seconds: dict[str, float] = {}

    @contextmanager
    def running(self) -> Iterator[Fleet]:
        """Build and bring up; take everything down at the end, with the logs shown if it went wrong."""
        try:
            self.compose("down", "-v", "--remove-orphans")
            self._timed("build", "build")
            self._timed("up", "up", "-d", "--wait", "--wait-timeout", str(WAIT_S))
            yield self
        except BaseException:
            self.show_logs()
            raise
        finally:
            self.compose("down", "-v", "--remove-orphans", "-t", "3")

    def compose(self, *arguments: str) -> str:
        """Run Compose on the project's file and return what it prints."""
        file = str(ROOT / "docker-compose.yml")
        return run("docker", "compose", "-p", PROJECT, "-f", file, *arguments, **self._variables)

    def execute(self, service: str, *command: str) -> str:
        """Run a command in a service's container, as its user."""
        return self.compose("exec", "-T", service, *command).strip()

    def python(self, service: str, code: str) -> str:
        """Run a line of Python in a service's container."""
        return self.execute(service, "python", "-c", code)

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine knows of a service's container."""
        name = self.compose("ps", "-a", "-q", service).strip()
        found: dict[str, Any] = json.loads(run("docker", "inspect", name))[0]
        return found

    def networks(self, service: str) -> set[str]:
        """Return the networks of the project that a service's container is on."""
        names = self.inspect(service)["NetworkSettings"]["Networks"]
        return {name.removeprefix(f"{PROJECT}_") for name in names}

    def address(self, service: str, port: int) -> str:
        """Return where this machine shows a service's port."""
        return self.compose("port", service, str(port)).strip()

    def fetch(self, service: str, path: str) -> Path:
        """Copy a file out of a service's container, which may have ended."""
        file = self._scratch / f"{service}-{Path(path).name}"
        self.compose("cp", f"{service}:{path}", str(file))
        return file

    def finish(self) -> list[dict[str, Any]]:
        """Wait until the coordinator has done its rounds; return its events."""
        began = time.monotonic()
        while (state := self.inspect("coordinator")["State"])["Status"] != "exited":
            assert time.monotonic() - began < WAIT_S, f"the coordinator did not end: {state}"
            time.sleep(1)
        self.seconds["rounds"] = time.monotonic() - began
        assert state["ExitCode"] == 0, state
        return [event for _, event in read_events(self.fetch("coordinator", f"{HOME}/home/events.jsonl"))]

    def show_logs(self) -> None:
        """Print the end of every service's log and the coordinator's and devices' events."""
        command = ["docker", "compose", "-p", PROJECT, "logs", "--no-color", "--tail", "60"]
        subprocess.run(command, check=False, env=os.environ | self._variables, cwd=ROOT)
        for service, path in (("coordinator", "home"), *((device, "agent") for device in DEVICES)):
            print(f"== events of {service}")
            if answers(
                "docker", "cp", f"{PROJECT}-{service}-1:{HOME}/{path}/events.jsonl", str(self._scratch)
            ):
                print((self._scratch / "events.jsonl").read_text()[-4000:])

    def _timed(self, what: str, *arguments: str) -> None:
        began = time.monotonic()
        self.compose(*arguments)
        self.seconds[what] = time.monotonic() - began


@contextmanager
def brought_up(session: pytest.Session, scratch: Path, **variables: str) -> Iterator[Fleet]:
    """Find or make an engine, bring the containers up, and take everything away again; skip without one."""
    began = time.monotonic()
    engine = Engine(Path(os.environ.get("CLUSTER_HOME", KEPT)))
    try:
        try:
            engine.start()
            wheels = engine.images()
        except EngineUnavailable as reason:
            if os.environ.get("CLUSTER", "auto") == "require":
                raise
            pytest.skip(f"no container engine: {reason}")
        made = Fleet(wheels, scratch, **variables)
        made.seconds["engine"] = time.monotonic() - began
        failed = session.testsfailed
        with made.running():
            yield made
            if session.testsfailed > failed:
                made.show_logs()
    finally:
        engine.stop()


def image_bytes(name: str) -> int:
    """Return the size of an image."""
    return int(run("docker", "image", "inspect", "-f", "{{.Size}}", name))
