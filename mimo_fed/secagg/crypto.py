"""The ciphers and signatures: the one file that calls the `cryptography` package (docs/protocol.md 2).

Nothing here is negotiated. A suite's name stands for the whole choice and stands in every manifest; a
manifest with a name that the device's owner has not allowed is refused. Every signature and derived key
carries a domain tag that starts with the protocol's version, so that no message can be taken for one of
another kind. Randomness is an argument, with one exception: HPKE draws its ephemeral keys from the operating
system by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mimo_fed.errors import LocalProtocolError, PeerProtocolError

Entropy = Callable[[int], bytes]
"""Returns that many uniformly random bytes."""

VERSION: Final = "mimo-fed/2"
HYBRID: Final = f"{VERSION} Ed25519 MLKEM768-X25519 HKDF-SHA256 AES-256-GCM RLWE-2048-31"
"""the suite to use: shares recorded today stay sealed when either the lattice or the curve falls"""
CLASSIC: Final = f"{VERSION} Ed25519 X25519 HKDF-SHA256 AES-256-GCM RLWE-2048-31"
"""smaller messages, no protection against a quantum computer of tomorrow"""
REFERENCE: Final = f"{VERSION} Ed25519 X25519 HKDF-SHA256 AES-256-GCM RLWE-2048-31 unrounded without errors"
"""TEST ONLY: sums are exact and masks are not secure"""
SUITES: Final = (HYBRID, CLASSIC, REFERENCE)
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
_MLKEM_SEED, _MLKEM_PUBLIC, _MLKEM_CIPHERTEXT = 64, 1184, 1088
_NONCE: Final = 12
_OUTLIVES: Final = {"certificate": "mimo-fed/1", "file": "mimo-fed/1"}
"""what lives longer than a version of the protocol keeps the tag under which it was made"""


def tagged(domain: str, message: bytes) -> bytes:
    """Put the protocol's version and a domain before a message."""
    return _tag(domain) + message


@cache
def _tag(domain: str) -> bytes:
    return f"{_OUTLIVES.get(domain, VERSION)}/{domain}\0".encode()


def digest(domain: str, message: bytes) -> bytes:
    """SHA-256 of a message under a domain tag, 32 bytes."""
    return hashlib.sha256(tagged(domain, message)).digest()


def digest_of(domain: str, parts: Iterable[bytes | bytearray | memoryview]) -> bytes:
    """SHA-256 of the parts of one message under a domain tag, without joining them."""
    state = hashlib.sha256(tagged(domain, b""))
    for part in parts:
        state.update(part)
    return state.digest()


class SigningKey:
    """An Ed25519 private key; it has no repr."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise LocalProtocolError(f"a signing key has {KEY_BYTES} bytes, not: {len(secret)}")
        self._secret = secret
        self._key = Ed25519PrivateKey.from_private_bytes(secret)

    @classmethod
    def generate(cls, entropy: Entropy) -> SigningKey:
        """Make a new key from 32 random bytes."""
        return cls(entropy(KEY_BYTES))

    @classmethod
    def from_bytes(cls, data: bytes) -> SigningKey:
        """Read what `to_bytes` wrote."""
        return cls(data)

    def to_bytes(self) -> bytes:
        """Return the 32 secret bytes."""
        return self._secret

    @property
    def public_key(self) -> bytes:
        """The 32 bytes others verify with."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, domain: str, message: bytes) -> bytes:
        """Sign a message of one kind; 64 bytes, always the same for the same message."""
        return self._key.sign(tagged(domain, message))

    def __repr__(self) -> str:
        return "SigningKey(...)"


