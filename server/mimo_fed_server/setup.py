"""What is done once before a fleet's first round: the coordinator's key, and release 0."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.errors import ConfigError, RegistryError
from mimo_fed.release import ReleaseInfo
from mimo_fed.secagg.crypto import SigningKey
from mimo_fed_server.registry.files import write_atomically
from mimo_fed_server.registry.service import Registry
from mimo_fed_server.registry.store import Draft

RELEASE_ZERO = "release-0"
"""stands for the round of the one release that no round made"""


def make_coordinator_key(key_file: Path) -> bytes:
    """Write a new signing key, readable by its owner alone, and return its public half.

    Raises:
        ConfigError: the file exists; a key is never replaced unasked.
    """
    if key_file.exists():
        raise ConfigError(f"there is a key already: {key_file}", hint="devices trust that one; move it away")
    key = SigningKey.generate(os.urandom)
    write_atomically(key_file, key.to_bytes().hex().encode() + b"\n", mode=0o600)
    return key.public_key


def publish_zero(registry: Registry, spec: AdapterSpec) -> ReleaseInfo:
    """Put the zero adapter on both channels: the first round trains from it, and it serves until then.

    Harmless to repeat.

    Raises:
        RegistryError: the database refuses, or the registry's first release is another adapter.
    """
    registry.start()
    zero = GlobalAdapter.zero(spec).to_safetensors()
    first = registry.store.releases()[:1]
    if first and first[0]["digest"] != hashlib.sha256(zero).hexdigest():
        raise RegistryError(f"the registry began with another adapter: {first[0]['digest'][:12]}")
    draft = Draft(
        digest=hashlib.sha256(zero).hexdigest(),
        length=len(zero),
        base_fingerprint=spec.base_fingerprint,
        basis_epoch=0,
        spec_digest=spec.digest(),
        round_id=RELEASE_ZERO,
        quorum_digest="",
    )
    info = registry.publish(zero, draft, "dev")
    return registry.promote(info.number, "stable") if registry.store.latest("stable") is None else info
