"""The last value that is taken, and the first that is not: what mutation testing found without a test."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg import (
    Anchors,
    SumSpec,
    issue_certificate,
    lottery_number,
    make_manifest,
    make_prekey,
    verify_evidence,
    verify_manifest,
    verify_prekey,
)
from mimo_fed.secagg.evidence import quorum_digest
from mimo_fed.secagg.manifest import MAX_DIM, MAX_SUMS, verify_past_manifest
from mimo_fed.secagg.messages import ballot_digest
from tests.unit.secagg.rig import NOW_S, Rig


def signed(rig: Rig, **change: object) -> bytes:
    return make_manifest(rig.coordinator_key, replace(rig.manifest, **change))  # type: ignore[arg-type]


def test_a_manifest_is_good_until_the_last_second_of_its_deadline() -> None:
    rig = Rig(3, {"a": 4})
    deadline = rig.manifest.deadline_at_s
    assert verify_manifest(rig.m1, rig.anchors, deadline).mh == rig.signed.mh
    with pytest.raises(PeerProtocolError, match="past its deadline"):
        verify_manifest(rig.m1, rig.anchors, deadline + 1)


def test_a_members_certificate_must_be_in_force_now_and_not_only_at_the_deadline() -> None:
    rig = Rig(3, {"a": 4})
    early = issue_certificate(
        rig.authority,
        device_id="device-00",
        public_key=rig.keys["device-00"].public_key,
        serial=50,
        not_before_s=NOW_S + 100,
        not_after_s=NOW_S + 10_000,
    )
    _, m0 = make_prekey(rig.suite, rig.keys["device-00"], early, rig.round_id, rig.entropy)
    prekey = verify_prekey(m0, rig.anchors, rig.suite, rig.round_id, NOW_S + 200)
    m1 = signed(rig, members=(prekey, *rig.manifest.members[1:]))
    with pytest.raises(PeerProtocolError, match="not in force: device-00"):
        verify_manifest(m1, rig.anchors, NOW_S)
    assert verify_past_manifest(m1, rig.anchors).manifest.members[0] == prekey


def test_the_largest_number_and_length_of_sums_are_taken_and_no_larger() -> None:
    rig = Rig(3, {"a": 4})
    most = tuple(SumSpec(name=f"s{i}", dim=MAX_DIM, n_min=2) for i in range(MAX_SUMS))
    assert verify_manifest(signed(rig, sums=most), rig.anchors, NOW_S).manifest.sums == most
    more = signed(rig, sums=(*most, SumSpec(name="one-more", dim=1, n_min=2)))
    with pytest.raises(PeerProtocolError, match="too many sums: 65"):
        verify_manifest(more, rig.anchors, NOW_S)
    longer = signed(rig, sums=(replace(most[0], dim=MAX_DIM + 1),))
    with pytest.raises(PeerProtocolError, match="impossible length"):
        verify_manifest(longer, rig.anchors, NOW_S)


def test_both_kinds_of_round_are_taken_and_no_other() -> None:
    rig = Rig(3, {"a": 4})
    assert verify_manifest(signed(rig, kind="evaluate"), rig.anchors, NOW_S).manifest.kind == "evaluate"
    with pytest.raises(PeerProtocolError, match="unknown kind: 'EVALUATE'"):
        verify_manifest(signed(rig, kind="EVALUATE"), rig.anchors, NOW_S)


def test_who_draws_the_threshold_itself_has_not_won() -> None:
    rig = Rig(70, {"a": 4}, mode="sampled")
    last = max(lottery_number(rig.manifest.beacon, d) for d in rig.member_ids)
    with pytest.raises(PeerProtocolError, match="did not win"):
        verify_manifest(signed(rig, lottery=last), rig.anchors, NOW_S)
    assert verify_manifest(signed(rig, lottery=last + 1), rig.anchors, NOW_S)


def test_anchors_have_one_form() -> None:
    anchors = Anchors(b"\x01" * 32, b"\x02" * 32, frozenset({3, 1}), frozenset({b"\x04" * 32}), 7)
    assert (
        anchors.to_json()
        == (
            '{"authority":"'
            + "02" * 32
            + '","coordinator":"'
            + "01" * 32
            + '","helpers":["'
            + "04" * 32
            + '"],'
            '"population":7,"revoked":[1,3]}'
        ).encode()
    )


def test_what_is_voted_on_and_published_is_named_by_hashes_of_their_own_domains() -> None:
    for named, domain in ((ballot_digest(b"x"), "ballot"), (bytes.fromhex(quorum_digest(b"x")), "quorum")):
        assert named == hashlib.sha256(f"mimo-fed/2/{domain}\0x".encode()).digest()


def test_evidence_names_the_adapter_that_the_round_worked_on() -> None:
    rig = Rig(3, {"a": 4})
    rig.gather(rig.random_inputs(1))
    assert verify_evidence(rig.finish().evidence, rig.anchors).base_digest == "00" * 32