def verify(public_key: bytes, domain: str, message: bytes, signature: bytes) -> None:
    """Check a signature.

    Raises:
        PeerProtocolError: it is not this key's over this message in this domain.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, tagged(domain, message))
    except (InvalidSignature, ValueError):
        raise PeerProtocolError(f"signature is not valid: {domain}") from None


class Box:
    """A one-time key pair that shares are sealed to; it has no repr.

    Args:
        suite: decides the key encapsulation.
        secret: of `Box.secret_bytes(suite)` bytes.
    """

    def __init__(self, suite: str, secret: bytes) -> None:
        if len(secret) != self.secret_bytes(suite):
            raise LocalProtocolError(f"a box secret has another length: {len(secret)} bytes")
        self.secret = secret
        self._suite = suite
        self._curve = X25519PrivateKey.from_private_bytes(secret[-32:])
        self._kem = MLKEM768PrivateKey.from_seed_bytes(secret[:-32]) if suite == HYBRID else None

    @staticmethod
    def secret_bytes(suite: str) -> int:
        """Bytes of a secret: an X25519 scalar, after an ML-KEM-768 seed in the hybrid suite."""
        return 32 + (_MLKEM_SEED if suite == HYBRID else 0)

    @classmethod
    def generate(cls, suite: str, entropy: Entropy) -> Box:
        """Make a key pair."""
        return cls(suite, entropy(cls.secret_bytes(suite)))

    @property
    def public(self) -> bytes:
        """The bytes that others seal to."""
        kem = self._kem.public_key().public_bytes_raw() if self._kem else b""
        return kem + self._curve.public_key().public_bytes_raw()

    def unseal(self, info: bytes, sealed: bytes) -> bytes:
        """Decrypt what was sealed for this box.

        Raises:
            PeerProtocolError: it was sealed for another key or context, or was changed.
        """
        key = MLKEM768X25519PrivateKey(self._kem, self._curve) if self._kem else self._curve
        try:
            return _hpke(self._suite).decrypt(sealed, key, tagged("seal", info))
        except (ValueError, InvalidTag):
            raise PeerProtocolError("sealed bytes do not open") from None

    def __repr__(self) -> str:
        return "Box(...)"


def public_bytes(suite: str) -> int:
    """Bytes of the public half of a box."""
    return 32 + (_MLKEM_PUBLIC if suite == HYBRID else 0)


def sealed_bytes(suite: str, length: int) -> int:
    """Bytes of a sealed message of that length: the encapsulated key and a tag come on top."""
    return length + 32 + 16 + (_MLKEM_CIPHERTEXT if suite == HYBRID else 0)


def seal(suite: str, public: bytes, info: bytes, data: bytes) -> bytes:
    """Encrypt for the owner of a box; `info` must be the same at both ends.

    Raises:
        PeerProtocolError: `public` is not a key.
    """
    try:
        curve = X25519PublicKey.from_public_bytes(public[-32:])
        if suite != HYBRID:
            return _hpke(suite).encrypt(data, curve, tagged("seal", info))
        kem = MLKEM768PublicKey.from_public_bytes(public[:-32])
        return _hpke(suite).encrypt(data, MLKEM768X25519PublicKey(kem, curve), tagged("seal", info))
    except (ValueError, InvalidTag):
        raise PeerProtocolError("a member's public key is not a key") from None


@cache
def _hpke(suite: str) -> Suite:
    kem = KEM.MLKEM768_X25519 if suite == HYBRID else KEM.X25519
    return Suite(kem, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def derive(key: bytes, domain: str, context: bytes = b"") -> bytes:
    """HKDF-SHA256: one 32-byte key from another."""
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=tagged(domain, context)).derive(key)


class Keystream:
    """AES-256 in counter mode over zeros: as many bytes as wanted, in order.

    Args:
        key: 32 bytes.
        start: upper half of the first counter; streams of different starts never meet.
    """

    _zeros = bytes(1 << 18)

    def __init__(self, key: bytes, start: int = 0) -> None:
        counter = start.to_bytes(8, "big") + bytes(8)
        self._encryptor = Cipher(algorithms.AES256(key), modes.CTR(counter)).encryptor()

    def take(self, length: int) -> bytearray:
        """Return the next `length` bytes; drawn 256 KiB at a time, so that they stay in the cache."""
        out = bytearray(length + 15)
        view, zeros = memoryview(out), memoryview(self._zeros)
        for at in range(0, length, len(zeros)):
            size = min(len(zeros), length - at)
            self._encryptor.update_into(zeros[:size], view[at : at + size + 15])
        view.release()
        del out[length:]
        return out


def seal_file(key: bytes, data: bytes, entropy: Entropy) -> bytes:
    """Encrypt state at rest: AES-256-GCM under a fresh nonce."""
    nonce = entropy(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, data, tagged("file", b""))


def open_file(key: bytes, data: bytes) -> bytes:
    """Decrypt what `seal_file` wrote.

    Raises:
        LocalProtocolError: the key is another, or the bytes were changed.
    """
    try:
        return AESGCM(key).decrypt(data[:_NONCE], data[_NONCE:], tagged("file", b""))
    except (InvalidTag, ValueError):
        raise LocalProtocolError("sealed state does not open; its key is another, or it is damaged") from None
