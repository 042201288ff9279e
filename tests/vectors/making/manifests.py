"""manifests.json: manifests of mode all that are refused, each for one reason (docs/protocol.md 5.5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mimo_fed.codec import Writer
from mimo_fed.secagg import CLASSIC, HYBRID, MODES, REFERENCE, Anchors, Manifest, SumSpec, make_manifest
from tests.vectors.making.book import DEADLINE_AT_S, NOW_S, Arguments, Book
from tests.vectors.making.stage import Cast, replaced

IDS = [f"device-{i}" for i in range(4)]
A, B = SumSpec(name="a", dim=10, n_min=2), SumSpec(name="b", dim=20, n_min=3)


class Maker:
    """Names manifests that are variants of one."""

    def __init__(self, book: Book) -> None:
        self.book, self.cast = book, Cast(book, "manifests")
        self.cast.enter(IDS)
        self.manifest = self.cast.manifest(IDS, [A, B], "all", n_max=4)
        self.m1 = book.put("m1", make_manifest(self.cast.coordinator, self.manifest))
        self.body = self.manifest.encode()

    def good(self, name: str, manifest: Manifest) -> None:
        data = self.book.edited(f"m1, {name}", self.m1, make_manifest(self.cast.coordinator, manifest))
        self.book.do("manifest.verify", name, m1=data, now_s=NOW_S, round=name)

    def bad(self, name: str, **changes: Any) -> None:
        """Refused: other fields, signed by the coordinator."""
        self.raw(name, dataclasses.replace(self.manifest, **changes).encode())

    def raw(self, name: str, body: bytes) -> None:
        """Refused: another body, signed by the coordinator."""
        self.whole(name, self.cast.sign_manifest(body))

    def whole(self, name: str, data: bytes) -> None:
        self.book.bad("manifest.verify", name, m1=self.book.edited(f"m1, {name}", self.m1, data), now_s=NOW_S)

    def member(self, name: str, m0: bytes) -> None:
        """Refused: another prekey of the last member."""
        old = Writer().blob(self.manifest.members[3].encoded).bytes()
        self.raw(name, replaced(self.body, old, Writer().blob(m0).bytes()))


def make(previous: Mapping[str, Any] | None) -> Book:
    """Collect the file."""
    book = Book("Manifests of mode all: docs/protocol.md 5.5.", previous)
    maker = Maker(book)
    _good(maker)
    _policies(maker)
    _envelope(maker)
    _fields(maker)
    _numbers(maker)
    _members(maker)
    return book


def _good(maker: Maker) -> None:
    book, change = maker.book, dataclasses.replace
    book.do("manifest.verify", "manifest", m1=maker.m1, now_s=NOW_S)
    book.do("manifest.verify", "in its last second", m1=maker.m1, now_s=DEADLINE_AT_S)
    maker.good("to evaluate", change(maker.manifest, kind="evaluate"))
    maker.good("words of 24 bits", change(maker.manifest, word_bits=24))
    many = tuple(SumSpec(name=f"s{i}", dim=1, n_min=1) for i in range(64))
    maker.good("64 sums, of one device", change(maker.manifest, sums=many, n_max=1))
    maker.good("without settings", change(maker.manifest, application=b""))


def _policies(maker: Maker) -> None:
    asked: Arguments = {"n_min_floor": 2, "suites": [CLASSIC], "modes": list(MODES)}
    maker.book.do("policy.check", "the owner allows it", **asked)
    changes: dict[str, Arguments] = {
        "n_min below the owner's floor": {"n_min_floor": 3},
        "n_min below the usual floor": {"n_min_floor": 16},
        "suite not allowed": {"suites": [HYBRID]},
        "mode not allowed": {"modes": ["helper"]},
    }
    for what, change in changes.items():
        maker.book.bad("policy.check", what, **{**asked, **change})


def _envelope(maker: Maker) -> None:
    book, data, body = maker.book, maker.book.store.get(maker.m1), maker.body
    other = Anchors(maker.cast.key("stranger").public_key, maker.cast.anchors.authority)
    maker.cast.trust("other coordinator", other)
    book.bad("manifest.verify", "another coordinator", m1=maker.m1, now_s=NOW_S, anchors="other coordinator")
    revoked = Anchors(
        maker.cast.anchors.coordinator,
        maker.cast.anchors.authority,
        frozenset({maker.manifest.members[2].certificate.serial}),
    )
    maker.cast.trust("revoking", revoked)
    book.bad("manifest.verify", "a member is revoked", m1=maker.m1, now_s=NOW_S, anchors="revoking")
    book.bad("manifest.verify", "past its deadline", m1=maker.m1, now_s=DEADLINE_AT_S + 1)
    maker.whole("signature changed", data[:-1] + bytes([data[-1] ^ 1]))
    maker.whole("signature in another domain", body + maker.cast.coordinator.sign("ballot", body))
    maker.whole("cut short", data[:-1])
    maker.whole("shorter than a signature", data[:63])
    maker.raw("left over", body + b"\0")
    maker.raw("body cut short", body[:-1])
    maker.raw("another kind of message", Writer().text("ballot").bytes() + body[12:])


def _fields(maker: Maker) -> None:
    maker.bad("unknown suite", suite="mimo-fed/0")
    maker.bad("suite of other prekeys", suite=HYBRID)
    maker.bad("unknown kind", kind="delete")
    maker.bad("round id is not a name", round_id="../x")
    maker.bad("no sums", sums=())
    maker.bad("65 sums", sums=tuple(SumSpec(name=f"s{i}", dim=1, n_min=1) for i in range(65)))
    maker.bad("one name twice", sums=(A, dataclasses.replace(B, name="a")))
    maker.bad("name of a sum is not a name", sums=(A, dataclasses.replace(B, name="b/")))
    maker.bad("sum of no length", sums=(A, dataclasses.replace(B, dim=0)))
    maker.bad("sum too long", sums=(A, dataclasses.replace(B, dim=2**28 + 1)))
    maker.bad("n_min of zero", sums=(A, dataclasses.replace(B, n_min=0)))
    maker.bad("n_min above n_max", sums=(A, dataclasses.replace(B, n_min=5)))
    maker.bad("words of 8 bits", word_bits=8)
    maker.bad("words of 32 bits", word_bits=32)
    maker.bad("lottery in mode all", lottery=1)
    maker.bad("cohort in mode all", cohort=("device-0", "device-1"))
    five = tuple(SumSpec(name=f"g{g}", dim=1, n_min=1, group=g) for g in (1, 2, 3, 4, 5))
    maker.bad("groups of which one has no room", sums=five)
    maker.bad("four groups", sums=five[:4])
    maker.bad("a group is missing", sums=(*five[:4], dataclasses.replace(five[4], group=6)))


def _numbers(maker: Maker) -> None:
    """Each of the committee's numbers, one off the rule."""
    c = maker.manifest.committee
    rule = [c.size, c.quorum, c.threshold, c.corrupt, c.packing]

    def encoded(values: list[int], mode: str = "all") -> bytes:
        writer = Writer().text(mode)
        for value in values:
            writer.u16(value)
        return writer.bytes()

    for at, what in enumerate(("size", "quorum", "threshold", "corrupt", "packing")):
        for off in (-1, 1):
            values = [v + off if i == at else v for i, v in enumerate(rule)]
            maker.raw(f"{what} off by {off}", replaced(maker.body, encoded(rule), encoded(values)))
    maker.raw("quorum and threshold of two", replaced(maker.body, encoded(rule), encoded([4, 2, 2, 1, 1])))
    maker.raw("unknown mode", replaced(maker.body, encoded(rule), encoded(rule, "any")))
    maker.raw("mode sampled of four", replaced(maker.body, encoded(rule), encoded(rule, "sampled")))
    maker.raw("mode helper of four", replaced(maker.body, encoded(rule), encoded(rule, "helper")))


