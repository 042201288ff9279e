"""Encoding, hashes, signatures, derived keys, streams and hash trees (docs/protocol.md 2)."""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Sequence
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Q = 2**31 - 2**17 + 1
VERSION = "mimo-fed/2"
PEER, LOCAL, ABORTED = "protocol.peer", "protocol.local", "protocol.aborted"


class Failure(Exception):
    """An operation fails, with the code that a vector expects."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code


def refuse(why: str) -> NoReturn:
    raise Failure(PEER, why)


def require(holds: bool, why: str) -> None:
    """Refuse what does not hold."""
    if not holds:
        refuse(why)


class Reader:
    """Takes fields off the front of a message (2.1)."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def raw(self, length: int) -> bytes:
        require(self.at + length <= len(self.data), "cut short")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.raw(width), "big")

    def real(self) -> float:
        return float(struct.unpack(">d", self.raw(8))[0])

    def blob(self, most: int) -> bytes:
        length = self.number(4)
        require(length <= most, "field is too long")
        return self.raw(length)

    def text(self, most: int) -> str:
        try:
            return self.blob(most).decode("utf-8")
        except UnicodeDecodeError:
            refuse("text is not UTF-8")

    def end(self) -> None:
        require(self.at == len(self.data), "bytes are left over")


def number(value: int, width: int) -> bytes:
    if not 0 <= value < 256**width:
        raise Failure(LOCAL, "integer does not fit")
    return value.to_bytes(width, "big")


def real(value: float) -> bytes:
    return struct.pack(">d", value)


def blob(value: bytes) -> bytes:
    return number(len(value), 4) + value


def text(value: str) -> bytes:
    return blob(value.encode("utf-8"))


def tagged(domain: str, message: bytes) -> bytes:
    version = "mimo-fed/1" if domain in ("certificate", "file") else VERSION
    return f"{version}/{domain}".encode() + b"\0" + message


def digest(domain: str, message: bytes) -> bytes:
    return hashlib.sha256(tagged(domain, message)).digest()


def sign(secret: bytes, domain: str, message: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).sign(tagged(domain, message))


def public_of(secret: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def check_signature(public: bytes, domain: str, message: bytes, signature: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, tagged(domain, message))
    except (InvalidSignature, ValueError):
        refuse(f"signature of {domain}")


def extract(salt: bytes, key: bytes) -> bytes:
    """HKDF-Extract (RFC 5869)."""
    return hmac.new(salt, key, hashlib.sha256).digest()


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand (RFC 5869)."""
    out = last = b""
    for i in range(1, 2 + (length - 1) // 32):
        last = hmac.new(key, last + info + bytes([i]), hashlib.sha256).digest()
        out += last
    return out[:length]


def derive(key: bytes, domain: str, context: bytes = b"") -> bytes:
    return expand(extract(bytes(32), key), tagged(domain, context), 32)


class Stream:
    """AES-256-CTR over zeros (2.2)."""

    def __init__(self, key: bytes, which: int = 0) -> None:
        counter = which.to_bytes(8, "big") + bytes(8)
        self._cipher = Cipher(algorithms.AES256(key), modes.CTR(counter)).encryptor()

    def take(self, length: int) -> bytes:
        return self._cipher.update(bytes(length))


class Given:
    """A stream whose bytes a vector states."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, length: int) -> bytes:
        self._at += length
        if self._at > len(self._data):
            raise ValueError("the stated stream is too short")
        return self._data[self._at - length : self._at]


def leaf(data: bytes) -> bytes:
    return digest("leaf", data)


def root(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    left = _left(len(leaves))
    return digest("node", root(leaves[:left]) + root(leaves[left:]))


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    if len(leaves) == 1:
        return []
    left = _left(len(leaves))
    if index < left:
        return [*path(leaves[:left], index), root(leaves[left:])]
    return [*path(leaves[left:], index - left), root(leaves[:left])]


def turns(index: int, size: int) -> list[bool]:
    """From the leaf upwards: whether the way so far is the left child."""
    if size == 1:
        return []
    left = _left(size)
    if index < left:
        return [*turns(index, left), True]
    return [*turns(index - left, size - left), False]


def check_path(expected: bytes, data: bytes, index: int, size: int, siblings: Sequence[bytes]) -> None:
    way, value = turns(index, size), leaf(data)
    require(len(way) == len(siblings), "path has another length")
    for is_left, sibling in zip(way, siblings, strict=True):
        value = digest("node", value + sibling if is_left else sibling + value)
    require(value == expected, "path leads elsewhere")


def _left(size: int) -> int:
    left = 1
    while 2 * left < size:
        left *= 2
    return left
