"""Who this device is: its signing key, made here, and the certificate that the authority gave it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mimo_fed.errors import ConfigError
from mimo_fed.secagg import Certificate, Entropy, SigningKey
from mimo_fed_client.durable import remove_durably, write_durably
from mimo_fed_client.enrol import enrol
from mimo_fed_client.settings import AgentSettings


@dataclass(frozen=True)
class Identity:
    """A key and the word of the authority for it."""

    key: SigningKey
    certificate: Certificate


def load_identity(settings: AgentSettings) -> Identity | None:
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


def enrol_device(settings: AgentSettings, *, entropy: Entropy = os.urandom) -> Identity:
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
    key_file, certificate_file = _files(settings)
    if not key_file.exists():
        write_durably(key_file, SigningKey.generate(entropy).to_bytes())
    key = SigningKey.from_bytes(_read(key_file))
    token = _read(settings.token_file).decode("ascii", errors="replace").strip()
    certificate = enrol(settings.authority_url, token, settings.device_id, key)
    write_durably(certificate_file, certificate.encode())
    remove_durably(settings.token_file)
    return Identity(key, certificate)


def _files(settings: AgentSettings) -> tuple[Path, Path]:
    return settings.home / "key", settings.home / "certificate"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"file cannot be read ({error.strerror}): {path}") from None
