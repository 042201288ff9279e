"""A spool on disk, and what a process has used of memory: for rounds of many devices."""

from __future__ import annotations

import resource
from pathlib import Path


class FolderSpool:
    """One file a contribution; not synced, which a test of arithmetic does not need."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder

    def put(self, name: str, data: bytes) -> None:
        (self._folder / name).write_bytes(data)

    def get(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def read(self, name: str, start: int, length: int) -> bytes:
        with (self._folder / name).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def clear(self) -> None:
        """Free the disk."""
        for path in self._folder.iterdir():
            path.unlink()


def peak_mb() -> float:
    """The most memory this process ever had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
