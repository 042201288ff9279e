"""The manifest, its rule and the owner's policy."""

from __future__ import annotations

import dataclasses

import pytest

from mimo_fed.codec import Writer
from mimo_fed.errors import LocalProtocolError, PeerProtocolError
from mimo_fed.secagg import (
    Anchors,
    DevicePolicy,
    Manifest,
    SumSpec,
    committee_rule,
    make_manifest,
    verify_manifest,
)
from tests.unit.secagg.rig import NOW_S, Rig

RIG = Rig(4, {"a": 100, "b": 200})


def resigned(**changes: object) -> bytes:
    """RIG's manifest with other values, signed by its coordinator."""
    return make_manifest(RIG.coordinator_key, dataclasses.replace(RIG.manifest, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("n", range(3, 65))
def test_the_rule_keeps_its_promises(n: int) -> None:
    c = committee_rule("all", n)
    assert c.size == n
    assert c.threshold == c.quorum == -(-7 * n // 10)
    assert c.corrupt >= 1
    assert c.packing == c.threshold - c.corrupt >= 1
    # two quorums share more members than may be corrupt: no second ballot
    assert 2 * c.quorum - c.size > c.corrupt


@pytest.mark.parametrize(("n", "losses"), [(3, 0), (6, 1), (8, 2), (24, 7)])
def test_the_rule_tolerates_the_stated_losses(n: int, losses: int) -> None:
    assert n - committee_rule("all", n).threshold == losses


@pytest.mark.parametrize(("mode", "n"), [("all", 2), ("all", 65), ("sampled", 64), ("", 8)])
def test_other_committees_are_refused(mode: str, n: int) -> None:
    with pytest.raises(PeerProtocolError):
        committee_rule(mode, n)


def test_a_manifest_comes_back_as_it_was() -> None:
    signed = verify_manifest(RIG.m1, RIG.anchors, NOW_S)
    assert signed.manifest == RIG.manifest
    assert signed.encoded == RIG.m1
    assert len(signed.mh) == 32


def test_the_name_of_a_round_depends_on_every_setting() -> None:
    other = verify_manifest(resigned(application=b"x"), RIG.anchors, NOW_S)
    assert other.mh != RIG.signed.mh


@pytest.mark.parametrize(
    "changes",
    [
        {"suite": "mimo-fed/0"},
        {"kind": "delete"},
        {"round_id": "../x"},
        {"sums": ()},
        {"sums": (SumSpec(name="a", dim=1, n_min=2), SumSpec(name="a", dim=1, n_min=2))},
        {"sums": (SumSpec(name="a", dim=0, n_min=2),)},
        {"sums": (SumSpec(name="a", dim=1, n_min=0),)},
        {"sums": (SumSpec(name="a", dim=1, n_min=5),)},
        {"deadline_at_s": NOW_S - 1},
        {"members": RIG.manifest.members[::-1]},
        {"members": (*RIG.manifest.members[:3], RIG.manifest.members[2])},
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(PeerProtocolError):
        verify_manifest(resigned(**changes), RIG.anchors, NOW_S)


def test_words_of_another_size_are_never_signed() -> None:
    with pytest.raises(LocalProtocolError):
        resigned(word_bits=8)


def test_a_committee_other_than_the_rule_gives_is_refused() -> None:
    """Threshold and quorum lowered to 2 by a coordinator that writes the bytes itself."""
    c = RIG.manifest.committee

    def encoded(*values: int) -> bytes:
        writer = Writer()
        for value in values:
            writer.u16(value)
        return writer.bytes()

    honest = encoded(c.size, c.quorum, c.threshold, c.corrupt, c.packing)
    body = RIG.manifest.encode()
    assert body.count(honest) == 1
    forged = body.replace(honest, encoded(c.size, 2, 2, 1, 1))
    with pytest.raises(PeerProtocolError, match="breaks the rule"):
        verify_manifest(forged + RIG.coordinator_key.sign("manifest", forged), RIG.anchors, NOW_S)


def test_another_coordinators_manifest_is_refused() -> None:
    stranger = Anchors(b"\x01" * 32, RIG.anchors.authority, frozenset())
    with pytest.raises(PeerProtocolError, match="manifest"):
        verify_manifest(RIG.m1, stranger, NOW_S)


def test_the_owners_floor_counts_for_every_sum() -> None:
    manifest: Manifest = dataclasses.replace(
        RIG.manifest, n_max=64, sums=(SumSpec(name="a", dim=1, n_min=16), SumSpec(name="b", dim=1, n_min=15))
    )
    with pytest.raises(PeerProtocolError, match="b for fewer than 16: 15"):
        DevicePolicy().check(manifest)
    DevicePolicy(n_min_floor=15).check(manifest)
