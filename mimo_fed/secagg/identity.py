"""Who a device is: certificates, the keys that are trusted, the hello, and the one-time prekey M0.

A device's Ed25519 key is certified by the enrolment authority, a process and a key of its own. What a
device trusts (`Anchors`) reaches it with verified release metadata, never from the coordinator
(docs/protocol.md 5.1-5.4).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from mimo_fed.codec import Reader, Writer
from mimo_fed.errors import ConfigError, LocalProtocolError, PeerProtocolError
from mimo_fed.secagg.crypto import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    SUITES,
    VERSION,
    Box,
    Entropy,
    SigningKey,
    public_bytes,
    verify,
)

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""device ids, round ids and names of sums; each is safe as the name of a file"""
MAX_CERTIFICATE: Final = 512
MAX_PREKEY: Final = 4096
NONCE_BYTES: Final = 32


def check_name(value: str, what: str) -> str:
    """Return a name that keeps to the rule.

    Raises:
        PeerProtocolError: it does not.
    """
    if not NAME.fullmatch(value):
        raise PeerProtocolError(f"{what} is not a name: {value[:80]!r}")
    return value


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The enrolment authority's word that a key is a device's.

    Attributes:
        device_id: unique.
        public_key: Ed25519, 32 bytes.
        serial: what a revocation names.
        not_before_s: seconds since the epoch.
        not_after_s: seconds since the epoch.
        signature: the authority's, over all of the above.
    """

    device_id: str
    public_key: bytes
    serial: int
    not_before_s: int
    not_after_s: int
    signature: bytes

    def body(self) -> bytes:
        """Return what is signed."""
        writer = Writer().text("certificate").text(self.device_id).raw(self.public_key)
        return writer.u64(self.serial).u64(self.not_before_s).u64(self.not_after_s).bytes()

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return self.body() + self.signature

    @classmethod
    def decode(cls, data: bytes) -> Certificate:
        """Read what `encode` wrote; nothing is verified.

        Raises:
            PeerProtocolError: malformed.
        """
        reader = _open(data, "certificate")
        certificate = cls(
            device_id=check_name(reader.text(max_len=64), "certificate: device id"),
            public_key=reader.raw(KEY_BYTES),
            serial=reader.u64(),
            not_before_s=reader.u64(),
            not_after_s=reader.u64(),
            signature=reader.raw(SIGNATURE_BYTES),
        )
        reader.finish()
        return certificate


def issue_certificate(
    authority: SigningKey,
    *,
    device_id: str,
    public_key: bytes,
    serial: int,
    not_before_s: int,
    not_after_s: int,
) -> Certificate:
    """Certify a device's key.

    Raises:
        PeerProtocolError: the device id is not a name.
        LocalProtocolError: the key has another length.
    """
    check_name(device_id, "device id")
    if len(public_key) != KEY_BYTES:
        raise LocalProtocolError(f"a public key has {KEY_BYTES} bytes, not: {len(public_key)}")
    draft = Certificate(
        device_id=device_id,
        public_key=public_key,
        serial=serial,
        not_before_s=not_before_s,
        not_after_s=not_after_s,
        signature=b"",
    )
    return Certificate.decode(draft.body() + authority.sign("certificate", draft.body()))


@dataclass(frozen=True)
class Anchors:
    """The keys to trust, and what else only the fleet's offline key may say.

    Attributes:
        coordinator: its Ed25519 public key.
        authority: the enrolment authority's.
        revoked: serials of certificates that no longer count.
        helpers: public keys of the pinned helper organisations; none, or as many as a helper committee has.
        population: how many devices are enrolled, at least; bounds the lottery. 0: no lottery.
    """

    coordinator: bytes
    authority: bytes
    revoked: frozenset[int] = frozenset()
    helpers: frozenset[bytes] = frozenset()
    population: int = 0

    def to_json(self) -> bytes:
        """Canonical bytes: sorted keys, no spaces."""
        raw = {
            "authority": self.authority.hex(),
            "coordinator": self.coordinator.hex(),
            "helpers": sorted(key.hex() for key in self.helpers),
            "population": self.population,
            "revoked": sorted(self.revoked),
        }
        return json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Anchors:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: it is something else.
        """
        try:
            raw = json.loads(data)
            anchors = cls(
                bytes.fromhex(raw["coordinator"]),
                bytes.fromhex(raw["authority"]),
                frozenset(int(serial) for serial in raw["revoked"]),
                frozenset(bytes.fromhex(key) for key in raw.get("helpers", ())),
                int(raw.get("population", 0)),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"trust anchors cannot be read: {error}") from None
        keys = (anchors.coordinator, anchors.authority, *anchors.helpers)
        if any(len(key) != KEY_BYTES for key in keys) or anchors.population < 0:
            raise ConfigError(f"trust anchors hold keys of another length: {[len(key) for key in keys]}")
        return anchors

    def check(self, certificate: Certificate, now_s: int) -> None:
        """Accept a certificate that the authority signed, that is in force, and that is not revoked.

        Raises:
            PeerProtocolError: one of these does not hold.
        """
        verify(self.authority, "certificate", certificate.body(), certificate.signature)
        if certificate.serial in self.revoked:
            raise PeerProtocolError(f"certificate is revoked: {certificate.device_id}")
        if not certificate.not_before_s <= now_s <= certificate.not_after_s:
            raise PeerProtocolError(f"certificate is not in force: {certificate.device_id}")


