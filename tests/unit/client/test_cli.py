import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.cli import build_app
from mimo_fed.events import read_events
from tests.simulators.agents import world

MIMO_FED = (sys.executable, "-m", "mimo_fed.cli")


def test_the_commands_come_without_torch_and_without_flower() -> None:
    code = (
        "import sys, typer, mimo_fed_client.cli as cli\n"
        "cli.register(typer.Typer())\n"
        "print([m for m in ('torch', 'transformers', 'flwr', 'httpx', 'tuf') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


@pytest.mark.parametrize("words", [["agent", "run"], ["agent", "status"], ["agent", "enrol"], ["chat"]])
def test_help_has_examples(words: list[str]) -> None:
    shown = CliRunner().invoke(build_app(), [*words, "--help"])
    assert shown.exit_code == 0
    assert "Examples" in shown.output


def test_status_of_a_device_that_never_ran(tmp_path: Path) -> None:
    with world(tmp_path) as here:
        here.settings("phone")
    config = tmp_path / "devices" / "phone" / "agent.toml"
    before = sorted(config.parent.iterdir())
    shown = CliRunner().invoke(build_app(), ["agent", "status", "--config", str(config), "--json"])
    found = json.loads(shown.output)
    assert found["release"] is None
    assert found["pid"] is None
    assert found["enrolled"]
    assert sorted(config.parent.iterdir()) == before


def test_enrolment_without_a_token_says_what_to_do(tmp_path: Path) -> None:
    with world(tmp_path) as here:
        settings = here.settings("phone")
    (settings.home / "certificate").unlink()
    command = [*MIMO_FED, "agent", "enrol", "--config", str(settings.home / "agent.toml"), "--json"]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "config"
    assert "token" in error["hint"]


def events(home: Path) -> list[str]:
    return [event["kind"] for _, event in read_events(home / "events.jsonl")]


def wait_for(home: Path, kind: str, process: subprocess.Popen[bytes], count: int = 1) -> None:
    end = time.monotonic() + 90
    while events(home).count(kind) < count:
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < end, f"never saw {kind}: {events(home)}"
        time.sleep(0.05)


@pytest.mark.e2e
def test_agent_process_installs_survives_a_kill_and_stops_cleanly(tmp_path: Path) -> None:
    with world(tmp_path) as here:
        here.publish(GlobalAdapter.zero(here.spec).to_safetensors(), "release-0")
        home = here.settings("phone").home
        command = [*MIMO_FED, "agent", "run", "--config", str(home / "agent.toml")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            wait_for(home, "release.committed", process)
            process.kill()
            process.wait()
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            wait_for(home, "agent.started", process, count=2)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    said = (tmp_path / "log").read_text()
    assert said.count("TEST ONLY") == 2
    assert "phone serves release 0" in said
    assert said.endswith("phone stopped\n")
    assert events(home).count("release.committed") == 1
