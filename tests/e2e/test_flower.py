"""The seam to Flower, on a real SuperLink: bytes both ways, and kill -9 of a node and of the SuperLink."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mimo_fed_server.superlink import flower_environment, flower_program

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

APP = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "echo"
version = "1.0.0"
description = "test"
license = "Apache-2.0"
dependencies = []
[tool.hatch.build.targets.wheel]
packages = ["."]
[tool.flwr.app]
publisher = "mimo-fed"
[tool.flwr.app.components]
serverapp = "echo_app:app"
clientapp = "echo_app:app"
"""

MAIN = """\
import sys
from pathlib import Path
from flwr.serverapp import ServerApp
sys.path.insert(0, {root!r})
from tests.e2e.flower_echo import coordinate
app = ServerApp()

@app.main()
def main(grid, context):
    coordinate(grid, Path({folder!r}))
"""


class System:
    """A SuperLink, the program that runs apps, and two devices."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.environment = flower_environment(folder / "flower") | {"OMP_NUM_THREADS": "1"}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        host, port = self.address.split(":")
        root = Path(__file__).parents[2]
        cli = [sys.executable, "-m", "mimo_fed.cli"]
        command = {
            "superlink": [*cli, "superlink", "serve", "--home", "superlink", "--host", host, "--port", port],
            "superexec": [
                *(flower_program("flower-superexec"), "--insecure", "--runtime-api-address", self.address)
            ],
        }.get(name, [sys.executable, str(root / "tests/e2e/flower_echo.py"), name, self.address])
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def submit(self) -> None:
        app = self.folder / "flower" / "app"
        app.mkdir(parents=True)
        (app / "pyproject.toml").write_text(APP)
        main = MAIN.format(root=str(Path(__file__).parents[2]), folder=str(self.folder))
        (app / "echo_app.py").write_text(main)
        config = f'[superlink.test]\naddress = "{self.address}"\ninsecure = true\n'
        (self.folder / "flower" / "config.toml").write_text(config)
        done = subprocess.run(
            [flower_program("flwr"), "run", str(app), "test"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def wait(self, name: str, timeout_s: float = 200) -> Path:
        end, path = time.monotonic() + timeout_s, self.folder / name
        while not path.exists():
            logs = "".join(
                f"--- {p.name}\n{p.read_text(errors='replace')[-1500:]}" for p in self.folder.glob("*.log")
            )
            assert time.monotonic() < end, f"never saw {name}\n{logs}"
            time.sleep(0.05)
        return path


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    system = System(tmp_path)
    system.start("superlink")
    host, port = system.address.split(":")
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                break
        time.sleep(0.1)
    for name in ("superexec", "device-1", "device-2"):
        system.start(name)
    system.submit()
    yield system
    for process in system.processes.values():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with it the apps that superexec started
        process.wait()


def results(system: System) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(system.wait("results.json").read_text())
    print({stage: r["seconds"] for stage, r in found.items()})
    for stage in ("quick", "slow"):
        assert found[stage]["right"] == {"device-1": True, "device-2": True}
    return found


def test_five_megabytes_each_way_and_a_device_that_is_sent_away_comes_back(system: System) -> None:
    assert 5 < float(str(results(system)["rest"]["seconds"])) < 90


def test_killed_node_comes_back_and_is_asked_again(system: System) -> None:
    system.wait("asking-slow")
    time.sleep(0.5)
    system.kill("device-2")
    system.start("device-2")
    results(system)


def test_killed_superlink_comes_back(system: System) -> None:
    system.wait("asking-slow")
    time.sleep(0.5)
    system.kill("superlink")
    system.start("superlink")
    results(system)
