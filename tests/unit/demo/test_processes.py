"""Children end when they are told to, and a death is noticed and named."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from mimo_fed.demo.processes import MAX_RESTARTS, Child, Processes, end_leftovers, free_ports, listening
from mimo_fed.errors import TransportError
from mimo_fed.events import read_events

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_child_and_what_it_started_end_with_the_block(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True); time.sleep(60)\n"
    )
    log = tmp_path / "parent.log"
    with Processes({}, tmp_path) as processes:
        child = processes.start("parent", [sys.executable, "-c", code], log)
        processes.wait_until(lambda: log.read_text().endswith("\n"), "the grandchild", timeout_s=10)
        grandchild = int(log.read_text())
        assert _alive(grandchild)
    assert child.process.returncode is not None
    end = time.monotonic() + 5
    while _alive(grandchild) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _alive(grandchild)


def test_children_end_when_the_block_fails(tmp_path: Path) -> None:
    processes = Processes({}, tmp_path)

    def fail() -> None:
        with processes:
            started.append(processes.start("sleeper", SLEEPER, tmp_path / "log"))
            raise ZeroDivisionError

    started: list[Child] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert started[0].process.returncode is not None


def test_a_death_names_the_process_its_code_and_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('the disk is full'); sys.exit(3)"]
    with Processes({}, tmp_path) as processes:
        processes.start("registry", command, tmp_path / "registry.log")
        with pytest.raises(TransportError) as caught:
            processes.wait_until(lambda: False, "registry", timeout_s=10)
    assert caught.value.message == "registry ended with code 3"
    assert str(tmp_path / "registry.log") in caught.value.hint
    assert (tmp_path / "registry.log").read_text() == "the disk is full\n" * 2  # it was given a second chance
    assert "the disk is full" in caught.value.hint


def test_only_a_finite_child_may_end_well(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "pass"]
    with Processes({}, tmp_path) as processes:
        processes.start("coordinator", command, tmp_path / "a.log", finite=True).process.wait()
        processes.check()
        processes.start("registry", command, tmp_path / "b.log").process.wait()
        with pytest.raises(TransportError, match="registry ended with code 0"):
            processes.wait_until(lambda: False, "registry", timeout_s=10)


def test_a_killed_child_is_started_again_and_told(tmp_path: Path) -> None:
    with Processes({}, tmp_path) as processes:
        child = processes.start("phone-1", SLEEPER, tmp_path / "log")
        first = child.process.pid
        os.kill(first, signal.SIGKILL)
        child.process.wait()
        processes.check()
        assert child.process.pid != first
        table = json.loads((tmp_path / "processes.json").read_text())
        assert table == {"phone-1": {"pid": child.process.pid, "restarts": 1}}
    events = [event for _, event in read_events(tmp_path / "events.jsonl")]
    assert [(e["process"], e["code"], e["restarts"]) for e in events] == [("phone-1", -9, 1)]


def test_there_is_an_end_to_starting_again(tmp_path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with Processes({}, tmp_path) as processes:
        child = processes.start("superlink", [sys.executable, "-c", code], tmp_path / "log")
        with pytest.raises(TransportError, match="superlink ended with code -9"):
            processes.wait_until(lambda: False, "superlink", timeout_s=20)
    assert child.restarts == MAX_RESTARTS


def test_a_wait_that_is_too_long_says_for_what(tmp_path: Path) -> None:
    with (
        Processes({}, tmp_path) as processes,
        pytest.raises(TransportError, match="the authority was not ready"),
    ):
        processes.wait_until(lambda: False, "the authority", timeout_s=0.01)


def test_a_child_gets_the_environment_and_the_directory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; print(os.environ['COLOUR'], os.getcwd())"]
    with Processes({"COLOUR": "green"}, tmp_path) as processes:
        processes.start("paint", command, tmp_path / "log", finite=True).process.wait()
    assert (tmp_path / "log").read_text() == f"green {tmp_path}\n"


def test_leftovers_of_a_killed_run_are_ended_and_nothing_else(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    with Processes({}, tmp_path) as processes:
        ours = processes.start("superlink", [*SLEEPER, str(run / "superlink")], tmp_path / "a.log")
        theirs = processes.start("editor", [*SLEEPER, str(other)], tmp_path / "b.log")
        table = {name: {"pid": c.process.pid} for name, c in (("superlink", ours), ("editor", theirs))}
        table["gone"] = {"pid": 2**22 + 1}
        (run / "processes.json").write_text(json.dumps(table))
        assert end_leftovers(run) == ("superlink",)
        assert ours.process.wait(5) == -signal.SIGKILL
        assert theirs.process.poll() is None
    assert end_leftovers(other) == ()


def test_free_ports_are_distinct_and_free() -> None:
    ports = free_ports(12)
    assert len(set(ports)) == 12
    assert not any(listening(port) for port in ports)
