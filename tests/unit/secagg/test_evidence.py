"""What anybody can check of a round that is over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mimo_fed.codec import Writer
from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg import HELPER_SIZES, verify_evidence, verify_manifest
from mimo_fed.secagg.evidence import decode_evidence
from tests.unit.secagg.rig import NOW_S, Rig

SUMS = {"a": 20, "b": 10}


def finished(**settings: object) -> tuple[Rig, bytes]:
    rig = Rig(4, SUMS, **settings)  # type: ignore[arg-type]
    inputs = rig.random_inputs(1)
    for d in rig.ids[1:]:
        del inputs[d]["b"]
    rig.gather(inputs)
    return rig, rig.finish().evidence


def test_it_tells_who_voted_and_how_many_are_in_each_opened_sum() -> None:
    rig, evidence = finished()
    audit = verify_evidence(evidence, rig.anchors)
    assert (audit.opened, audit.closed, audit.n_min) == ({"a": 4}, ("b",), {"a": 2})
    assert (audit.round_id, audit.kind, audit.mode, audit.num_members) == ("round-1", "train", "all", 4)
    assert audit.voters == audit.survivors == tuple(rig.ids)
    assert audit.quorum_digest == rig.coordinator.result().quorum_digest


@pytest.mark.parametrize("helpers", HELPER_SIZES)
def test_it_names_the_helpers_that_voted_and_no_others(helpers: int) -> None:
    """A quorum suffices; a vote that comes later is not in the certificate."""
    rig = Rig(4, SUMS, mode="helper", helpers=helpers)
    rig.gather(rig.random_inputs(1))
    result = rig.finish(rig.member_ids[: rig.manifest.committee.quorum])
    audit = verify_evidence(result.evidence, rig.anchors)
    assert audit.voters == tuple(rig.member_ids[: rig.manifest.committee.quorum])
    assert (audit.mode, audit.num_members) == ("helper", helpers)


def test_a_device_that_is_in_no_opened_sum_is_no_survivor() -> None:
    rig = Rig(4, SUMS)
    inputs = rig.random_inputs(1)
    for d in rig.ids:
        del inputs[d]["a" if d == rig.ids[0] else "b"]
    rig.gather(inputs)
    result = rig.finish()
    assert verify_evidence(result.evidence, rig.anchors).survivors == result.survivors == tuple(rig.ids[1:])


def test_it_holds_after_the_deadline_and_when_more_devices_are_enrolled() -> None:
    rig = Rig(70, {"a": 4}, mode="sampled")
    inputs = rig.random_inputs(1)
    rig.gather({d: inputs[d] for d in rig.ids[:3]})
    evidence = rig.finish().evidence
    grown = replace(rig.anchors, population=1_000_000)
    with pytest.raises(PeerProtocolError, match="too many devices eligible"):
        verify_manifest(decode_evidence(evidence)[0], grown, NOW_S)
    assert verify_evidence(evidence, grown).opened == {"a": 3}


def test_a_certificate_that_is_revoked_since_does_not_count() -> None:
    rig, evidence = finished()
    with pytest.raises(PeerProtocolError, match="revoked: device-02"):
        verify_evidence(evidence, replace(rig.anchors, revoked=frozenset({3})))


def test_votes_of_another_round_are_no_evidence() -> None:
    (rig, evidence), (_, other) = finished(), finished(round_id="round-2")
    mine, theirs = decode_evidence(evidence), decode_evidence(other)
    for m1, ballot, certificate in (
        (mine[0], mine[1], theirs[2]),
        (mine[0], theirs[1], mine[2]),
        (theirs[0], mine[1], mine[2]),
    ):
        mixed = Writer().text("evidence").blob(m1).blob(ballot).blob(certificate).bytes()
        with pytest.raises(PeerProtocolError):
            verify_evidence(mixed, rig.anchors)
