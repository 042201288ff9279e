"""identity.json: certificates, hellos and prekeys (docs/protocol.md 5.1-5.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mimo_fed.codec import Writer
from mimo_fed.secagg import CLASSIC, HYBRID, REFERENCE, Anchors, make_hello
from tests.vectors.making.book import NOW_S, Arguments, Book, seeded
from tests.vectors.making.stage import Cast, replaced


def make(previous: Mapping[str, Any] | None) -> Book:
    """Collect the file."""
    book = Book("Certificates, hellos and prekeys: docs/protocol.md 5.1 to 5.4.", previous)
    cast = Cast(book, "identity")
    revoking = Anchors(
        cast.anchors.coordinator, cast.anchors.authority, frozenset({cast.certificate("fridge").serial})
    )
    cast.trust("revoking", revoking)
    _certificates(book, cast)
    _hellos(book, cast)
    _prekeys(book, cast)
    return book


def _certificates(book: Book, cast: Cast) -> None:
    good = cast.certificate("fridge")
    data = book.put("certificate", good.encode())
    asked: Arguments = {"certificate": data, "at_s": NOW_S}
    book.do("certificate.check", "certificate in force", **asked)
    for what, at_s in (("first", good.not_before_s), ("last", good.not_after_s)):
        book.do("certificate.check", f"certificate in its {what} second", certificate=data, at_s=at_s)
    book.bad("certificate.check", "not yet in force", certificate=data, at_s=good.not_before_s - 1)
    book.bad("certificate.check", "expired", certificate=data, at_s=good.not_after_s + 1)
    book.bad("certificate.check", "revoked", **asked, anchors="revoking")
    encoded = good.encode()
    body, raw = good.body(), Ed25519PrivateKey.from_private_bytes(cast.authority.to_bytes())

    def certified(data: bytes) -> bytes:
        return data + cast.authority.sign("certificate", data)

    for what, changed in {
        "cut short": encoded[:-1],
        "left over": certified(body + b"\0"),
        "another kind": certified(Writer().text("certificates").bytes() + body[15:]),
        "signature changed": encoded[:-1] + bytes([encoded[-1] ^ 1]),
        "foreign authority": cast.certificate("fridge", signer=cast.key("stranger")).encode(),
        "tag of version 2": body + raw.sign(b"mimo-fed/2/certificate\0" + body),
    }.items():
        name = book.edited(f"certificate, {what}", data, changed)
        book.bad("certificate.check", f"certificate {what}", certificate=name, at_s=NOW_S)
    for at, device_id in enumerate(("", ".hidden", "../etc", "a b", "x" * 65, "\u00e9")):
        body = good.body().replace(Writer().text("fridge").bytes(), Writer().text(device_id).bytes())
        changed = certified(body)
        name = book.edited(f"certificate, name {at}", data, changed)
        book.bad("certificate.check", f"not a name {at}", certificate=name, at_s=NOW_S)


def _hellos(book: Book, cast: Cast) -> None:
    key, certificate, nonce = cast.key("fridge"), cast.certificate("fridge"), seeded("nonce", 32)
    hello = make_hello(key, certificate, nonce)
    data = book.put("hello", hello)
    asked: Arguments = {"hello": data, "nonce": nonce.hex(), "now_s": NOW_S}
    book.do("hello.check", "hello", **asked)
    book.bad("hello.check", "hello to another nonce", **{**asked, "nonce": seeded("other", 32).hex()})
    book.bad("hello.check", "hello of a revoked device", **asked, anchors="revoking")
    book.bad("hello.check", "hello out of force", **{**asked, "now_s": NOW_S + 200_000})

    def spoken(version: str, kind: str = "hello") -> bytes:
        body = Writer().text(kind).text(version).blob(certificate.encode()).bytes()
        return body + key.sign("hello", body + nonce)

    foreign = cast.certificate("fridge", signer=cast.key("stranger"))
    for what, changed in {
        "cut short": hello[:-1],
        "left over": hello + b"\0",
        "another kind": spoken("mimo-fed/2", "prekey"),
        "of version 1": spoken("mimo-fed/1"),
        "of version 3": spoken("mimo-fed/3"),
        "signed by another key": make_hello(cast.key("stranger"), certificate, nonce),
        "foreign certificate": make_hello(key, foreign, nonce),
        "without a version": hello[:9] + hello[9 + 14 :],
    }.items():
        name = book.edited(f"hello, {what}", data, changed)
        book.bad("hello.check", f"hello {what}", **{**asked, "hello": name})


def _prekeys(book: Book, cast: Cast) -> None:
    suites = {"hybrid": HYBRID, "classic": CLASSIC, "reference": REFERENCE}
    for what, suite in suites.items():
        _, m0 = cast.prekey("fridge", suite=suite)
        data = book.put(f"prekey {what}", m0)
        name = f"prekey {what}"
        book.do("prekey.check", name, prekey=data, suite=suite, round_id="round-1", now_s=NOW_S)
    asked: Arguments = {"suite": CLASSIC, "round_id": "round-1", "now_s": NOW_S}
    book.bad(
        "prekey.check",
        "prekey for another round",
        **{**asked, "round_id": "round-2"},
        prekey="@prekey classic",
    )
    book.bad("prekey.check", "prekey of another suite", **asked, prekey="@prekey hybrid")
    book.bad("prekey.check", "prekey of the reference suite", **asked, prekey="@prekey reference")
    book.bad("prekey.check", "prekey revoked", **asked, prekey="@prekey classic", anchors="revoking")
    book.bad("prekey.check", "prekey out of force", **{**asked, "now_s": 0}, prekey="@prekey classic")
    _, good = cast.prekey("fridge")
    public = good[-64 - 36 : -64]
    key = cast.key("fridge")

    def signed(body: bytes) -> bytes:
        return body + key.sign("prekey", body)

    unknown = replaced(good[:-64], Writer().text(CLASSIC).bytes(), Writer().text("mimo-fed/2 none").bytes())
    for what, changed in {
        "cut short": good[:-1],
        "left over": good + b"\0",
        "another kind": signed(Writer().text("hello").bytes() + good[10:-64]),
        "signed by another key": good[:-64] + cast.key("stranger").sign("prekey", good[:-64]),
        "key too short": signed(replaced(good[:-64], public, b"\0\0\0\x1f" + public[4:-1])),
        "key too long": signed(replaced(good[:-64], public, b"\0\0\0\x21" + public[4:] + b"\0")),
        "unknown suite": signed(unknown),
        "foreign certificate": cast.prekey("fridge", signer=cast.key("stranger"))[1],
    }.items():
        name = book.edited(f"prekey, {what}", "@prekey classic", changed)
        book.bad("prekey.check", f"prekey {what}", **asked, prekey=name)
    book.bad(
        "prekey.check", "unknown suite at both ends", **{**asked, "suite": "mimo-fed/2 none"},
        prekey="@prekey, unknown suite",
    )  # fmt: skip
