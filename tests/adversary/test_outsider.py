"""Somebody without a certificate, or with one too many: kept out of the manifest and of the sum."""

from __future__ import annotations

import dataclasses

import pytest

from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg import (
    Certificate,
    Coordinator,
    MemorySpool,
    SigningKey,
    issue_certificate,
    make_hello,
    make_manifest,
    make_prekey,
    verify_hello,
    verify_manifest,
    verify_prekey,
)
from tests.unit.secagg.rig import NOW_S, Rig

SUMS = {"a": 40}


def outsiders_certificate(rig: Rig, key: SigningKey, signer: SigningKey) -> Certificate:
    return issue_certificate(
        signer,
        device_id="stranger",
        public_key=key.public_key,
        serial=99,
        not_before_s=0,
        not_after_s=NOW_S * 2,
    )


def with_member(rig: Rig, certificate: Certificate, key: SigningKey) -> bytes:
    """The manifest with one more member, signed by the coordinator."""
    _, m0 = make_prekey(key, certificate, rig.round_id, rig.entropy)
    prekey = dataclasses.replace(
        rig.manifest.members[0], device_id=certificate.device_id, certificate=certificate, encoded=m0
    )
    members = tuple(sorted((*rig.manifest.members, prekey), key=lambda m: m.device_id))
    return make_manifest(rig.coordinator_key, dataclasses.replace(rig.manifest, members=members))


def test_a_certificate_that_the_authority_did_not_sign() -> None:
    rig = Rig(3, SUMS)
    key = SigningKey.generate(rig.entropy)
    for signer in (key, rig.coordinator_key):
        certificate = outsiders_certificate(rig, key, signer)
        with pytest.raises(PeerProtocolError, match="signature"):
            verify_hello(make_hello(key, certificate, b"n"), b"n", rig.anchors, NOW_S)
        _, m0 = make_prekey(key, certificate, rig.round_id, rig.entropy)
        with pytest.raises(PeerProtocolError, match="signature"):
            verify_prekey(m0, rig.anchors, rig.round_id, NOW_S)
        with pytest.raises(PeerProtocolError, match="signature"):
            verify_manifest(with_member(rig, certificate, key), rig.anchors, NOW_S)


def test_a_stolen_certificate_without_its_key() -> None:
    rig = Rig(3, SUMS)
    key, stolen = SigningKey.generate(rig.entropy), rig.certificates[rig.ids[0]]
    with pytest.raises(PeerProtocolError, match="signature"):
        verify_hello(make_hello(key, stolen, b"n"), b"n", rig.anchors, NOW_S)
    _, m0 = make_prekey(key, stolen, rig.round_id, rig.entropy)
    with pytest.raises(PeerProtocolError, match="signature"):
        verify_prekey(m0, rig.anchors, rig.round_id, NOW_S)


def test_a_revoked_device_is_refused_everywhere() -> None:
    rig = Rig(3, SUMS)
    d = rig.ids[0]
    anchors = dataclasses.replace(rig.anchors, revoked=frozenset({rig.certificates[d].serial}))
    with pytest.raises(PeerProtocolError, match="revoked: device-00"):
        verify_manifest(rig.m1, anchors, NOW_S)
    coordinator = Coordinator(rig.signed, anchors, MemorySpool())
    with pytest.raises(PeerProtocolError, match="revoked: device-00"):
        coordinator.add(rig.m2(d, rig.random_inputs(0)[d]))


def test_one_device_id_twice() -> None:
    rig = Rig(3, SUMS)
    key = SigningKey.generate(rig.entropy)
    twin = rig.certify(rig.ids[0], key, 50)
    with pytest.raises(PeerProtocolError, match="not distinct"):
        verify_manifest(with_member(rig, twin, key), rig.anchors, NOW_S)


def test_one_key_under_two_names() -> None:
    rig = Rig(3, SUMS)
    key = rig.keys[rig.ids[0]]
    sybil = rig.certify("sybil", key, 50)
    with pytest.raises(PeerProtocolError, match="twice"):
        verify_manifest(with_member(rig, sybil, key), rig.anchors, NOW_S)


def test_a_device_that_is_not_in_the_manifest() -> None:
    rig, larger = Rig(3, SUMS), Rig(4, SUMS)
    guest = larger.ids[3]
    with pytest.raises(PeerProtocolError, match="not a member of this round: device-03"):
        rig.signed.manifest.index_of(guest)
    with pytest.raises(PeerProtocolError):
        rig.coordinator.add(larger.m2(guest, larger.random_inputs(0)[guest]))
