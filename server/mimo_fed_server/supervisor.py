"""Keeps a coordinator running until its rounds are done.

The coordinator is a Flower ServerApp: it lives in a run, and a run whose process is killed does not come
back. The supervisor then submits another, which adopts the stored round. It starts the program that runs
apps (flower-superexec) as its own child, so that a coordinator is one command on one machine.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from mimo_fed.errors import TransportError
from mimo_fed.events import EventLog
from mimo_fed_server.coordinator import LOCK_FILE
from mimo_fed_server.rounds import RoundsDatabase
from mimo_fed_server.settings import CoordinatorSettings, load_settings
from mimo_fed_server.superlink import flower_environment, flower_program

CONNECTION = "coordinator"
POLL_S = 0.3
START_S = 60.0
"""a submitted run that has not begun by then is stopped and submitted again"""
SUBMIT_S = 60.0
BACKOFF_S = (1.0, 15.0)

APP = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "mimo-fed-coordinator"
version = "1.0.0"
description = "A pointer to the coordinator that is installed where it runs"
license = "Apache-2.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "mimo-fed"

[tool.flwr.app.components]
serverapp = "coordinator_app:app"
clientapp = "device_app:app"

[tool.flwr.app.config]
settings = {settings}
"""

POINTER = """\
import {package}.app

app = {package}.app.app
"""


def main(config: Path) -> None:
    """Supervise until all rounds are done.

    Args:
        config: the coordinator's settings file.

    Raises:
        ConfigError: the file is wrong.
    """
    settings = load_settings(config)
    supervisor = Supervisor(settings, config.resolve())
    signal.signal(signal.SIGTERM, lambda *_: supervisor.stop())
    try:
        supervisor.run()
    finally:
        supervisor.close()


class Supervisor:
    """Submits the coordinator's app and watches its process.

    Args:
        settings: the coordinator's.
        config: absolute path of its file; the app reads it again.
    """

    def __init__(self, settings: CoordinatorSettings, config: Path) -> None:
        self._settings = settings
        self._home = Path(settings.home)
        self._flower = self._home / "flower"
        self._events = EventLog(self._home / "events.jsonl")
        self._executor: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._write_app(config)

    def run(self) -> None:
        """Submit, watch, and submit again, until no round is left."""
        delay_s = BACKOFF_S[0]
        while not self._stopped and self.remaining():
            self._keep_executor()
            try:
                run_id = self._submit()
            except TransportError as error:
                self._events.emit("run.refused", message=error.message)
                time.sleep(delay_s)
                delay_s = min(BACKOFF_S[1], delay_s * 2)
                continue
            lived_s = self._watch(run_id)
            delay_s = BACKOFF_S[0] if lived_s > BACKOFF_S[1] else min(BACKOFF_S[1], delay_s * 2)
            if self.remaining() and not self._stopped:
                self._call("stop", run_id, CONNECTION)
                time.sleep(delay_s if lived_s < BACKOFF_S[1] else 0.0)

    def remaining(self) -> int:
        """Return how many train rounds are left."""
        database = RoundsDatabase(self._home)
        try:
            return max(0, self._settings.rounds - database.cycles_done())
        finally:
            database.close()

    def stop(self) -> None:
        """Ask `run` to end soon."""
        self._stopped = True

    def close(self) -> None:
        """End the program that runs apps, and with it the coordinator."""
        if self._executor is not None and self._executor.poll() is None:
            self._executor.terminate()
            try:
                self._executor.wait(10)
            except subprocess.TimeoutExpired:
                self._executor.kill()

    def _write_app(self, config: Path) -> None:
        """Write the app that is submitted: two lines that import what is installed where they run."""
        folder = self._flower / "app"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pyproject.toml").write_text(APP.format(settings=json.dumps(str(config))))
        (folder / "coordinator_app.py").write_text(POINTER.format(package="mimo_fed_server"))
        (folder / "device_app.py").write_text(POINTER.format(package="mimo_fed_client"))
        tls = self._settings.root_certificates
        security = f"root-certificates = {json.dumps(tls)}" if tls else "insecure = true"
        address = json.dumps(self._settings.superlink)
        text = f"[superlink.{CONNECTION}]\naddress = {address}\n{security}\n"
        (self._flower / "config.toml").write_text(text)

    def _keep_executor(self) -> None:
        """Start flower-superexec, or start it again if it ended."""
        if self._executor is not None and self._executor.poll() is None:
            return
        command = [flower_program("flower-superexec"), "--runtime-api-address", self._settings.superlink]
        command += ["--parent-pid", str(os.getpid())]
        tls = self._settings.root_certificates
        command += ["--root-certificates", tls] if tls else ["--insecure"]
        with (self._home / "executor.log").open("ab") as log:
            environment = flower_environment(self._flower)
            self._executor = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def _submit(self) -> str:
        """Submit the app and return the run's id.

        Never beside a coordinator that still lives: removing the file under its lock would let two work.

        Raises:
            TransportError: the SuperLink is away or refuses.
        """
        pid_file, end_s = self._home / LOCK_FILE, time.monotonic() + START_S
        while _alive(pid_file):
            if time.monotonic() > end_s:
                raise TransportError("the coordinator of an earlier run is still at work")
            time.sleep(POLL_S)
        pid_file.unlink(missing_ok=True)
        said = self._call("run", str(self._flower / "app"), CONNECTION)
        found = re.search(r"\b(\d{10,})\b", said)
        if not found:
            raise TransportError(f"SuperLink did not take the coordinator's run: {said.strip()[-300:]}")
        self._events.emit("run.submitted", run=found.group(1))
        return found.group(1)

    def _watch(self, run_id: str) -> float:
        """Return when the coordinator's process has ended: after how many seconds it did."""
        pid_file, submitted_s = self._home / LOCK_FILE, time.monotonic()
        while not _named(pid_file) and not self._stopped:
            if time.monotonic() - submitted_s > START_S:
                self._events.emit("run.ended", run=run_id, reason="never began")
                return 0.0
            self._keep_executor()
            time.sleep(POLL_S)
        started_s = time.monotonic()
        while not self._stopped and _alive(pid_file):
            self._keep_executor()
            time.sleep(POLL_S)
        self._events.emit("run.ended", run=run_id, reason="process ended")
        return time.monotonic() - started_s

    def _call(self, *arguments: str) -> str:
        """Run Flower's own command line; its words are returned, whatever they say."""
        command = [flower_program("flwr"), *arguments]
        try:
            done = subprocess.run(
                command,
                env=flower_environment(self._flower),
                capture_output=True,
                text=True,
                timeout=SUBMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TransportError(f"SuperLink does not answer: {self._settings.superlink}") from None
        return done.stdout + done.stderr


def _alive(pid_file: Path) -> bool:
    """Whether the process named in the file runs and has it open.

    The number alone says little: in a container that was started again, another process may have it.
    """
    try:
        descriptors = list(Path(f"/proc/{int(pid_file.read_text())}/fd").iterdir())
    except (OSError, ValueError):
        return False
    return any(_same(descriptor, pid_file) for descriptor in descriptors)


def _same(descriptor: Path, path: Path) -> bool:
    try:
        return descriptor.samefile(path)
    except OSError:  # closed in the meantime
        return False


def _named(pid_file: Path) -> bool:
    """Whether a coordinator has written its number; it makes the file a moment before."""
    try:
        return pid_file.stat().st_size > 0
    except OSError:
        return False
