"""round_helper.json: three helpers, words of 24 bits, an accused device, and most refusals.

See docs/protocol.md 5; what is refused of members' answers stands in `answers`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from mimo_fed.codec import Writer
from mimo_fed.secagg import CLASSIC, Anchors, SumSpec, make_manifest
from mimo_fed.secagg.intake import read_contribution
from mimo_fed.secagg.merkle import path
from mimo_fed.secagg.modular import MODULUS
from tests.vectors.making import answers
from tests.vectors.making.answers import HELPERS
from tests.vectors.making.book import ABORTED, LOCAL, NOW_S, Arguments, Book
from tests.vectors.making.stage import Cast, Stage, flipped

DEVICES = [f"device-{i}" for i in range(6)]
SUMS = [
    SumSpec(name="a", dim=20, n_min=2),
    SumSpec(name="b", dim=8, n_min=2),
    SumSpec(name="c", dim=4, n_min=2),
]


def make(previous: Mapping[str, Any] | None) -> Book:
    """Collect the file."""
    book = Book("A round of mode helper with words of 24 bits: docs/protocol.md 5 and 7.", previous)
    cast = Cast(book, "helper", CLASSIC, helpers=HELPERS)
    cast.enter([*HELPERS, *DEVICES])
    manifest = cast.manifest(
        HELPERS, SUMS, "helper", n_max=3, word_bits=24, cohort=tuple(d for d in DEVICES if d != "device-5")
    )
    stage = Stage(cast, manifest)
    _manifests(stage)
    good = {
        "device-0": stage.contribute("device-0", ["a", "b"], rank=8),
        "device-1": stage.contribute("device-1", ["b"], rank=8),
        "device-2": stage.contribute("device-2", ["a"]),
        "device-3": stage.contribute("device-3", ["a"]),
    }
    _contributions(stage, good)
    stage.add(good["device-0"], good["device-1"], good["device-2"])
    spoiled = _spoiled_row(stage, good["device-3"])
    stage.add(spoiled)
    book.do("coordinator.add", "the same contribution again", m2=good["device-0"])
    _admissions(stage, good)
    book.bad("coordinator.share_request", "shares before the close", error=LOCAL, member="helper-0")
    book.bad("coordinator.ballot", "ballot before the close", error=LOCAL)
    stage.close()
    late = stage.resigned(good["device-1"], "m2 late", certificate=cast.certificate("device-4"))
    book.bad("coordinator.add", "contribution after the close", m2=late)
    book.bad("coordinator.share_request", "shares for a device that is no member", member="device-0")
    requests = {h: stage.request(h) for h in HELPERS}
    _requests(stage, good, requests)
    _accusations(stage, good)
    answers.complaints(stage, requests)
    ballot = stage.ballot()
    book.bad("coordinator.add_complaints", "complaints of another kind", complaints=ballot)
    answers.ballots(stage, ballot)
    stage.vote(HELPERS[:2], ballot)
    answers.votes(stage)
    book.bad("coordinator.quorum_certificate", "no quorum yet", error=LOCAL)
    stage.vote(HELPERS[2:], ballot)
    book.bad("member.vote", "another ballot after the vote", member="helper-0", ballot="@ballot, without one")
    book.do("member.vote", "the same ballot again", member="helper-0", ballot=ballot)
    quorum = stage.quorum()
    early: Arguments = {"member": "helper-0", "session": "helper-0, not asked before"}
    book.bad("member.vote", "ballot before the shares", ballot=ballot, **early)
    book.bad("member.open", "quorum before the ballot", certificate=quorum, **early)
    answers.quorums(stage, quorum)
    openings = [stage.open(h, quorum) for h in HELPERS]
    answers.openings(stage, openings)
    stage.take(openings[0])
    book.bad("coordinator.result", "too few openings", error=ABORTED)
    stage.take(openings[2])
    book.do("coordinator.add_opening", "the same opening again", opening=openings[0])
    changed = stage.altered(
        openings[0], "opening, a second one", "opening", "helper-0", lambda body: body[:-4] + bytes(4)
    )
    book.bad("coordinator.add_opening", "a second opening", opening=changed)
    stage.result()
    answers.evidence(stage)
    _inconsistent(stage, good)
    _lies(stage)
    return book


def _manifests(stage: Stage) -> None:
    """Helpers that are not the pinned ones."""
    cast, book, manifest = stage.cast, stage.book, stage.manifest

    def bad(name: str, anchors: str = "main", **changes: Any) -> None:
        data = make_manifest(cast.coordinator, dataclasses.replace(manifest, **changes))
        m1 = book.edited(f"m1, {name}", stage.m1, data)
        book.bad("manifest.verify", name, m1=m1, now_s=NOW_S, anchors=anchors, round="refused")

    keys = [cast.key(h).public_key for h in HELPERS]
    other = Anchors(
        cast.anchors.coordinator, cast.anchors.authority, helpers=frozenset([*keys[:2], b"\x07" * 32])
    )
    none = Anchors(cast.anchors.coordinator, cast.anchors.authority)
    five = Anchors(
        cast.anchors.coordinator,
        cast.anchors.authority,
        helpers=frozenset([*keys, *(cast.key(d).public_key for d in DEVICES[:2])]),
    )
    bad("a helper is not pinned", cast.trust("another helper", other))
    bad("no helper is pinned", cast.trust("no helpers", none))
    bad("of five pinned helpers three", cast.trust("five helpers", five))
    bad("a device in the place of a helper", members=tuple(
        cast.parties[d].prekey for d in ("device-0", "helper-0", "helper-1")
    ))  # fmt: skip
    bad("cohort in another order", cohort=("device-1", "device-0"))
    bad("a device twice in the cohort", cohort=("device-0", "device-0"))
    bad("a cohort that holds no name", cohort=("../x",))
    five_sums = tuple(SumSpec(name=f"g{g}", dim=1, n_min=1, group=g) for g in range(1, 6))
    bad("groups without a cohort", sums=five_sums, cohort=())


def _contributions(stage: Stage, good: Mapping[str, str]) -> None:
    """What the coordinator refuses of any contribution."""
    book, cast, base = stage.book, stage.cast, good["device-0"]
    whole = book.store.get(base)
    inputs = stage.inputs("device-0", ["a"])
    drawn: Arguments = {"seeds": ["00" * 32], "nonce": "00" * 16, "sharing": "00" * 32, "rank": 4}
    book.bad("contribute", "device not of the cohort", device="device-5", inputs=inputs, **drawn)
    book.bad(
        "contribute", "sum that is not there", error=LOCAL, device="device-4", inputs={"z": [0]}, **drawn
    )
    book.bad("contribute", "no sum", error=LOCAL, device="device-4", inputs={}, **drawn)
    book.bad("contribute", "input too short", error=LOCAL, device="device-4", inputs={"a": [0] * 19}, **drawn)
    above = {"a": [0] * 19 + [MODULUS]}
    book.bad("contribute", "input of q", error=LOCAL, device="device-4", inputs=above, **drawn)

    def bad(name: str, data: bytes) -> None:
        m2 = book.edited(f"m2, {name}", base, data)
        book.bad("coordinator.add", name, m2=m2)

    words, row = len(whole) - 3, len(whole) - 3 * (28 + 128) - 100
    bad("contribution cut short", whole[:-1])
    bad("contribution left over", whole + b"\0")
    longer = whole[4 : _header_end(whole)] + b"\0"
    signed = Writer().blob(longer).raw(cast.key("device-0").sign("contribution", longer)).bytes()
    bad("header left over", signed + whole[_header_end(whole) + 64 :])
    bad("contribution without words", whole[: len(whole) - 3 * (28 + 128)])
    bad("header cut short", whole[:100])
    bad("signature of a contribution changed", flipped(whole, _header_end(whole) + 10))
    bad("words changed", flipped(whole, words))
    bad("a sealed row changed", flipped(whole, row))
    chunks = [Writer().u32((1 << 14) + 1).bytes(), whole[: (1 << 14) + 65]]
    book.bad("coordinator.add", "header too long", m2=book.composed("m2, header too long", chunks, [base]))
    foreign = cast.certificate("device-0", signer=cast.key("stranger"))
    headers: dict[str, Arguments] = {
        "contribution to another round": {"mh": b"\1" * 32},
        "no sum at all": {"sums": 0},
        "sum beyond those of the manifest": {"sums": 0b1011},
        "other sums than sealed": {"sums": 0b0101},
        "device beyond the cohort": {"certificate": cast.certificate("device-5")},
        "certificate of a foreign authority": {"certificate": foreign},
        "certificate expires before the deadline": {
            "certificate": cast.certificate("device-0", not_after_s=NOW_S + 599)
        },
        "proof with a value plus q": {"proof": _with_q(stage, base)},
    }
    for name, changes in headers.items():
        m2 = stage.resigned(base, f"m2, {name}", **changes)
        book.bad("coordinator.add", name, m2=m2)
    m2 = stage.resigned(base, "m2, signed by another device", cast.key("device-1"))
    book.bad("coordinator.add", "header signed by another device", m2=m2)
    serial = cast.certificate("device-0").serial
    revoking = dataclasses.replace(cast.anchors, revoked=frozenset({serial}))
    cast.trust("revoking device-0", revoking)
    book.bad(
        "coordinator.add", "revoked contributor", m2=base, session="revoking", anchors="revoking device-0"
    )


def _admissions(stage: Stage, good: Mapping[str, str]) -> None:
    """What the coordinator refuses because of those it has."""
    book, cast = stage.book, stage.cast
    second = stage.resigned(good["device-0"], "m2, a second one", rank=9)
    book.bad("coordinator.add", "a second contribution", m2=second)
    key = cast.key("device-1")
    twin = cast.certificate("device-4", key=key)
    m2 = stage.resigned(good["device-1"], "m2 device-4 with the key of device-1", key, certificate=twin)
    book.bad("coordinator.add", "key of another device", m2=m2)
    m2 = stage.resigned(good["device-0"], "m2 device-4", certificate=cast.certificate("device-4"))
    book.bad("coordinator.add", "the round is full", m2=m2)


def _spoiled_row(stage: Stage, m2: str) -> str:
    """A contribution that is in order but for one helper's row, which does not open."""

    def spoil(rows: list[bytes]) -> list[bytes]:
        return [rows[0], flipped(rows[1], 40), rows[2]]

    sharing = stage.sharing("device-3", ["a"])
    return stage.resigned(m2, "m2 device-3, a row spoiled", rows=spoil, sharing=sharing)


