"""Who a device or helper is: its signing key, made here, and the certificate that the authority gave it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mimo_fed.errors import ConfigError
from mimo_fed.secagg import Certificate, Entropy, SigningKey
from mimo_fed_client.durable import remove_durably, write_durably
from mimo_fed_client.enrol import enrol


class Enrolling(Protocol):
    """Settings of whoever enrols."""

    @property
    def device_id(self) -> str:
        """The name in the certificate."""
        ...

    @property
    def home(self) -> Path:
        """Folder of key and certificate."""
        ...

    @property
    def authority_url(self) -> str:
        """Where to enrol."""
        ...

    @property
    def token_file(self) -> Path | None:
        """One-time token for enrolment."""
        ...


@dataclass(frozen=True)
class Identity:
    """A key and the word of the authority for it."""

    key: SigningKey
    certificate: Certificate


def load_identity(settings: Enrolling) -> Identity | None:
    """Return this device's identity; None if it is not enrolled yet.

    Raises:
        ConfigError: the certificate is another device's or another key's.
    """
    key_file, certificate_file = _files(settings)
    if not certificate_file.exists():
        return None
    key = SigningKey.from_bytes(_read(key_file))
    certificate = Certificate.decode(_read(certificate_file))
    if certificate.device_id != settings.device_id or certificate.public_key != key.public_key:
        raise ConfigError(f"certificate is for another device or key: {certificate.device_id}")
    return Identity(key, certificate)


def enrol_device(settings: Enrolling, *, entropy: Entropy = os.urandom) -> Identity:
    """Get a certificate for a key made here; an enrolled device keeps what it has.

    The key is stored before it is named to anyone, so that a kill on the way costs nothing: the token gives
    the same certificate for the same key again.

    Raises:
        ConfigError: there is no authority or no token in the settings.
        TransportError: the authority cannot be reached.
        RegistryError: it refused the token.
    """
    if (known := load_identity(settings)) is not None:
        return known
    if not settings.authority_url or settings.token_file is None:
        raise ConfigError(
            f"device is not enrolled: {settings.device_id}",
            hint="set authority_url and token_file; `mimo-fed authority token` makes a token",
        )
    key = own_key(settings, entropy=entropy)
    token = _read(settings.token_file).decode("ascii", errors="replace").strip()
    certificate = enrol(settings.authority_url, token, settings.device_id, key)
    write_durably(_files(settings)[1], certificate.encode())
    remove_durably(settings.token_file)
    return Identity(key, certificate)


def own_key(settings: Enrolling, *, entropy: Entropy = os.urandom) -> SigningKey:
    """Return the signing key; made at the first call, and its private half never leaves the folder."""
    if (known := known_key(settings)) is not None:
        return known
    key = SigningKey.generate(entropy)
    write_durably(_files(settings)[0], key.to_bytes())
    return key


def known_key(settings: Enrolling) -> SigningKey | None:
    """Return the signing key; None if none was made yet."""
    key_file, _ = _files(settings)
    return SigningKey.from_bytes(_read(key_file)) if key_file.exists() else None


def _files(settings: Enrolling) -> tuple[Path, Path]:
    return settings.home / "key", settings.home / "certificate"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"file cannot be read ({error.strerror}): {path}") from None
