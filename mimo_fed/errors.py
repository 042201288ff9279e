"""Every error this project raises on purpose, and whose fault each one is.

::

    MimoFedError                      .code (stable, for programs)  .hint (what to do, for people)
    ├── ConfigError                   ours: a setting or a file of settings is wrong
    ├── DataError                     ours: a corpus or a base-model directory cannot be used
    ├── ProtocolError                 secure aggregation
    │   ├── LocalProtocolError        ours: a session was driven out of order
    │   ├── PeerProtocolError         the peer's: malformed, forged, replayed or refused by policy
    │   └── RoundAborted              nobody's: too few answers; nothing was opened
    ├── PrivacyError
    │   ├── HeadroomError             ours: a sum of this many devices could wrap
    │   └── BudgetExhausted           nobody's: this device has given all it agreed to give
    ├── AdapterError
    │   ├── SpecMismatch              names, shapes, rank, basis epoch or base differ
    │   └── DigestMismatch            bytes are not what their name says
    ├── ReleaseError
    │   └── VerificationError         the registry's or a mirror's: signature, version, length, log
    ├── RegistryError                 the registry refused, or cannot be reached
    ├── TransportError                Flower or HTTP: the peer cannot be reached, or went away
    └── InstallError                  ours: a release failed its trial, a slot is damaged, the disk is full

Messages end with the offending value. Hints go on a line of their own.
"""

from __future__ import annotations


class MimoFedError(Exception):
    """Base of the tree.

    Args:
        message: one sentence that ends with the offending value. Never holds a secret or private text.
        hint: what the reader can do about it.
    """

    code = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class ConfigError(MimoFedError):
    """A setting is missing, unknown or out of range."""

    code = "config"


class DataError(MimoFedError):
    """A corpus or a base-model directory cannot be used."""

    code = "data"


class ProtocolError(MimoFedError):
    """Secure aggregation could not go on."""

    code = "protocol"


class LocalProtocolError(ProtocolError):
    """Our own side called a session out of order; the session is unchanged."""

    code = "protocol.local"


class PeerProtocolError(ProtocolError):
    """The peer's bytes are malformed, forged, replayed, or ask for what policy forbids."""

    code = "protocol.peer"


class RoundAborted(ProtocolError):
    """The round ended without opening anything; the next one may start."""

    code = "protocol.aborted"


class PrivacyError(MimoFedError):
    """A privacy rule of this device would be broken."""

    code = "privacy"


class HeadroomError(PrivacyError):
    """A sum of this many devices could wrap around the modulus."""

    code = "privacy.headroom"


class BudgetExhausted(PrivacyError):
    """The device has given all it agreed to give."""

    code = "privacy.budget"


class AdapterError(MimoFedError):
    """An adapter does not fit."""

    code = "adapter"


class SpecMismatch(AdapterError):
    """Names, shapes, rank, basis epoch or base differ from what is installed."""

    code = "adapter.spec"


class DigestMismatch(AdapterError):
    """Bytes are not what their digest says."""

    code = "adapter.digest"


class ReleaseError(MimoFedError):
    """A release cannot be used."""

    code = "release"


class VerificationError(ReleaseError):
    """A signature, version, length or hash of a release is wrong; nothing was installed."""

    code = "release.verification"


class RegistryError(MimoFedError):
    """The registry refused a request, or cannot be reached."""

    code = "registry"


class TransportError(MimoFedError):
    """The peer cannot be reached or went away."""

    code = "transport"


class InstallError(MimoFedError):
    """A release could not be installed; the one before it keeps serving."""

    code = "install"
