"""What is refused of the answers of members in the round of mode helper (docs/protocol.md 5.7-5.11)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from mimo_fed.codec import Writer
from mimo_fed.secagg.crypto import digest
from mimo_fed.secagg.messages import encode_quorum, vote_body
from mimo_fed.secagg.modular import MODULUS
from tests.vectors.making.book import ABORTED
from tests.vectors.making.stage import Stage, flipped, replaced

HELPERS = [f"helper-{i}" for i in range(3)]


def complaints(stage: Stage, requests: Mapping[str, str]) -> None:
    book = stage.book
    given = {h: stage.receive(h, requests[h]) for h in HELPERS}
    book.do("member.receive", "the same request again", member="helper-0", request=requests["helper-0"])
    book.bad(
        "member.receive", "another request after the first", member="helper-0", request=requests["helper-1"]
    )
    base = given["helper-0"]
    whole = book.store.get(base)
    accusing = given["helper-1"]

    def count(number: int, *listed: tuple[str, int]) -> Callable[[bytes], bytes]:
        writer = Writer().u32(number)
        for device_id, reason in listed:
            writer.text(device_id).u8(reason)
        return lambda body: body[:-4] + writer.bytes()

    for name, change in {
        "about a device that gave nothing": count(1, ("device-4", 0)),
        "for an unknown reason": count(1, ("device-0", 3)),
        "in another order": count(2, ("device-1", 0), ("device-0", 0)),
        "about one device twice": count(2, ("device-0", 0), ("device-0", 1)),
        "count above the entries": count(1),
        "of another round": lambda body: body.replace(stage.mh, bytes(32)),
        "of no member": lambda body: body[:-6] + b"\0\3" + body[-4:],
        "of another member": lambda body: body[:-6] + b"\0\1" + body[-4:],
    }.items():
        data = stage.altered(base, f"complaints, {name}", "complaints", "helper-0", change)
        book.bad("coordinator.add_complaints", f"complaints {name}", complaints=data)
    for name, spoiled in {"left over": whole + b"\0", "cut short": whole[:-1]}.items():
        changed = book.edited(f"complaints, {name}", base, spoiled)
        book.bad("coordinator.add_complaints", f"complaints {name}", complaints=changed)
    stage.complain("helper-0", base)
    second = stage.altered(base, "complaints, second", "complaints", "helper-0", count(1, ("device-0", 0)))
    book.bad("coordinator.add_complaints", "complaints a second time", complaints=second)
    book.bad("coordinator.ballot", "too few members answered", error=ABORTED)
    stage.complain("helper-1", accusing)
    stage.complain("helper-2", given["helper-2"])


def ballots(stage: Stage, ballot: str) -> None:
    """Ballots that a member refuses."""
    book, whole = stage.book, stage.book.store.get(ballot)
    at = 4 + len("ballot") + 32
    entry = 4 + len("device-0") + 2 + 8 + 32
    head, entries = whole[:at], [whole[at + 12 + i * entry :][:entry] for i in range(3)]

    def of(listed: list[bytes], opened: int = 3, count: int | None = None) -> bytes:
        number = len(listed) if count is None else count
        return b"".join((head, Writer().u64(opened).u32(number).bytes(), *listed))

    def other(index: int, old: bytes, new: bytes) -> list[bytes]:
        return [replaced(e, old, new) if i == index else e for i, e in enumerate(entries)]

    name_0 = Writer().text("device-0").bytes()
    more = [entries[0].replace(b"device-0", f"device-{i}".encode()) for i in range(3, 6)]
    stranger = more[1]
    ranks = [Writer().text(f"device-{i}").u16(8 if i < 2 else 4).bytes() for i in range(3)]
    for name, data in {
        "without one": of(entries[:2], 2),
        "with too few survivors of a sum": of(entries[:1], 1),
        "with too many survivors": of([*entries, *more[:2]]),
        "with a survivor that gave nothing": of([*entries[:2], stranger]),
        "with one survivor twice": of([entries[0], *entries]),
        "in another order": of([entries[1], entries[0], entries[2]]),
        "with another header": of([entries[0][:-1] + bytes([entries[0][-1] ^ 1]), *entries[1:]]),
        "with another rank": of(other(0, ranks[0], name_0 + b"\0\4")),
        "with other sums": of(
            other(0, ranks[0] + Writer().u64(3).bytes(), ranks[0] + Writer().u64(1).bytes()), 1
        ),
        "that opens nothing": of(entries, 0),
        "that opens a sum of too few": of(entries, 7),
        "that opens a sum that is not there": of(entries, 11),
        "with a count above its entries": of(entries, count=4),
        "with a count below its entries": of(entries, count=2),
        "left over": whole + b"\0",
        "cut short": whole[:-1],
        "of another round": replaced(whole, stage.mh, bytes(32)),
        "of another kind": replaced(whole, Writer().text("ballot").bytes(), Writer().text("ballet").bytes()),
        "with an id that is not a name": of([replaced(entries[0], b"device-0", b"/evice-0"), *entries[1:]]),
    }.items():
        changed = book.edited(f"ballot, {name}", ballot, data)
        if name != "without one":
            book.bad("member.vote", f"ballot {name}", member="helper-0", ballot=changed)

    header = stage.header_of("@m2 device-3, a row spoiled")[0]
    hashed = digest("contribution", header.encode(stage.mh))
    accused = Writer().text("device-3").u16(4).u64(1).raw(hashed).bytes()
    with_it = book.edited("ballot, with an accused survivor", ballot, of([*entries, accused]))
    book.bad("member.vote", "ballot with an accused survivor", member="helper-1", ballot=with_it)


def votes(stage: Stage) -> None:
    base = "@vote of helper-1"
    book, whole = stage.book, stage.book.store.get(base)
    hashed = whole[-96:-64]
    for name, change in {
        "for another ballot": lambda body: replaced(body, hashed, bytes(32)),
        "of another round": lambda body: replaced(body, stage.mh, bytes(32)),
        "of no member": lambda body: body[:-34] + b"\0\3" + body[-32:],
        "of another member": lambda body: body[:-34] + b"\0\2" + body[-32:],
        "left over": lambda body: body + b"\0",
    }.items():
        vote = stage.altered(base, f"vote, {name}", "vote", "helper-1", change)
        book.bad("coordinator.add_vote", f"vote {name}", vote=vote)
    for name, data in {
        "cut short": whole[:-1],
        "with another signature": flipped(whole, len(whole) - 1),
    }.items():
        book.bad("coordinator.add_vote", f"vote {name}", vote=book.edited(f"vote, {name}", base, data))


def quorums(stage: Stage, quorum: str) -> None:
    """Quorum certificates that nobody accepts."""
    book, whole = stage.book, stage.book.store.get(quorum)
    book.do("quorum.check", "quorum certificate is accepted", certificate=quorum)
    ballot = digest("ballot", book.store.get("@ballot"))
    keys = [stage.cast.key(h) for h in HELPERS]
    votes = {i: key.sign("vote", vote_body(stage.mh, i, ballot)) for i, key in enumerate(keys)}
    assert encode_quorum(stage.mh, ballot, votes) == whole

    def of(pairs: list[tuple[int, bytes]], count: int | None = None, mh: bytes = stage.mh) -> bytes:
        writer = Writer().text("quorum").raw(mh).raw(ballot).u16(len(pairs) if count is None else count)
        for index, signature in pairs:
            writer.u16(index).raw(signature)
        return writer.bytes()

    pairs = list(votes.items())
    foreign = stage.cast.key("device-0").sign("vote", vote_body(stage.mh, 2, ballot))
    another = digest("ballot", book.store.get("@ballot, without one"))
    elsewhere = {i: key.sign("vote", vote_body(stage.mh, i, another)) for i, key in enumerate(keys)}
    for name, data in {
        "of too few": of(pairs[:2]),
        "with a foreign vote": of([*pairs[:2], (2, foreign)]),
        "with a vote of another member": of([*pairs[:2], (2, pairs[0][1])]),
        "with one vote twice": of([*pairs[:2], pairs[1]]),
        "in another order": of([pairs[1], pairs[0], pairs[2]]),
        "with a voter that is no member": of([*pairs, (3, foreign)]),
        "with a vote for another ballot": of([*pairs[:2], (2, elsewhere[2])]),
        "with a count above its votes": of(pairs, 4),
        "with a count below its votes": of(pairs, 2),
        "of more votes than 64": of(pairs, 65),
        "left over": whole + b"\0",
        "cut short": whole[:-1],
        "of another round": of(pairs, mh=bytes(32)),
        "of another kind": replaced(whole, Writer().text("quorum").bytes(), Writer().text("ballot").bytes()),
    }.items():
        changed = book.edited(f"quorum, {name}", quorum, data)
        book.bad("member.open", f"quorum {name}", member="helper-0", certificate=changed)
        book.bad("quorum.check", f"quorum {name}, for anybody", certificate=changed)
    changed = book.edited("quorum, another ballot", quorum, encode_quorum(stage.mh, another, elsewhere))
    book.do("quorum.check", "quorum certificate of another ballot", certificate=changed)
    book.bad("member.open", "quorum for another ballot", member="helper-0", certificate=changed)


def openings(stage: Stage, openings: list[str]) -> None:
    base = openings[1]
    book, whole = stage.book, stage.book.store.get(base)
    hashed = digest("ballot", book.store.get("@ballot"))
    at = 4 + len("opening") + 32 + 2 + 32
    changes: dict[str, Callable[[bytes], bytes]] = {
        "of another ballot": lambda body: replaced(body, hashed, bytes(32)),
        "of another round": lambda body: replaced(body, stage.mh, bytes(32)),
        "with a value of q": lambda body: body[:-4] + MODULUS.to_bytes(4, "little"),
        "of a sum that is not there": lambda body: body[:at] + Writer().u64(9).bytes() + body[at + 8 :],
        "of other sums": lambda body: body[:at] + Writer().u64(5).bytes() + body[at + 8 :],
        "left over": lambda body: body + b"\0\0\0\0",
        "too short": lambda body: body[:-4],
        "of another member": lambda body: body[: at - 34] + b"\0\2" + body[at - 32 :],
        "of no member": lambda body: body[: at - 34] + b"\0\3" + body[at - 32 :],
    }
    for name, change in changes.items():
        body = change(whole[:-64])
        data = body + stage.cast.key("helper-1").sign("opening", body)
        opening = book.edited(f"opening, {name}", base, data)
        book.bad("coordinator.add_opening", f"opening {name}", opening=opening)
    body = whole[:at] + Writer().u64(1).bytes() + whole[at + 8 : at + 8 + 8192]
    signature = stage.cast.key("helper-1").sign("opening", body)
    chunks = [body[:at], body[at : at + 8], body[at + 8 :], signature]
    opening = book.composed("opening, of fewer sums", chunks, [base])
    book.bad("coordinator.add_opening", "opening of fewer sums", opening=opening)
    opening = book.edited("opening, another signature", base, flipped(whole, len(whole) - 1))
    book.bad("coordinator.add_opening", "opening with another signature", opening=opening)


def evidence(stage: Stage) -> None:
    base = "@evidence"
    book, whole = stage.book, stage.book.store.get(base)
    m1, ballot = book.store.get("@m1"), book.store.get("@ballot")
    quorum = book.store.get("@quorum certificate")

    def of(*parts: bytes) -> bytes:
        writer = Writer().text("evidence")
        for part in parts:
            writer.blob(part)
        return writer.bytes()

    for name, data in {
        "of another ballot": of(m1, book.store.get("@ballot, without one"), quorum),
        "of another quorum": of(m1, ballot, book.store.get("@quorum, of too few")),
        "of another manifest": of(flipped(m1, len(m1) - 1), ballot, quorum),
        "left over": whole + b"\0",
        "cut short": whole[:-1],
        "of another kind": Writer().text("evident!").bytes() + whole[12:],
    }.items():
        book.bad("evidence.check", f"evidence {name}", evidence=book.edited(f"evidence, {name}", base, data))
    serial = stage.manifest.members[0].certificate.serial
    stage.cast.trust(
        "revoking helper-0", dataclasses.replace(stage.cast.anchors, revoked=frozenset({serial}))
    )
    book.bad("evidence.check", "evidence with a revoked member", evidence=base, anchors="revoking helper-0")
