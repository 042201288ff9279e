"""Any round gives the sum within its bound or a typed abort; any spoiled byte is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mimo_fed.errors import PeerProtocolError, RoundAborted
from mimo_fed.secagg import (
    Certificate,
    Coordinator,
    Member,
    MemorySpool,
    committee_rule,
    verify_hello,
    verify_manifest,
    verify_prekey,
    verify_quorum,
)
from mimo_fed.secagg.identity import make_hello
from mimo_fed.secagg.words import error_bound
from tests.unit.secagg.rig import NOW_S, Rig, plain_sum

QUICK = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
SPOILED = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


@QUICK
@given(
    n=st.integers(3, 8),
    dims=st.lists(st.integers(1, 5000), min_size=1, max_size=3),
    word_bits=st.sampled_from([16, 24]),
    data=st.data(),
)
def test_a_round_with_tolerated_losses_gives_the_sum(
    n: int, dims: list[int], word_bits: int, data: st.DataObject
) -> None:
    rig = Rig(n, {f"s{i}": dim for i, dim in enumerate(dims)}, word_bits=word_bits, n_min=1)
    inputs = rig.random_inputs(data.draw(st.integers(0, 1000)))
    order = data.draw(st.permutations(rig.ids))
    rig.gather({d: inputs[d] for d in order})
    losses = data.draw(st.integers(0, n - committee_rule("all", n).threshold))
    result = rig.finish(order[losses:])
    assert result.survivors == tuple(rig.ids)
    for name, opened in result.sums.items():
        error = np.abs(opened.total_D - plain_sum(v[name] for v in inputs.values()))
        assert error.max() <= error_bound(n, word_bits)


@QUICK
@given(n=st.integers(3, 8), data=st.data())
def test_one_loss_more_than_tolerated_aborts_the_round(n: int, data: st.DataObject) -> None:
    rig = Rig(n, {"a": 10}, n_min=1)
    rig.gather(rig.random_inputs(0))
    order = data.draw(st.permutations(rig.ids))
    rig.check_shares(order)
    rig.vote(order)
    rig.open(order[n - committee_rule("all", n).threshold + 1 :])
    with pytest.raises(RoundAborted):
        rig.coordinator.result()


@cache
def played() -> tuple[Rig, dict[str, bytes]]:
    """One finished round of three and its messages; the first device's where there are several."""
    rig = Rig(3, {"a": 10, "b": 5})
    inputs, first = rig.random_inputs(0), rig.ids[0]
    kept = {"manifest": rig.m1, "certificate": rig.certificates[first].encode()}
    kept["hello"] = make_hello(rig.keys[first], rig.certificates[first], b"n" * 32)
    kept["prekey"] = rig.manifest.members[0].encoded
    for d in rig.ids:
        m2 = rig.m2(d, inputs[d])
        kept.setdefault("contribution", m2)
        rig.coordinator.add(m2)
    rig.coordinator.close()
    kept["shares"] = rig.coordinator.share_request(first)
    kept["complaints"] = rig.members[first].receive(kept["shares"])
    kept["state"] = rig.members[first].to_bytes()
    rig.check_shares(rig.ids)
    kept["ballot"] = rig.coordinator.ballot()
    kept["vote"] = rig.members[first].vote(kept["ballot"])
    rig.vote(rig.ids)
    kept["quorum"] = rig.coordinator.quorum_certificate()
    kept["opening"] = rig.members[first].open(kept["quorum"])
    rig.open(rig.ids)
    return rig, kept


def fresh_coordinator(rig: Rig) -> Coordinator:
    """A session that has seen every contribution but no answer."""
    coordinator = Coordinator(rig.signed, rig.anchors, MemorySpool())
    for d in rig.ids:
        coordinator.add(rig.spool.get(f"{d}.m2"))
    coordinator.close()
    return coordinator


def receiver(rig: Rig, kept: dict[str, bytes], kind: str) -> Callable[[bytes], object]:
    """Who takes a message of that kind, in the state in which it would take the good one."""
    d = rig.ids[0]
    if kind == "shares":
        return rig.member(d).receive
    if kind == "ballot":
        return Member.from_bytes(rig.signed, rig.keys[d], rig.certificates[d], kept["state"]).vote
    return {
        "manifest": lambda data: verify_manifest(data, rig.anchors, NOW_S),
        "certificate": lambda data: rig.anchors.check(Certificate.decode(data), NOW_S),
        "hello": lambda data: verify_hello(data, b"n" * 32, rig.anchors, NOW_S),
        "prekey": lambda data: verify_prekey(data, rig.anchors, rig.round_id, NOW_S),
        "contribution": Coordinator(rig.signed, rig.anchors, MemorySpool()).add,
        "complaints": fresh_coordinator(rig).add_complaints,
        "vote": rig.coordinator.add_vote,
        "quorum": lambda data: verify_quorum(rig.signed, data),
        "opening": rig.coordinator.add_opening,
    }[kind]


KINDS = [
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
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_good_message_is_taken(kind: str) -> None:
    rig, kept = played()
    receiver(rig, kept, kind)(kept[kind])


@pytest.mark.parametrize("kind", KINDS)
@SPOILED
@given(data=st.data())
def test_a_spoiled_message_is_refused(kind: str, data: st.DataObject) -> None:
    rig, kept = played()
    good = kept[kind]
    at = data.draw(st.integers(0, len(good) - 1), label="at")
    how = data.draw(st.sampled_from(["flip", "cut", "extend", "insert"]), label="how")
    byte = bytes([data.draw(st.integers(1, 255), label="byte")])
    spoiled = {
        "flip": good[:at] + bytes([good[at] ^ byte[0]]) + good[at + 1 :],
        "cut": good[:at],
        "extend": good + byte,
        "insert": good[:at] + byte + good[at:],
    }[how]
    if spoiled == good:
        return
    with pytest.raises(PeerProtocolError):
        receiver(rig, kept, kind)(spoiled)


@SPOILED
@given(junk=st.binary(max_size=300))
def test_junk_is_refused_everywhere(junk: bytes) -> None:
    rig, kept = played()
    for kind in ("manifest", "certificate", "hello", "prekey", "contribution", "shares", "ballot", "quorum"):
        with pytest.raises(PeerProtocolError):
            receiver(rig, kept, kind)(junk)
