"""round_all.json: every contributor is a member, hybrid suite, words of 16 bits (docs/protocol.md 5, 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mimo_fed.codec import Writer
from mimo_fed.secagg import HYBRID, SumSpec
from tests.vectors.making.book import ABORTED, LOCAL, Arguments, Book
from tests.vectors.making.stage import Cast, Stage

IDS = [f"device-{i}" for i in range(3)]


def make(previous: Mapping[str, Any] | None) -> Book:
    """Collect the file."""
    book = Book(
        "A round of mode all with the hybrid suite and words of 16 bits: docs/protocol.md 5 to 7.", previous
    )
    cast = Cast(book, "all", HYBRID)
    cast.enter([*IDS, "device-3"])
    manifest = cast.manifest(IDS, [SumSpec(name="r1-4", dim=12, n_min=3)], "all", n_max=3)
    stage = Stage(cast, manifest)
    _refused_contributors(stage)
    m2s = [stage.contribute(d, ["r1-4"]) for d in IDS]
    stage.add(*m2s[:2])
    other = cast.certificate("device-2", serial=7)
    renewed = stage.resigned(m2s[2], "m2, another certificate than the manifest's", certificate=other)
    book.bad("coordinator.add", "another certificate than the manifest's", m2=renewed)
    stranger = stage.resigned(m2s[2], "m2, no member", certificate=cast.certificate("device-3"))
    book.bad("coordinator.add", "contributor is no member", m2=stranger)
    stage.add(m2s[2])
    stage.close()
    stage.check(IDS[:2])
    stage.check(IDS[2:])
    ballot = stage.ballot()
    stage.vote(IDS, ballot)
    quorum = stage.quorum()
    openings = [stage.open(d, quorum) for d in IDS]
    for opening in openings[:2]:
        stage.take(opening)
    book.bad("coordinator.result", "two openings of three", error=ABORTED)
    stage.take(openings[2])
    stage.result()
    _lie(stage, m2s, openings)
    return book


def _refused_contributors(stage: Stage) -> None:
    book, cast = stage.book, stage.cast
    asked: Arguments = {
        "rank": 4, "inputs": stage.inputs("device-0", ["r1-4"]), "seeds": ["00" * 32], "nonce": "00" * 16,
        "sharing": "00" * 32,
    }  # fmt: skip
    book.bad("contribute", "device that is no member", device="device-3", **asked)
    other = cast.certificate("device-0", serial=7).encode().hex()
    book.bad(
        "contribute", "with another certificate", error=LOCAL, device="device-0", certificate=other, **asked
    )


def _lie(stage: Stage, m2s: list[str], openings: list[str]) -> None:
    """A lie among as many answers as are needed: the check coordinates show it, and nothing opens."""
    session, book = "lie", stage.book
    stage.add(*m2s, session=session)
    stage.close(session)
    stage.check(IDS, session)
    stage.vote(IDS, stage.ballot(session), session)
    stage.quorum(session)
    for opening in openings[:2]:
        name = f"add {opening[1:]}, {session}"
        book.do("coordinator.add_opening", name, opening=opening, session=session)

    def lie(body: bytes) -> bytes:
        return body[:-4] + Writer().u32(0x01020304).bytes()

    wrong = stage.altered(openings[2], "opening, a lie", "opening", "device-2", lie)
    book.do("coordinator.add_opening", "add a lie", opening=wrong, session=session)
    book.bad("coordinator.result", "check coordinates are not zero", error=ABORTED, session=session)
