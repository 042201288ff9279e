"""The demo's child processes: started by name, watched, started again when killed, and always ended.

Every child leads a process group of its own, so that what it starts itself ends with it. A child that was
killed by a signal is started again, as a service manager would; one that keeps failing by itself is an error
that names its log.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from mimo_fed.errors import MimoFedError, TransportError
from mimo_fed.events import EventLog

LOG_TAIL_LINES = 12
GRACE_S = 8.0
POLL_S = 0.1
MAX_RESTARTS = 5
FAILING_S = 10.0
"""a child that fails by itself twice within this time will not get better"""


@dataclass(kw_only=True)
class Child:
    """One process that was started, through all its lives."""

    name: str
    command: tuple[str, ...]
    log: Path
    finite: bool
    """may end by itself with code 0 (the coordinator does, after its last round)"""
    process: subprocess.Popen[bytes]
    restarts: int = 0
    failures: list[float] = field(default_factory=list)


class Processes:
    """A set of children that lives as long as a `with` block.

    `processes.json` in the directory names them all with their process ids; `events.jsonl` says which were
    started again.

    Args:
        environment: variables added to this process's own for every child.
        directory: of the run.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        self._environment = {**os.environ, **environment}
        self._directory = directory
        self._events = EventLog(directory / "events.jsonl")
        self._children: dict[str, Child] = {}
        self._handler: object = None

    def __enter__(self) -> Processes:
        atexit.register(self.stop)
        with suppress(ValueError):  # only the main thread may set handlers
            self._handler = signal.signal(signal.SIGTERM, _exit_on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        atexit.unregister(self.stop)
        if callable(self._handler) or isinstance(self._handler, signal.Handlers):
            signal.signal(signal.SIGTERM, self._handler)

    def start(self, name: str, command: Sequence[str], log: Path, *, finite: bool = False) -> Child:
        """Start `command`; its standard output and error go to `log`, after what is there."""
        log.parent.mkdir(parents=True, exist_ok=True)
        process = self._launch(command, log)
        child = Child(name=name, command=tuple(command), log=log, finite=finite, process=process)
        self._children[name] = child
        self._write()
        return child

    def running(self, name: str) -> bool:
        """Whether the child of that name is still there."""
        return self._children[name].process.poll() is None

    def check(self) -> None:
        """Start again what was killed.

        Raises:
            TransportError: a child keeps ending; names the child, its exit code, its log and the last lines.
        """
        for child in self._children.values():
            code = child.process.poll()
            if code is not None and not (child.finite and code == 0):
                self._start_again(child, code)

    def wait_until(self, ready: Callable[[], bool], what: str, *, timeout_s: float) -> None:
        """Wait for `ready`, and notice a child that keeps failing meanwhile.

        Raises:
            TransportError: a child keeps failing, or `timeout_s` passed.
        """
        end = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > end:
                logs = ", ".join(str(child.log) for child in self._children.values())
                raise TransportError(f"{what} was not ready after {timeout_s:.0f} s", hint=f"read {logs}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End every child and what it started: asked first, killed after a grace. Safe to call again."""
        children, self._children = list(self._children.values()), {}
        for child in children:
            _signal_group(child.process, signal.SIGTERM)
        end = time.monotonic() + GRACE_S
        for child in children:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.05, end - time.monotonic()))
        for child in children:  # grandchildren may outlive a child that ended in time
            _signal_group(child.process, signal.SIGKILL)
            child.process.wait()

    def _start_again(self, child: Child, code: int) -> None:
        now = time.monotonic()
        if code >= 0:
            child.failures = [at for at in child.failures if now - at < FAILING_S] + [now]
        if len(child.failures) > 1 or child.restarts >= MAX_RESTARTS:
            raise failed(child.name, code, child.log)
        _signal_group(child.process, signal.SIGKILL)  # what it left behind may hold its ports
        child.process = self._launch(child.command, child.log)
        child.restarts += 1
        self._write()
        self._events.emit("process.restarted", process=child.name, code=code, restarts=child.restarts)

    def _launch(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._directory,
                start_new_session=True,
            )

    def _write(self) -> None:
        table = {c.name: {"pid": c.process.pid, "restarts": c.restarts} for c in self._children.values()}
        aside = self._directory / ".processes.json.new"
        aside.write_text(json.dumps(table, indent=2) + "\n")
        aside.replace(self._directory / "processes.json")


def failed(name: str, code: int, log: Path) -> MimoFedError:
    """Build the error for a process that ended with `code`."""
    lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:] if log.exists() else []
    tail = "\n".join(f"  | {line}" for line in lines)
    return TransportError(
        f"{name} ended with code {code}", hint=f"read {log}" + (f"; its last lines:\n{tail}" if tail else "")
    )


def end_leftovers(directory: Path) -> tuple[str, ...]:
    """End processes of an earlier run in this directory that was killed before it could; return their names.

    A process id may belong to somebody else by now: only one whose command names the directory is ended.
    """
    try:
        table = json.loads((directory / "processes.json").read_text())
    except (OSError, ValueError):
        return ()
    ended = []
    for name, entry in table.items():
        with suppress(OSError):
            command = Path(f"/proc/{entry['pid']}/cmdline").read_bytes()
            if str(directory).encode() in command:
                os.killpg(entry["pid"], signal.SIGKILL)
                ended.append(name)
    return tuple(ended)


def free_ports(count: int) -> tuple[int, ...]:
    """Distinct TCP ports of this host that are free now; all are held until the last is found."""
    held = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return tuple(int(one.getsockname()[1]) for one in held)
    finally:
        for one in held:
            one.close()


def listening(port: int) -> bool:
    """Whether something accepts connections on this port of this host."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _exit_on_signal(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
