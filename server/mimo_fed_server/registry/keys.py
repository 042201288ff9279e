"""Signing keys of the registry, as files: the offline ones can be moved elsewhere after the ceremony.

Who may sign what:

=========  =======  ==============================================================================
root       offline  which keys the other roles have
targets    offline  `keys/anchors.json`, and which role owns which channel
dev        online   `channels/dev.json` and `adapters/dev/**`, nothing else
stable     online   `channels/stable.json` and `adapters/stable/**`, nothing else
snapshot   online   which versions belong together
timestamp  online   which snapshot is the newest, for one day
=========  =======  ==============================================================================

This is the development ceremony: one key a role, threshold one, no passphrase.
"""

from __future__ import annotations

from pathlib import Path

from securesystemslib.signer import CryptoSigner, Key, Signer  # type: ignore[attr-defined]

from mimo_fed.errors import RegistryError
from mimo_fed.release import CHANNELS
from mimo_fed_server.registry.files import write_atomically

OFFLINE = ("root", "targets")
ONLINE = ("snapshot", "timestamp", *CHANNELS)


class KeyFolder:
    """The private keys, one PEM file a role.

    Args:
        folder: holds `offline/` and `online/`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def generate(self, role: str) -> Signer:
        """Make a role's key and keep it, readable by its owner alone."""
        signer = CryptoSigner.generate_ed25519()
        write_atomically(self.path(role), signer.private_bytes, mode=0o600)
        return signer

    def signer(self, role: str, public_key: Key) -> Signer:
        """Load a role's key.

        Raises:
            RegistryError: the file is absent or damaged, or is another key than the metadata names.
        """
        path = self.path(role)
        if not path.exists():
            raise RegistryError(
                f"the key of role {role} is not here: {path}",
                hint="offline keys must be brought back to sign",
            )
        try:
            return Signer.from_priv_key_uri(f"file2:{path}", public_key)
        except Exception as error:
            raise RegistryError(f"the key of role {role} cannot be used: {type(error).__name__}") from error

    def path(self, role: str) -> Path:
        """Where a role's key is."""
        return self._folder / ("offline" if role in OFFLINE else "online") / f"{role}.pem"