def _members(maker: Maker) -> None:
    cast, members = maker.cast, maker.manifest.members
    maker.bad("members in another order", members=members[::-1])
    maker.bad("one member twice", members=(*members[:3], members[2]))
    other_key = cast.key("device-2")
    maker.member("two members with one key", cast.prekey("device-3", key=other_key)[1])
    serial = members[2].certificate.serial
    maker.member("two members with one serial", cast.prekey("device-3", serial=serial)[1])
    copied = replaced(members[3].encoded[:-64], members[3].public_key, members[2].public_key)
    maker.member("two members with one prekey", copied + cast.key("device-3").sign("prekey", copied))
    maker.member("prekey for another round", cast.prekey("device-3", round_id="round-2")[1])
    maker.member("prekey of another suite", cast.prekey("device-3", suite=REFERENCE)[1])
    maker.member("certificate expired", cast.prekey("device-3", not_after_s=NOW_S - 1)[1])
    maker.member("certificate not yet in force", cast.prekey("device-3", not_before_s=NOW_S + 1)[1])
    maker.member(
        "certificate of a foreign authority", cast.prekey("device-3", signer=cast.key("stranger"))[1]
    )
    unsigned = members[3].encoded[:-1] + bytes([members[3].encoded[-1] ^ 1])
    maker.member("prekey with another signature", unsigned)
    maker.member("prekey cut short", members[3].encoded[:-1])
