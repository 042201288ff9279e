"""What a process tells the people watching it: one JSON object a line, never private text, never a secret."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class EventLog:
    """An append-only file of events, safe for one writer and any number of readers.

    Args:
        path: the file; its folder is made if missing. None: events go nowhere.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def emit(self, kind: str, **fields: Any) -> None:
        """Append `{"at": UTC seconds, "kind": kind, **fields}` as one line, in one write."""
        if self._path is None:
            return
        line = json.dumps({"at": round(time.time(), 3), "kind": kind, **fields}, separators=(",", ":"))
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode() + b"\n")
        finally:
            os.close(descriptor)


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (offset after the line, event) for every whole line from `offset` on; a torn last line waits."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield offset, json.loads(line)
