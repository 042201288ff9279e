"""HPKE base mode (docs/protocol.md 2.2).

The code is RFC 9180's; the KEM is its DHKEM with X25519, or ML-KEM-768 and X25519 mixed as in X-Wing.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.vectors.second.primitives import VERSION, expand, extract, number, refuse, tagged

_REST = "HKDF-SHA256 AES-256-GCM RLWE-2048-31"
HYBRID = f"{VERSION} Ed25519 MLKEM768-X25519 {_REST}"
CLASSIC = f"{VERSION} Ed25519 X25519 {_REST}"
REFERENCE = f"{VERSION} Ed25519 X25519 {_REST} unrounded without errors"
SUITES = (HYBRID, CLASSIC, REFERENCE)
_KEM_X25519, _KEM_HYBRID, _KDF, _AEAD = 0x0020, 0x647A, 0x0001, 0x0002
_CIPHERTEXT, _TAG = 1088, 16


def public_length(suite: str) -> int:
    return 1184 + 32 if suite == HYBRID else 32


def sealed_length(suite: str, length: int) -> int:
    return (_CIPHERTEXT if suite == HYBRID else 0) + 32 + length + _TAG


def public_of(suite: str, secret: bytes) -> bytes:
    """The public half of a prekey: of the 64-byte ML-KEM seed, if any, then of the X25519 scalar."""
    curve = X25519PrivateKey.from_private_bytes(secret[-32:]).public_key().public_bytes_raw()
    if suite != HYBRID:
        return curve
    return MLKEM768PrivateKey.from_seed_bytes(secret[:64]).public_key().public_bytes_raw() + curve


def unseal(suite: str, secret: bytes, info: bytes, sealed: bytes) -> bytes:
    """Open, or refuse."""
    length = sealed_length(suite, 0) - _TAG
    encapsulated, ciphertext = sealed[:length], sealed[length:]
    try:
        shared, kem = _decapsulate(suite, secret, encapsulated)
        key, nonce = _schedule(kem, shared, tagged("seal", info))
        return AESGCM(key).decrypt(nonce, ciphertext, b"")
    except (InvalidTag, ValueError):
        refuse("sealed bytes do not open")


def _decapsulate(suite: str, secret: bytes, encapsulated: bytes) -> tuple[bytes, int]:
    curve = X25519PrivateKey.from_private_bytes(secret[-32:])
    public = curve.public_key().public_bytes_raw()
    share = encapsulated[-32:]
    agreed = curve.exchange(X25519PublicKey.from_public_bytes(share))
    if suite == HYBRID:
        lattice = MLKEM768PrivateKey.from_seed_bytes(secret[:64]).decapsulate(encapsulated[:-32])
        return hashlib.sha3_256(lattice + agreed + share + public + rb"\.//^" + b"\\").digest(), _KEM_HYBRID
    suite_id = b"KEM" + number(_KEM_X25519, 2)
    secret_key = _extract(suite_id, b"", b"eae_prk", agreed)
    return _expand(suite_id, secret_key, b"shared_secret", share + public, 32), _KEM_X25519


def _schedule(kem: int, shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    suite_id = b"HPKE" + number(kem, 2) + number(_KDF, 2) + number(_AEAD, 2)
    psk, bound = _extract(suite_id, b"", b"psk_id_hash", b""), _extract(suite_id, b"", b"info_hash", info)
    context = b"\0" + psk + bound
    secret = _extract(suite_id, shared, b"secret", b"")
    return _expand(suite_id, secret, b"key", context, 32), _expand(
        suite_id, secret, b"base_nonce", context, 12
    )


def _extract(suite_id: bytes, salt: bytes, label: bytes, key: bytes) -> bytes:
    return extract(salt, b"HPKE-v1" + suite_id + label + key)


def _expand(suite_id: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return expand(key, number(length, 2) + b"HPKE-v1" + suite_id + label + info, length)
