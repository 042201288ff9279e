"""A whole system as a user starts it: `mimo-fed demo` in a process of its own, watched through its files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class Running:
    """One run of the demo on the small base.

    Args:
        runs: folder for the run.
        name: the run's name.
        rounds: train rounds.
        extra: further options of `mimo-fed demo`.
    """

    def __init__(self, runs: Path, name: str, rounds: int, *extra: str) -> None:
        self.folder = runs / name
        self.output = runs / f"{name}.log"
        command = [sys.executable, "-m", "mimo_fed.cli", "demo", "--base", "mimo-nano"]
        command += ["--name", name, "--runs", str(runs), "--rounds", str(rounds), *extra]
        with self.output.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def events(self, log: str = "coordinator") -> list[Event]:
        """Every event of the coordinator, or of `devices/NAME`."""
        path = self.folder / log / "events.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait(self, what: str, find: Callable[[], Any], timeout_s: float = 240) -> Any:
        """Poll until `find` gives something; fail with the end of the output if it never does."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if found := find():
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        tail = self.output.read_text(errors="replace")[-3000:]
        raise AssertionError(f"never saw {what}; exit code {self.process.poll()}; the run printed:\n{tail}")

    def train_rounds(self) -> list[str]:
        """Ids of the train rounds that were begun, in order."""
        started = [e for e in self.events() if e["kind"] == "round.started"]
        return [e["round_id"] for e in started if e["round_id"].startswith("train-")]

    def wait_round(self, number: int) -> str:
        """Wait for the train round of this number (from 1) and return its id."""
        found = self.wait(f"train round {number}", lambda: self.train_rounds()[number - 1 : number])
        return str(found[0])

    def opened(self, round_id: str) -> Event:
        """Wait until the round is opened."""
        return self.wait(  # type: ignore[no-any-return]
            f"{round_id} opened",
            lambda: next(
                (e for e in self.events() if e["kind"] == "round.opened" and e["round_id"] == round_id), None
            ),
        )

    def ended(self, number: int) -> Event:
        """Wait until a train round from this number on is opened: that one, or one that took its place."""
        return self.wait(  # type: ignore[no-any-return]
            f"train round {number} or a later one opened",
            lambda: next(
                (
                    e
                    for e in self.events()
                    if e["kind"] == "round.opened" and e["round_id"] in self.train_rounds()[number - 1 :]
                ),
                None,
            ),
        )

    def pid(self, name: str) -> int:
        """Process id of a part of the system, by its name."""
        return int(json.loads((self.folder / "processes.json").read_text())[name]["pid"])

    def kill(self, pid: int) -> float:
        """End a process without warning; return when."""
        os.kill(pid, signal.SIGKILL)
        return time.time()

    def finish(self, timeout_s: float = 540) -> dict[str, Any]:
        """Wait for the end and return the report."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        tail = self.output.read_text(errors="replace")[-3000:]
        assert code == 0, f"exit code {code}; the run printed:\n{tail}"
        return json.loads((self.folder / "report.json").read_text())  # type: ignore[no-any-return]

    def stop(self) -> None:
        """End the run as Ctrl-C would."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(150)  # it ends its children first, one after the other
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def running(runs: Path, name: str, rounds: int, *extra: str) -> Iterator[Running]:
    """Yield a run and end it afterwards, whatever happened."""
    run = Running(runs, name, rounds, *extra)
    try:
        yield run
    finally:
        run.stop()
