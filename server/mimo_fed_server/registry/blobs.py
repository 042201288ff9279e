"""Adapters and the evidence of rounds on disk, by the SHA-256 of their bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mimo_fed.errors import RegistryError
from mimo_fed_server.registry.files import write_atomically


class Blobs:
    """A folder of immutable files named by digest.

    Args:
        folder: made at the first write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes) -> str:
        """Keep the bytes, durably, and return their digest; the same bytes again cost nothing."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        if not path.exists() or path.stat().st_size != len(data):
            write_atomically(path, data)
        return digest

    def get(self, digest: str) -> bytes:
        """Return bytes that are what their name says.

        Raises:
            RegistryError: absent, or damaged on disk.
        """
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise RegistryError(f"no such blob: {digest}") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise RegistryError(f"a blob is damaged on disk: {digest}", hint="restore it from a backup")
        return data

    def path(self, digest: str) -> Path:
        """Where the bytes of a digest are."""
        return self._folder / digest[:2] / digest