def _entry(stage: Stage, member: int, m2: str) -> list[bytes]:
    """What the coordinator shows a member of a contribution: header, signature, row, and its path."""
    kept, _ = read_contribution(stage.signed, stage.book.store.get(m2))
    at = kept.sealed_at + member * kept.sealed_length
    row = stage.book.store.get(m2)[at : at + kept.sealed_length]
    return [
        Writer().blob(kept.encoded).bytes(),
        kept.signature,
        row,
        b"".join(path(kept.tree, member)),
    ]


def _request(
    stage: Stage, name: str, entries: list[list[bytes]], m2s: list[str], head: bytes = b"", end: bytes = b""
) -> str:
    head = head or _head(stage.mh, len(entries))
    chunks = [head, *(chunk for entry in entries for chunk in entry), *([end] if end else [])]
    return stage.book.composed(f"request, {name}", chunks, m2s)


def _head(mh: bytes, count: int, kind: str = "shares") -> bytes:
    return Writer().text(kind).raw(mh).u32(count).bytes()


def _requests(stage: Stage, good: Mapping[str, str], requests: Mapping[str, str]) -> None:
    """What a member refuses altogether."""
    book, cast = stage.book, stage.cast
    zero, one, two, _ = good.values()
    key = cast.key("device-0")
    as_4 = cast.certificate("device-4", key=key)
    twin = stage.resigned(zero, "m2 device-4, key of device-0", key, certificate=as_4)
    stranger = stage.resigned(zero, "m2 of device-5", certificate=cast.certificate("device-5"))
    again = "@m2, a second one"
    m2s = [zero, one, two, twin, stranger, again]
    e0, e1, e2 = (_entry(stage, 0, m2) for m2 in (zero, one, two))

    def bad(name: str, entries: list[list[bytes]], head: bytes = b"", end: bytes = b"") -> None:
        request = _request(stage, name, entries, m2s, head, end)
        book.bad("member.receive", name, member="helper-0", request=request)

    other = requests["helper-1"]
    book.bad("member.receive", "request of another member", member="helper-0", request=other)
    bad("request in another order", [e1, e0])
    bad("one contribution twice", [e0, e0])
    bad("two contributions of one device", [e0, _entry(stage, 0, again)])
    bad("request cut short", [e0, [*e1[:3], e1[3][:-1]]])
    bad("request left over", [e0, e1], end=b"\0")
    bad("request of another kind", [e0, e1], _head(stage.mh, 2, "ballot"))
    bad("request of another round", [e0, e1], _head(bytes(32), 2))
    bad("request with a count above its entries", [e0, e1], _head(stage.mh, 3))
    bad("request with a count below its entries", [e0, e1], _head(stage.mh, 1))
    bad("request with a count above any cohort", [e0, e1], _head(stage.mh, (1 << 20) + 1))
    bad(
        "row changed on the way",
        [[*e0[:2], e0[2][:4000], flipped(e0[2][4000:4020], 0), e0[2][4020:], e0[3]], e1],
    )
    bad("path changed on the way", [e0, [*e1[:3], flipped(e1[3], 40)]])
    bad("signature changed on the way", [e0, [e1[0], flipped(e1[1], 9), *e1[2:]]])
    bad("rows of two devices exchanged", [[*e1[:2], *e2[2:]], [*e2[:2], *e1[2:]]])
    bad("paths of two devices exchanged", [[*e1[:3], e2[3]], [*e2[:3], e1[3]]])
    bad("two devices with one key", [e0, e1, e2, _entry(stage, 0, twin)])
    alien = [*e0]
    kept = book.store.get(stranger)
    alien[0], alien[1] = kept[: _header_end(kept)], kept[_header_end(kept) :][:64]
    bad("a device that is not of the cohort", [e0, alien])


