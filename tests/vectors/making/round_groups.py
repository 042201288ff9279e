"""round_groups.json: fifteen devices in five groups; a lying member is named (docs/protocol.md 4.4, 5.12)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mimo_fed.secagg import CLASSIC, SumSpec, make_manifest
from tests.vectors.making.book import NOW_S, Book
from tests.vectors.making.stage import Cast, Stage

IDS = [f"device-{i:02}" for i in range(15)]
SUMS = [SumSpec(name=f"group-{g}", dim=6, n_min=3, group=g) for g in range(1, 6)]


def make(previous: Mapping[str, Any] | None) -> Book:
    """Collect the file."""
    book = Book("A round of mode all with five groups: docs/protocol.md 4.4, 5.12.", previous)
    cast = Cast(book, "groups", CLASSIC)
    cast.enter(IDS)
    stage = Stage(cast, cast.manifest(IDS, SUMS, "all", n_max=15))
    _manifests(stage)
    groups = stage.signed.groups
    of = {g: [d for d in IDS if groups[d] == g] for g in range(1, 6)}
    m2s = {d: stage.contribute(d, [f"group-{g}"]) for g, d in ((1, d) for d in of[1])}
    m2s |= {d: stage.contribute(d, ["group-2"]) for d in of[2][:1]}
    stage.add(*m2s.values())
    _refused(stage, m2s[of[1][0]], of[3][0])
    stage.close()
    answering = IDS[:13]
    stage.check(answering)
    ballot = stage.ballot()
    stage.vote(answering, ballot)
    quorum = stage.quorum()
    openings = {d: stage.open(d, quorum) for d in answering}
    liar = answering[4]

    def lie(body: bytes) -> bytes:
        return body[:-4] + bytes(4)

    openings[liar] = stage.altered(openings[liar], "opening, a lie", "opening", liar, lie)
    for opening in openings.values():
        stage.take(opening)
    stage.result()
    return book


def _manifests(stage: Stage) -> None:
    """Groups that the manifest may not have."""
    cast, book = stage.cast, stage.book
    for name, sums in {
        "a group is missing": [*SUMS[:4], dataclasses.replace(SUMS[4], group=6)],
        "groups without room": [*SUMS[:4], dataclasses.replace(SUMS[4], n_min=4)],
    }.items():
        manifest = dataclasses.replace(stage.manifest, sums=tuple(sums))
        m1 = book.edited(f"m1, {name}", stage.m1, make_manifest(cast.coordinator, manifest))
        book.bad("manifest.verify", name, m1=m1, now_s=NOW_S, round="refused")


def _refused(stage: Stage, m2: str, other: str) -> None:
    """Sums of another group."""
    book, cast = stage.book, stage.cast
    stated = stage.resigned(m2, "m2, of another group", certificate=cast.certificate(other))
    book.bad("coordinator.add", "sum of another group", m2=stated)
    both = stage.resigned(m2, "m2, of two groups", sums=0b00011)
    book.bad("coordinator.add", "sums of two groups", m2=both)
    book.bad(
        "contribute", "input for another group", error="protocol.local", device=other, rank=4,
        inputs={"group-1": [0] * 6}, seeds=["00" * 32], nonce="00" * 16, sharing="00" * 32,
    )  # fmt: skip
