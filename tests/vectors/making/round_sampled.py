"""round_sampled.json: 64 members drawn by lot, from the lottery to the result (docs/protocol.md 6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from itertools import count, islice
from typing import Any

from mimo_fed.codec import Writer
from mimo_fed.secagg import CLASSIC, Anchors, SumSpec, beacon, lottery_bound, lottery_number, make_manifest
from mimo_fed.secagg.messages import decode_quorum, encode_quorum
from tests.vectors.making.book import LOCAL, NOW_S, Book
from tests.vectors.making.stage import BASE, Cast, Stage, replaced

POPULATION = 1000
CONTRIBUTORS = ["contributor-0", "contributor-1"]


def make(previous: Mapping[str, Any] | None) -> Book:
    """Collect the file."""
    book = Book("A round of mode sampled: docs/protocol.md 6.", previous)
    cast = Cast(book, "sampled", CLASSIC, population=POPULATION)
    members = sorted(islice(_drawn(True), 64))
    loser = next(d for d in _drawn(False) if d > members[-1])
    cast.enter([*members, *CONTRIBUTORS, loser])
    sums = [SumSpec(name="statistics", dim=5, n_min=2)]
    manifest = cast.manifest(members, sums, "sampled", n_max=100, lottery=lottery_bound(POPULATION))
    stage = Stage(cast, manifest)
    _manifests(stage, loser)
    stage.add(*(stage.contribute(d, ["statistics"]) for d in CONTRIBUTORS))
    stage.close()
    stage.check(members[:48])
    late = stage.receive(members[48], stage.request(members[48]))
    ballot = stage.ballot()
    book.bad("coordinator.add_complaints", "complaints after the ballot", complaints=late)
    stage.vote(members[:48], ballot)
    quorum = stage.quorum()
    _quorums(stage, quorum)
    for member in members[:48]:
        stage.take(stage.open(member, quorum))
    stage.result()
    return book


def _drawn(eligible: bool) -> Iterator[str]:
    """Devices that won the lottery, or lost it."""
    bound, draw = lottery_bound(POPULATION), beacon(BASE)
    ids = (f"device-{i:03}" for i in count())
    return (d for d in ids if (lottery_number(draw, d) < bound) == eligible)


def _manifests(stage: Stage, loser: str) -> None:
    cast, book, manifest = stage.cast, stage.book, stage.manifest

    def bad(name: str, data: bytes, anchors: str = "main", error: str = "protocol.peer") -> None:
        m1 = book.edited(f"m1, {name}", stage.m1, data)
        book.bad("manifest.verify", name, error=error, m1=m1, now_s=NOW_S, anchors=anchors, round="refused")

    members = [*manifest.members[:63], cast.parties[loser].prekey]
    members.sort(key=lambda prekey: prekey.device_id)
    lost = dataclasses.replace(manifest, members=tuple(members))
    bad("a member did not win the lottery", make_manifest(cast.coordinator, lost))
    more = dataclasses.replace(manifest, lottery=manifest.lottery + 1)
    bad("more may win than are allowed", make_manifest(cast.coordinator, more))
    tight = dataclasses.replace(manifest, lottery=manifest.lottery // 64)
    bad("members above the manifest's own threshold", make_manifest(cast.coordinator, tight))
    other = dataclasses.replace(manifest, base_digest="00" * 32)
    bad("another beacon", make_manifest(cast.coordinator, other))
    whole = make_manifest(cast.coordinator, manifest)
    unknown = Anchors(cast.anchors.coordinator, cast.anchors.authority)
    bad("population is not known", whole, cast.trust("no population", unknown), LOCAL)
    many = dataclasses.replace(cast.anchors, population=POPULATION + 1)
    bad("a larger population makes fewer eligible", whole, cast.trust("larger population", many))
    rule = Writer().text("sampled").u16(64).u16(48).u16(48).u16(31).u16(17).bytes()
    for name, numbers in {
        "numbers with a quorum of 47": (64, 47, 48, 31, 17),
        "numbers with a threshold of 47": (64, 48, 47, 30, 17),
        "63 members": (63, 48, 48, 31, 17),
    }.items():
        writer = Writer().text("sampled")
        for number in numbers:
            writer.u16(number)
        bad(name, cast.sign_manifest(replaced(manifest.encode(), rule, writer.bytes())))


def _quorums(stage: Stage, quorum: str) -> None:
    book = stage.book
    data = book.store.get(quorum)
    ballot, votes = decode_quorum(data, stage.signed)
    few = dict(list(votes.items())[:47])
    changed = book.edited("quorum, of 47", quorum, encode_quorum(stage.mh, ballot, few))
    book.bad("quorum.check", "quorum of 47", certificate=changed)
    book.do("quorum.check", "quorum of 48", certificate=quorum)
