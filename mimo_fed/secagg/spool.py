"""Where a coordinator keeps contributions until their round is over."""

from __future__ import annotations

from typing import Protocol


class Spool(Protocol):
    """A durable store of messages by name."""

    def put(self, name: str, data: bytes) -> None:
        """Store; durable when it returns. The same name again replaces."""
        ...

    def get(self, name: str) -> bytes:
        """Return what was stored."""
        ...

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return a part of what was stored."""
        ...


class MemorySpool:
    """A spool that a kill erases: for simulations and tests.

    Attributes:
        files: what is kept, by name.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        """Store."""
        self.files[name] = data

    def get(self, name: str) -> bytes:
        """Return what was stored."""
        return self.files[name]

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return a part of what was stored."""
        return self.files[name][start : start + length]