def _accusations(stage: Stage, good: Mapping[str, str]) -> None:
    """Contributions that a member accuses, each with its reason."""
    book, cast, base = stage.book, stage.cast, good["device-0"]

    def accused(name: str, m2: str, anchors: str = "main") -> None:
        entries = [_entry(stage, 0, m2), _entry(stage, 0, good["device-1"])]
        request = _request(stage, name, entries, [m2, good["device-1"]])
        session = f"helper-0, {name}"
        book.do("member.receive", name, member="helper-0", session=session, request=request, anchors=anchors)

    copied = stage.resigned(good["device-2"], "m2 copied", certificate=cast.certificate("device-0"))
    accused("accused: rows sealed by another sender", copied)
    nonce = stage.resigned(base, "m2, another nonce", nonce=bytes(16))
    accused("accused: rows sealed under another nonce", nonce)
    proof = stage.header_of(base)[0].proof.copy()
    proof[0, 0] = (int(proof[0, 0]) + 1) % MODULUS
    accused("accused: proof does not fit", stage.resigned(base, "m2, another proof", proof=proof))
    other_words = stage.resigned(base, "m2, words changed after the proof", words=lambda w: flipped(w, 3))
    accused("accused: header is not the one that was proved", other_words)
    foreign = cast.certificate("device-0", signer=cast.key("stranger"))
    accused("accused: foreign certificate", stage.resigned(base, "m2, foreign", certificate=foreign))
    accused("accused: revoked", base, "revoking device-0")
    short = cast.certificate("device-0", not_after_s=NOW_S + 599)
    accused("accused: expires before the deadline", stage.resigned(base, "m2, expires", certificate=short))


