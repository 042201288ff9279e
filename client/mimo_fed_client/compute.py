"""How many processes of one machine train at once: locks on a few files.

The kernel lets a lock go when its process ends, however it ends, so a slot is never lost. One file more
keeps the order: who holds it is next in line, and only that process looks for a free slot.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mimo_fed.errors import ConfigError, LocalProtocolError

LONGEST_PAUSE_S = 0.05


class ComputeSlots:
    """A bound on how many processes compute at once.

    Args:
        folder: shared by those processes; made if missing.
        count: how many may; 0 for no bound.
    """

    def __init__(self, folder: Path, count: int) -> None:
        if count < 0:
            raise ConfigError(f"number of compute slots is negative: {count}")
        self._folder, self._count = folder, count
        if count:
            folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def hold(self, stop: Callable[[], bool] = lambda: False) -> Iterator[float]:
        """Wait for a slot and keep it inside the block; gives the seconds waited.

        Args:
            stop: polled while waiting.

        Raises:
            LocalProtocolError: `stop` returned True before a slot was free.
        """
        if not self._count:
            yield 0.0
            return
        began = time.monotonic()
        descriptor = self._take(stop)
        try:
            yield time.monotonic() - began
        finally:
            os.close(descriptor)

    def _take(self, stop: Callable[[], bool]) -> int:
        turn = _wait(lambda: _try_lock(self._folder / "turn"), stop)
        try:
            return _wait(self._free_slot, stop)
        finally:
            os.close(turn)

    def _free_slot(self) -> int | None:
        for number in range(self._count):
            if (descriptor := _try_lock(self._folder / f"slot-{number}")) is not None:
                return descriptor
        return None


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _wait(attempt: Callable[[], int | None], stop: Callable[[], bool]) -> int:
    while True:
        if stop():
            raise LocalProtocolError("stopped while waiting for a compute slot")
        if (descriptor := attempt()) is not None:
            return descriptor
        time.sleep(random.uniform(0.2, 1.0) * LONGEST_PAUSE_S)  # noqa: S311
