"""The device's journal: small records, each a file of its own, encrypted and durable.

It holds one-time secrets and answers, so nothing that was promised is forgotten by a kill, and nobody who
copies the disk without the key file reads them. A record is bound to its key's name: files that change
places do not open. It does not protect against someone who puts back an older copy of the whole folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, unquote

from mimo_fed.errors import ConfigError, LocalProtocolError
from mimo_fed.secagg.crypto import KEY_BYTES, Entropy, open_file, seal_file
from mimo_fed_client.durable import ASIDE, remove_durably, write_durably

SUFFIX = ".sealed"
MAX_NAME = 240
"""longest file name; some file systems end at 255"""


class FileJournal:
    """A folder of encrypted records.

    Args:
        folder: its own; made if missing.
        key: 32 bytes.
        entropy: nonces come from it.
    """

    def __init__(self, folder: Path, key: bytes, entropy: Entropy = os.urandom) -> None:
        self._folder, self._key, self._entropy = folder, key, entropy
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for torn in folder.glob(f"*{ASIDE}"):
            torn.unlink()

    def get(self, key: str) -> bytes | None:
        """Return the value, or None.

        Raises:
            LocalProtocolError: the record is damaged, or is another key's.
        """
        try:
            data = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        name, separator, value = open_file(self._key, data).partition(b"\0")
        if not separator or name != key.encode():
            raise LocalProtocolError(f"record of the journal is not the one its file is named for: {key}")
        return value

    def put(self, key: str, value: bytes) -> None:
        """Store the value; durable when it returns.

        Raises:
            InstallError: the disk is full or read-only; the old value is still there.
        """
        write_durably(self._path(key), seal_file(self._key, key.encode() + b"\0" + value, self._entropy))

    def erase(self, key: str) -> None:
        """Forget the value; nothing happens if there is none."""
        remove_durably(self._path(key))

    def keys(self, prefix: str) -> tuple[str, ...]:
        """Return the keys that begin with the prefix, sorted."""
        names = (unquote(path.name.removesuffix(SUFFIX)) for path in self._folder.glob(f"*{SUFFIX}"))
        return tuple(sorted(name for name in names if name.startswith(prefix)))

    def _path(self, key: str) -> Path:
        name = quote(key, safe="") + SUFFIX
        if not key or "\0" in key or len(name) > MAX_NAME or name.startswith("."):
            raise LocalProtocolError(f"key of the journal is not one: {key[:80]!r}")
        return self._folder / name


def state_key(path: Path, entropy: Entropy = os.urandom) -> bytes:
    """Return the 32-byte key of the state at rest; made at the first call, readable by its owner alone.

    Raises:
        ConfigError: the file holds something else.
    """
    if not path.exists():
        write_durably(path, entropy(KEY_BYTES))
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ConfigError(f"key of the state at rest is not {KEY_BYTES} bytes: {path}")
    return key
