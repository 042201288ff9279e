"""What taking part has cost this device: bytes and seconds, summed over restarts of its agent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mimo_fed_client.durable import write_durably

PARTS = ("train", "protect", "network", "verify", "swap")
"""what seconds are spent on"""


class Usage:
    """A count that goes on where the last process of this device left it.

    Args:
        path: the file it is kept in.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._carried = _read(path)
        self._own = dict.fromkeys(PARTS, 0.0)
        self._seen: dict[str, float] = {}
        self._up = self._down = 0

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the wall time of the block for a part."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(part, time.monotonic() - began)

    def add(self, part: str, seconds: float) -> None:
        """Count seconds for a part; negative ones take back what others count too."""
        self._own[part] += seconds

    def observe(self, *, up: int, down: int, seconds: Mapping[str, float]) -> None:
        """Take over counters that others keep for the life of this process."""
        self._up, self._down, self._seen = up, down, dict(seconds)

    @property
    def bytes_up(self) -> int:
        """Bytes sent, over all processes."""
        return int(self._carried["bytes_up"]) + self._up

    @property
    def bytes_down(self) -> int:
        """Bytes received, over all processes."""
        return int(self._carried["bytes_down"]) + self._down

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by part, over all processes."""
        carried = self._carried["seconds"]
        return {
            part: max(0.0, carried.get(part, 0.0) + self._own[part] + self._seen.get(part, 0.0))
            for part in PARTS
        }

    def save(self) -> None:
        """Keep the count for the next process.

        Raises:
            InstallError: the disk is full or read-only.
        """
        record = {"bytes_up": self.bytes_up, "bytes_down": self.bytes_down, "seconds": self.seconds}
        write_durably(self._path, json.dumps(record).encode())


def _read(path: Path) -> dict[str, Any]:
    """Read the last count; a lost one costs a statistic, so it starts anew."""
    try:
        raw = json.loads(path.read_bytes())
        return {
            "bytes_up": int(raw["bytes_up"]),
            "bytes_down": int(raw["bytes_down"]),
            "seconds": {str(k): float(v) for k, v in raw["seconds"].items()},
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"bytes_up": 0, "bytes_down": 0, "seconds": {}}
