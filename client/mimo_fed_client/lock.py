"""One agent at a time on one state folder; the kernel lets the lock go when the process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mimo_fed.errors import ConfigError


@contextmanager
def only_agent(home: Path) -> Iterator[None]:
    """Hold the folder's lock inside the block; from now on only its owner looks into the folder.

    Raises:
        ConfigError: another process holds it; the message ends with its process id.
    """
    home.mkdir(parents=True, exist_ok=True)
    with suppress(PermissionError):  # another user's folder, shared with us on purpose
        home.chmod(0o700)
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise ConfigError(
                f"another agent runs on {home}, process {holder}",
                hint="one state folder is one device; end that process, or use another home",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def running_agent(home: Path) -> int | None:
    """Return the process id of the agent that runs on a state folder; None if there is none."""
    try:
        descriptor = os.open(home / "lock", os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).decode(errors="replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
    return None
