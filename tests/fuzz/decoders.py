"""Feeds every reader of peers' messages with mutated ones: `python -m tests.fuzz.decoders --seconds 60`.

A mutated message fails at its signature, and no reader behind the signature sees anything. So each kind is
fed twice: as it is, and signed again with the right key, as a peer that lies would. Only PeerProtocolError
may come out. A failure prints the seed and the message; `--seed` plays it again.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mimo_fed.codec import Writer
from mimo_fed.errors import PeerProtocolError
from mimo_fed.round import envelope
from mimo_fed.round.cohort import read_rest
from mimo_fed.round.membership import prekey_request, read_prekey_request
from mimo_fed.secagg import (
    Certificate,
    Coordinator,
    Member,
    MemorySpool,
    make_hello,
    verify_evidence,
    verify_hello,
    verify_manifest,
    verify_prekey,
    verify_quorum,
)
from mimo_fed.secagg.crypto import SIGNATURE_BYTES
from mimo_fed.secagg.messages import Ballot, Header
from tests.unit.secagg.rig import NOW_S, Rig

NONCE: Final = b"n" * 32
EDGES: Final = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


@dataclass(frozen=True, kw_only=True)
class Target:
    """One reader.

    Attributes:
        good: a message it takes.
        read: hands it a message.
        sign: signs a body again as its sender would; None: it carries no signature of its own at its end.
    """

    good: bytes
    read: Callable[[bytes], object]
    sign: Callable[[bytes], bytes] | None = None


def targets(mode: str) -> dict[str, Target]:
    """Play one round and collect every message, each with its reader in the state that takes it."""
    rig = Rig(4, {"a": 10, "b": 5}, mode=mode, helpers=3, seed=f"fuzz-{mode}")  # type: ignore[arg-type]
    device, member = rig.ids[0], rig.member_ids[0]
    key, own = rig.keys[device], rig.keys[member]
    inputs = rig.random_inputs(0)
    m2 = rig.m2(device, inputs[device])
    for d in rig.ids:
        rig.coordinator.add(m2 if d == device else rig.m2(d, inputs[d]))
    rig.coordinator.close()
    shares = rig.coordinator.share_request(member)
    complaints = rig.members[member].receive(shares, rig.anchors)
    state = rig.members[member].to_bytes()
    rig.check_shares()
    ballot = rig.coordinator.ballot()
    vote = rig.members[member].vote(ballot)
    rig.vote()
    quorum = rig.coordinator.quorum_certificate()
    opening = rig.members[member].open(quorum)
    rig.open()
    evidence = rig.coordinator.result().evidence

    def restored(data: bytes) -> bytes:
        return Member.from_bytes(rig.signed, own, rig.certificates[member], state).vote(data)

    def taken(data: bytes) -> None:
        session = Coordinator(rig.signed, rig.anchors, MemorySpool())
        session.add(data)

    def complained(data: bytes) -> None:
        session = Coordinator(rig.signed, rig.anchors, rig.spool)
        session._contributions, session._closed = rig.coordinator._contributions, True
        session.add_complaints(data)

    header_bytes = 4 + int.from_bytes(m2[:4], "big")
    certificate, prekey = rig.certificates[device].encode(), rig.manifest.members[0].encoded
    anchors = rig.anchors
    return {
        "manifest": Target(
            good=rig.m1,
            read=lambda data: verify_manifest(data, anchors, NOW_S),
            sign=lambda body: body + rig.coordinator_key.sign("manifest", body),
        ),
        "certificate": Target(
            good=certificate,
            read=lambda data: anchors.check(Certificate.decode(data), NOW_S),
            sign=lambda body: body + rig.authority.sign("certificate", body),
        ),
        "hello": Target(
            good=make_hello(key, rig.certificates[device], NONCE),
            read=lambda data: verify_hello(data, NONCE, anchors, NOW_S),
            sign=lambda body: body + key.sign("hello", body + NONCE),
        ),
        "prekey": Target(
            good=prekey,
            read=lambda data: verify_prekey(data, anchors, rig.suite, rig.round_id, NOW_S),
            sign=lambda body: body + own.sign("prekey", body),
        ),
        "contribution": Target(good=m2, read=taken),
        "header": Target(good=m2[4:header_bytes], read=lambda data: Header.decode(data, rig.signed)),
        "contribution, header signed again": Target(
            good=m2[4:header_bytes],
            read=lambda data: taken(
                Writer().blob(data).raw(key.sign("contribution", data)).bytes()
                + m2[header_bytes + SIGNATURE_BYTES :]
            ),
        ),
        "shares": Target(good=shares, read=lambda data: rig.member(member).receive(data, anchors)),
        "complaints": Target(
            good=complaints, read=complained, sign=lambda body: body + own.sign("complaints", body)
        ),
        "ballot": Target(good=ballot, read=restored),
        "ballot, form": Target(good=ballot, read=lambda data: Ballot.decode(data, rig.signed)),
        "vote": Target(
            good=vote, read=rig.coordinator.add_vote, sign=lambda body: body + own.sign("vote", body)
        ),
        "quorum": Target(good=quorum, read=lambda data: verify_quorum(rig.signed, data)),
        "opening": Target(
            good=opening,
            read=rig.coordinator.add_opening,
            sign=lambda body: body + own.sign("opening", body),
        ),
        "evidence": Target(good=evidence, read=lambda data: verify_evidence(data, anchors)),
        "prekey request": Target(good=prekey_request(rig.suite, "round-1"), read=read_prekey_request),
        "rest": Target(good=b'{"seconds": 60, "reason": "enough"}', read=read_rest),
        "envelope": Target(good=envelope.ok(b"answer"), read=envelope.unwrap),
    }


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Change a message in one to four places."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(len(out) + 1)
        how = draw.randrange(7)
        if how == 0 and out:
            out[at % len(out)] ^= 1 << draw.randrange(8)
        elif how == 1 and out:
            out[at % len(out)] = draw.randrange(256)
        elif how == 2:
            width = draw.choice((1, 2, 4, 8))
            out[at : at + width] = (draw.choice(EDGES) % (1 << 8 * width)).to_bytes(width, "big")
        elif how == 3:
            del out[at : at + draw.choice((1, 2, 4, 32, len(out)))]
        elif how == 4:
            out[at:at] = draw.randbytes(draw.choice((1, 4, 32)))
        elif how == 5:
            start = draw.randrange(len(out) + 1)
            out[at:at] = out[start : start + draw.choice((4, 32, 64, 200))]
        else:
            start, length = draw.randrange(len(out) + 1), draw.choice((1, 4, 8, 32))
            out[at : at + length] = out[start : start + length]
    return bytes(out)


def feed(target: Target, draw: random.Random) -> str:
    """Mutate, perhaps sign again, and read: "taken" or "refused".

    Raises:
        Exception: whatever came out that is no PeerProtocolError; the message is attached as a note.
    """
    if target.sign and draw.random() < 0.8:
        message = target.sign(mutate(target.good[:-SIGNATURE_BYTES], draw))
    else:
        message = mutate(target.good, draw)
    try:
        target.read(message)
    except PeerProtocolError:
        return "refused"
    except Exception as error:
        error.add_note(f"message: {message.hex()}")
        raise
    return "taken"


def main() -> None:
    """Fuzz every reader in turn until the time is up, and print how often each was fed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=20261124)
    given = parser.parse_args()
    every = {f"{mode}: {name}": t for mode in ("all", "helper") for name, t in targets(mode).items()}
    fed: Counter[tuple[str, str]] = Counter()
    end, turn = time.monotonic() + given.seconds, 0
    while time.monotonic() < end:
        for name, target in every.items():
            draw = random.Random(f"{given.seed}/{turn}/{name}")
            try:
                fed[name, feed(target, draw)] += 1
            except Exception as error:
                error.add_note(f"reader: {name}; seed {given.seed}, turn {turn}")
                raise
        turn += 1
    for name in every:
        print(f"{name:44} {fed[name, 'refused']:7d} refused {fed[name, 'taken']:6d} taken")
    print(f"{sum(fed.values())} messages, seed {given.seed}: only PeerProtocolError came out")


if __name__ == "__main__":
    main()