def _inconsistent(stage: Stage, good: Mapping[str, str]) -> None:
    """Another session, in which a device's words are under another key than the one that it shares."""
    session = "inconsistent"
    words = stage.resigned(
        good["device-0"], "m2 device-0, words under another key",
        words=lambda body: bytes(b ^ 0x55 for b in body[: 3 * 84]) + body[3 * 84 :],
        sharing=stage.sharing("device-0", ["a", "b"]),
    )  # fmt: skip
    stage.add(words, good["device-1"], good["device-2"], session=session)
    stage.close(session)
    stage.check(HELPERS, session)
    stage.vote(HELPERS, stage.ballot(session), session)
    quorum = stage.quorum(session)
    for helper in HELPERS:
        stage.take(stage.open(helper, quorum, session), session)
    stage.result(session)


def _lies(stage: Stage) -> None:
    """With one answer more than are needed, a lie is seen but not whose it is: nothing opens."""
    session = "lies"
    stage.add("@m2 device-0", "@m2 device-1", session=session)
    stage.close(session)
    stage.check(HELPERS, session)
    stage.vote(HELPERS, stage.ballot(session), session)
    quorum = stage.quorum(session)
    openings = [stage.open(helper, quorum, session) for helper in HELPERS]
    for opening in openings[:2]:
        stage.take(opening, session)
    body = stage.book.store.get(openings[2])[:-64]
    body = flipped(flipped(body, 200), len(body) - 200)
    lie = body + stage.cast.key("helper-2").sign("opening", body)
    stage.take(stage.book.edited("opening, a lie", openings[2], lie), session)
    stage.book.bad("coordinator.result", "answers contradict each other", error=ABORTED, session=session)


def _with_q(stage: Stage, m2: str) -> Any:
    proof = stage.header_of(m2)[0].proof.copy()
    proof[3, 1] += np.uint32(MODULUS)
    return proof


def _header_end(m2: bytes) -> int:
    return 4 + int.from_bytes(m2[:4], "big")