@dataclass(frozen=True, kw_only=True)
class Prekey:
    """A member's one-time public key, verified.

    Attributes:
        device_id: whose it is.
        certificate: of that device.
        public_key: what shares are sealed to.
        encoded: the signed message M0.
    """

    device_id: str
    certificate: Certificate
    public_key: bytes
    encoded: bytes


def make_hello(key: SigningKey, certificate: Certificate, nonce: bytes) -> bytes:
    """Answer a challenge: this is me, now, and this is what I speak."""
    body = Writer().text("hello").text(VERSION).blob(certificate.encode()).bytes()
    return body + key.sign("hello", body + nonce)


def verify_hello(data: bytes, nonce: bytes, anchors: Anchors, now_s: int) -> Certificate:
    """Check the answer to a challenge.

    Raises:
        PeerProtocolError: malformed, unsigned, revoked, the answer to another challenge, or of an agent that
            speaks another version of the protocol.
    """
    reader = _open(data, "hello")
    _check_version(reader.blob(max_len=MAX_CERTIFICATE))
    certificate = Certificate.decode(reader.blob(max_len=MAX_CERTIFICATE))
    body, signature = data[: reader.position], reader.raw(SIGNATURE_BYTES)
    reader.finish()
    anchors.check(certificate, now_s)
    verify(certificate.public_key, "hello", body + nonce, signature)
    return certificate


def _check_version(spoken: bytes) -> None:
    """Refuse another version in words that say which end is old; version 1 gave its certificate here."""
    if spoken == VERSION.encode():
        return
    other = spoken.decode("ascii", "replace") if re.fullmatch(rb"mimo-fed/\d{1,6}", spoken) else "mimo-fed/1"
    raise PeerProtocolError(
        f"agent speaks another version of the protocol than {VERSION}: {other}",
        hint="update the older of agent and coordinator; the agent keeps serving its model meanwhile",
    )


def make_prekey(
    suite: str, key: SigningKey, certificate: Certificate, round_id: str, entropy: Entropy
) -> tuple[bytes, bytes]:
    """Make a one-time key for one round: (secret, message M0). The secret is erased once used."""
    box = Box.generate(suite, entropy)
    writer = Writer().text("prekey").text(suite).text(round_id).blob(certificate.encode())
    body = writer.blob(box.public).bytes()
    return box.secret, body + key.sign("prekey", body)


def verify_prekey(data: bytes, anchors: Anchors, suite: str, round_id: str, now_s: int) -> Prekey:
    """Check a prekey.

    Raises:
        PeerProtocolError: malformed, unsigned, revoked, or made for another suite or round.
    """
    reader = _open(data, "prekey")
    if (made_in := reader.text(max_len=160)) != suite or suite not in SUITES:
        raise PeerProtocolError(f"prekey is of another suite: {made_in!r}")
    made_for = reader.text(max_len=64)
    certificate = Certificate.decode(reader.blob(max_len=MAX_CERTIFICATE))
    public = reader.blob(max_len=MAX_PREKEY)
    body, signature = data[: reader.position], reader.raw(SIGNATURE_BYTES)
    reader.finish()
    anchors.check(certificate, now_s)
    verify(certificate.public_key, "prekey", body, signature)
    if made_for != round_id:
        raise PeerProtocolError(f"prekey was made for another round: {made_for[:80]!r}")
    if len(public) != public_bytes(suite):
        raise PeerProtocolError(f"prekey has another length: {len(public)} bytes")
    return Prekey(device_id=certificate.device_id, certificate=certificate, public_key=public, encoded=data)


def _open(data: bytes, kind: str) -> Reader:
    reader = Reader(data, kind)
    if reader.text(max_len=32) != kind:
        raise PeerProtocolError(f"{kind}: another kind of message")
    return reader
