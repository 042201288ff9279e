"""One finished round, every message of it, and who takes each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from mimo_fed.secagg import (
    CLASSIC,
    Certificate,
    Coordinator,
    Member,
    MemorySpool,
    Mode,
    make_hello,
    verify_evidence,
    verify_hello,
    verify_manifest,
    verify_prekey,
    verify_quorum,
)
from tests.unit.secagg.rig import NOW_S, Rig

KINDS = (
    "manifest",
    "certificate",
    "hello",
    "prekey",
    "contribution",
    "shares",
    "complaints",
    "ballot",
    "vote",
    "quorum",
    "opening",
    "evidence",
)


Messages = dict[str, bytes]


@cache
def played(mode: Mode = "all", round_id: str = "round-1", suite: str = CLASSIC) -> tuple[Rig, Messages]:
    """A finished round and its messages; the first device's or member's, where there are several."""
    rig = Rig(4, {"a": 10, "b": 5}, mode=mode, round_id=round_id, suite=suite)
    inputs, first, member = rig.random_inputs(0), rig.ids[0], rig.member_ids[0]
    kept = {"manifest": rig.m1, "certificate": rig.certificates[first].encode()}
    kept["hello"] = make_hello(rig.keys[first], rig.certificates[first], b"n" * 32)
    kept["prekey"] = rig.manifest.members[0].encoded
    for d in rig.ids:
        m2 = rig.m2(d, inputs[d])
        kept.setdefault("contribution", m2)
        rig.coordinator.add(m2)
    rig.coordinator.close()
    kept["shares"] = rig.coordinator.share_request(member)
    kept["complaints"] = rig.members[member].receive(kept["shares"], rig.anchors)
    kept["state"] = rig.members[member].to_bytes()
    rig.check_shares()
    kept["ballot"] = rig.coordinator.ballot()
    kept["vote"] = rig.members[member].vote(kept["ballot"])
    rig.vote()
    kept["quorum"] = rig.coordinator.quorum_certificate()
    kept["opening"] = rig.members[member].open(kept["quorum"])
    rig.open()
    kept["evidence"] = rig.coordinator.result().evidence
    return rig, kept


def fresh_coordinator(rig: Rig) -> Coordinator:
    """A session that has seen every contribution but no answer."""
    coordinator = Coordinator(rig.signed, rig.anchors, MemorySpool())
    for d in rig.ids:
        coordinator.add(rig.spool.get(f"{d}.m2"))
    coordinator.close()
    return coordinator


def receiver(rig: Rig, kept: Messages, kind: str) -> Callable[[bytes], object]:
    """Who takes a message of that kind, in the state in which it would take the good one."""
    d = rig.member_ids[0]
    if kind == "shares":
        return lambda data: rig.member(d).receive(data, rig.anchors)
    if kind == "ballot":
        return Member.from_bytes(rig.signed, rig.keys[d], rig.certificates[d], kept["state"]).vote
    return {
        "manifest": lambda data: verify_manifest(data, rig.anchors, NOW_S),
        "certificate": lambda data: rig.anchors.check(Certificate.decode(data), NOW_S),
        "hello": lambda data: verify_hello(data, b"n" * 32, rig.anchors, NOW_S),
        "prekey": lambda data: verify_prekey(data, rig.anchors, rig.suite, rig.round_id, NOW_S),
        "contribution": Coordinator(rig.signed, rig.anchors, MemorySpool()).add,
        "complaints": fresh_coordinator(rig).add_complaints,
        "vote": rig.coordinator.add_vote,
        "quorum": lambda data: verify_quorum(rig.signed, data),
        "opening": rig.coordinator.add_opening,
        "evidence": lambda data: verify_evidence(data, rig.anchors),
    }[kind]
