"""The demo's child processes: started by name, watched, and always ended.

Every child leads a process group of its own, so that what it starts itself ends with it. A child that ends
before it was asked to is an error that names its log.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from mimo_fed.errors import MimoFedError, TransportError

LOG_TAIL_LINES = 12
GRACE_S = 8.0
POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Child:
    """One process that was started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    finite: bool
    """may end by itself with code 0 (the coordinator does, after its last round)"""


class Processes:
    """A set of children that lives as long as a `with` block.

    Args:
        environment: variables added to this process's own for every child.
        directory: working directory of every child.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        self._environment = {**os.environ, **environment}
        self._directory = directory
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
        with log.open("ab") as output:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._directory,
                start_new_session=True,
            )
        child = Child(name=name, process=process, log=log, finite=finite)
        self._children[name] = child
        return child

    def call(self, name: str, command: Sequence[str], log: Path, *, timeout_s: float = 300.0) -> str:
        """Run `command` to its end and return what it printed; its standard error goes to `log`.

        Raises:
            TransportError: it failed, or ran past `timeout_s`.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            try:
                done = subprocess.run(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=self._environment,
                    cwd=self._directory,
                    timeout=timeout_s,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise TransportError(
                    f"{name} did not end within {timeout_s:.0f} s", hint=f"read {log}"
                ) from None
        if done.returncode != 0:
            raise failed(name, done.returncode, log)
        return done.stdout.decode()

    def running(self, name: str) -> bool:
        """Whether the child of that name is still there."""
        return self._children[name].process.poll() is None

    def check(self) -> None:
        """Raise if a child has ended that should not have.

        Raises:
            TransportError: names the child, its exit code, its log and the log's last lines.
        """
        for child in self._children.values():
            code = child.process.poll()
            if code is not None and not (child.finite and code == 0):
                raise failed(child.name, code, child.log)

    def wait_until(self, ready: Callable[[], bool], what: str, *, timeout_s: float) -> None:
        """Wait for `ready`, and notice a child that dies meanwhile.

        Raises:
            TransportError: a child died, or `timeout_s` passed.
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


def failed(name: str, code: int, log: Path) -> MimoFedError:
    """Build the error for a process that ended with `code`."""
    lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:] if log.exists() else []
    tail = "\n".join(f"  | {line}" for line in lines)
    return TransportError(
        f"{name} ended with code {code}", hint=f"read {log}" + (f"; its last lines:\n{tail}" if tail else "")
    )


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
