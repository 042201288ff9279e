"""Certificates, anchors, hello and prekey (docs/protocol.md 5.1-5.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from tests.vectors.second import sealing
from tests.vectors.second.primitives import VERSION, Reader, check_signature, digest, require

MAX_CERTIFICATE, MAX_PREKEY, SIGNATURE = 512, 4096, 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def name(value: str) -> str:
    require(_NAME.fullmatch(value) is not None, "not a name")
    return value


def kind(reader: Reader, expected: str) -> None:
    require(reader.text(32) == expected, "another kind of message")


@dataclass(frozen=True)
class Certificate:
    device_id: str
    key: bytes
    serial: int
    not_before_s: int
    not_after_s: int
    raw: bytes


def read_certificate(data: bytes) -> Certificate:
    reader = Reader(data)
    kind(reader, "certificate")
    device_id, key = name(reader.text(64)), reader.raw(32)
    serial, not_before_s, not_after_s = (reader.number(8) for _ in range(3))
    reader.raw(SIGNATURE)
    reader.end()
    return Certificate(device_id, key, serial, not_before_s, not_after_s, data)


@dataclass(frozen=True)
class Anchors:
    coordinator: bytes
    authority: bytes
    revoked: frozenset[int] = frozenset()
    helpers: frozenset[bytes] = frozenset()
    population: int = 0

    @classmethod
    def of(cls, stated: dict[str, Any]) -> Anchors:
        """Read the JSON form of a vector."""
        return cls(
            bytes.fromhex(stated["coordinator"]),
            bytes.fromhex(stated["authority"]),
            frozenset(stated["revoked"]),
            frozenset(map(bytes.fromhex, stated["helpers"])),
            stated["population"],
        )

    def check(self, certificate: Certificate, at_s: int) -> None:
        raw = certificate.raw
        check_signature(self.authority, "certificate", raw[:-SIGNATURE], raw[-SIGNATURE:])
        require(certificate.serial not in self.revoked, "certificate is revoked")
        require(certificate.not_before_s <= at_s <= certificate.not_after_s, "certificate is not in force")


def check_hello(data: bytes, nonce: bytes, anchors: Anchors, now_s: int) -> Certificate:
    reader = Reader(data)
    kind(reader, "hello")
    require(reader.blob(MAX_CERTIFICATE) == VERSION.encode(), "another version")
    certificate = read_certificate(reader.blob(MAX_CERTIFICATE))
    body, signature = data[: reader.at], reader.raw(SIGNATURE)
    reader.end()
    anchors.check(certificate, now_s)
    check_signature(certificate.key, "hello", body + nonce, signature)
    return certificate


@dataclass(frozen=True)
class Prekey:
    certificate: Certificate
    public: bytes
    raw: bytes = field(repr=False)


def check_prekey(data: bytes, anchors: Anchors, suite: str, round_id: str, at_s: int) -> Prekey:
    reader = Reader(data)
    kind(reader, "prekey")
    require(reader.text(160) == suite, "prekey of another suite")
    require(suite in sealing.SUITES, "unknown suite")
    require(reader.text(64) == round_id, "prekey of another round")
    certificate = read_certificate(reader.blob(MAX_CERTIFICATE))
    public = reader.blob(MAX_PREKEY)
    body, signature = data[: reader.at], reader.raw(SIGNATURE)
    reader.end()
    anchors.check(certificate, at_s)
    check_signature(certificate.key, "prekey", body, signature)
    require(len(public) == sealing.public_length(suite), "prekey of another length")
    return Prekey(certificate, public, data)


def beacon(base_digest: str) -> bytes:
    return digest("beacon", base_digest.encode())


def lottery_number(draw: bytes, device_id: str) -> int:
    return int.from_bytes(digest("lottery", draw + device_id.encode())[:8], "big")


def assign_groups(ids: set[str] | frozenset[str], draw: bytes, groups: int) -> dict[str, int]:
    ranked = sorted(ids, key=lambda device_id: digest("group", draw + device_id.encode()))
    return {device_id: 1 + at % groups for at, device_id in enumerate(ranked)}
