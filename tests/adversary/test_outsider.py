"""Somebody without a certificate, or with one too many: kept out of manifest, sum and ballot."""

from __future__ import annotations

import dataclasses

import pytest

from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg import (
    Anchors,
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
from mimo_fed.secagg.intake import REASONS
from tests.adversary.forge import Dealer, ballot_of, entries_of, request_of, request_parts
from tests.unit.secagg.rig import NOW_S, Rig

SUMS = {"a": 40}


def certify(
    rig: Rig,
    name: str,
    key: SigningKey,
    *,
    by: SigningKey | None = None,
    serial: int = 99,
    days: int = 100,
) -> Certificate:
    return issue_certificate(
        by or rig.authority,
        device_id=name,
        public_key=key.public_key,
        serial=serial,
        not_before_s=0,
        not_after_s=NOW_S + 86_400 * days,
    )


def with_member(rig: Rig, certificate: Certificate, key: SigningKey) -> bytes:
    """The manifest with one more member, signed by the coordinator."""
    _, m0 = make_prekey(rig.suite, key, certificate, rig.round_id, rig.entropy)
    prekey = dataclasses.replace(
        rig.manifest.members[0], device_id=certificate.device_id, certificate=certificate, encoded=m0
    )
    members = tuple(sorted((*rig.manifest.members, prekey), key=lambda m: m.device_id))
    return make_manifest(rig.coordinator_key, dataclasses.replace(rig.manifest, members=members))


def guest_of(rig: Rig, certificate: Certificate, key: SigningKey) -> bytes:
    """A contribution under this certificate, properly made."""
    name = certificate.device_id
    rig.keys[name], rig.certificates[name] = key, certificate
    return Dealer(rig, name, rig.random_inputs(0)[rig.ids[0]]).m2()


def refuse_everywhere(rig: Rig, certificate: Certificate, key: SigningKey, reason: str) -> None:
    with pytest.raises(PeerProtocolError, match=reason):
        verify_hello(make_hello(key, certificate, b"n"), b"n", rig.anchors, NOW_S)
    _, m0 = make_prekey(rig.suite, key, certificate, rig.round_id, rig.entropy)
    with pytest.raises(PeerProtocolError, match=reason):
        verify_prekey(m0, rig.anchors, rig.suite, rig.round_id, NOW_S)
    with pytest.raises(PeerProtocolError, match=reason):
        verify_manifest(with_member(rig, certificate, key), rig.anchors, NOW_S)
    open_round = Rig(4, SUMS, mode="helper", seed="rig")
    open_round.anchors = dataclasses.replace(open_round.anchors, authority=rig.anchors.authority)
    open_round.coordinator = Coordinator(open_round.signed, open_round.anchors, MemorySpool())
    with pytest.raises(PeerProtocolError, match=reason):
        open_round.coordinator.add(guest_of(open_round, certificate, key))


def test_a_certificate_that_the_authority_did_not_sign() -> None:
    rig = Rig(3, SUMS)
    key = SigningKey.generate(rig.entropy)
    for signer in (key, rig.coordinator_key):
        certificate = certify(rig, "stranger", key, by=signer)
        refuse_everywhere(rig, certificate, key, "signature is not valid: certificate")


def test_a_certificate_that_has_expired() -> None:
    rig = Rig(3, SUMS)
    key = SigningKey.generate(rig.entropy)
    refuse_everywhere(rig, certify(rig, "stranger", key, days=-1), key, "not in force: stranger")


def test_a_certificate_that_expires_before_the_deadline_does_not_contribute() -> None:
    """In force now, but not when members judge it: both ends look at the deadline."""
    rig = Rig(4, SUMS, mode="helper")
    key = SigningKey.generate(rig.entropy)
    short = issue_certificate(
        rig.authority,
        device_id="brief",
        public_key=key.public_key,
        serial=99,
        not_before_s=0,
        not_after_s=rig.manifest.deadline_at_s - 1,
    )
    with pytest.raises(PeerProtocolError, match="not in force: brief"):
        rig.coordinator.add(guest_of(rig, short, key))


def test_a_stolen_certificate_without_its_key() -> None:
    rig = Rig(3, SUMS)
    key, stolen = SigningKey.generate(rig.entropy), rig.certificates[rig.ids[0]]
    with pytest.raises(PeerProtocolError, match="not valid: hello"):
        verify_hello(make_hello(key, stolen, b"n"), b"n", rig.anchors, NOW_S)
    _, m0 = make_prekey(rig.suite, key, stolen, rig.round_id, rig.entropy)
    with pytest.raises(PeerProtocolError, match="not valid: prekey"):
        verify_prekey(m0, rig.anchors, rig.suite, rig.round_id, NOW_S)
    m2 = Dealer(rig, rig.ids[0], rig.random_inputs(0)[rig.ids[0]]).m2(key)
    with pytest.raises(PeerProtocolError, match="not valid: contribution"):
        rig.coordinator.add(m2)


def test_a_hello_recorded_and_played_back() -> None:
    rig = Rig(3, SUMS)
    hello = make_hello(rig.keys[rig.ids[0]], rig.certificates[rig.ids[0]], b"first nonce")
    with pytest.raises(PeerProtocolError, match="not valid: hello"):
        verify_hello(hello, b"second nonce", rig.anchors, NOW_S)


def test_a_revoked_device_is_refused_everywhere() -> None:
    rig = Rig(3, SUMS)
    d = rig.ids[0]
    anchors = dataclasses.replace(rig.anchors, revoked=frozenset({rig.certificates[d].serial}))
    with pytest.raises(PeerProtocolError, match="revoked: device-00"):
        verify_manifest(rig.m1, anchors, NOW_S)
    coordinator = Coordinator(rig.signed, anchors, MemorySpool())
    with pytest.raises(PeerProtocolError, match="revoked: device-00"):
        coordinator.add(rig.m2(d, rig.random_inputs(0)[d]))


@pytest.mark.parametrize("kind", ["revoked", "unsigned", "expired"])
def test_members_name_a_contributor_that_does_not_count_though_the_coordinator_let_it_in(kind: str) -> None:
    """A Sybil of the coordinator's own: accused by every member, and in no ballot they vote for."""
    rig = Rig(4, SUMS, mode="helper", n_min=2)
    key = SigningKey.generate(rig.entropy)
    signer = rig.coordinator_key if kind == "unsigned" else rig.authority
    sybil = certify(rig, "sybil", key, by=signer, days=-1 if kind == "expired" else 100)
    strict = dataclasses.replace(rig.anchors, revoked=frozenset({99} if kind == "revoked" else ()))
    blind = rig.coordinator
    blind._anchors = _AcceptsEverybody(rig.anchors.coordinator, rig.anchors.authority)
    inputs = rig.random_inputs(0)
    for d in rig.ids[:3]:
        blind.add(rig.m2(d, inputs[d]))
    blind.add(guest_of(rig, sybil, key))
    blind.close()
    for d in rig.member_ids:
        blind.add_complaints(rig.members[d].receive(blind.share_request(d), strict))
    with pytest.raises(PeerProtocolError, match="no good shares from sybil"):
        rig.members[rig.member_ids[0]].vote(ballot_of(rig, entries_of(rig)))
    rig.vote()
    rig.open()
    result = blind.result()
    assert result.accused == tuple((d, "sybil", REASONS[2]) for d in rig.member_ids)
    assert result.survivors == tuple(rig.ids[:3])


class _AcceptsEverybody(Anchors):
    """A coordinator that checks no certificate."""

    def check(self, certificate: Certificate, now_s: int) -> None:
        del certificate, now_s


def test_one_device_id_twice() -> None:
    rig = Rig(3, SUMS)
    key = SigningKey.generate(rig.entropy)
    with pytest.raises(PeerProtocolError, match="not distinct"):
        verify_manifest(with_member(rig, certify(rig, rig.ids[0], key), key), rig.anchors, NOW_S)
    helped = Rig(3, SUMS, mode="helper")
    inputs, d = helped.random_inputs(0), helped.ids[0]
    helped.coordinator.add(helped.m2(d, inputs[d]))
    twin = guest_of(helped, certify(helped, d, key), key)
    with pytest.raises(PeerProtocolError, match="a second one of device-00"):
        helped.coordinator.add(twin)


def test_one_key_under_two_names() -> None:
    rig = Rig(3, SUMS)
    key = rig.keys[rig.ids[0]]
    with pytest.raises(PeerProtocolError, match="one key or certificate twice"):
        verify_manifest(with_member(rig, certify(rig, "sybil", key), key), rig.anchors, NOW_S)
    helped = Rig(3, SUMS, mode="helper")
    inputs, d = helped.random_inputs(0), helped.ids[0]
    helped.coordinator.add(helped.m2(d, inputs[d]))
    with pytest.raises(PeerProtocolError, match="sybil has the key of: device-00"):
        helped.coordinator.add(guest_of(helped, certify(helped, "sybil", helped.keys[d]), helped.keys[d]))


def test_members_refuse_one_key_under_two_names_though_the_coordinator_let_it_in() -> None:
    rig = Rig(3, SUMS, mode="helper")
    inputs, d = rig.random_inputs(0), rig.ids[0]
    rig.coordinator.add(rig.m2(d, inputs[d]))
    rig.coordinator._keys.clear()
    rig.coordinator.add(guest_of(rig, certify(rig, "sybil", rig.keys[d]), rig.keys[d]))
    rig.coordinator.close()
    with pytest.raises(PeerProtocolError, match="two devices with one key, or one twice: sybil"):
        rig.members[rig.member_ids[0]].receive(
            request_of(rig, request_parts(rig.coordinator, 0)), rig.anchors
        )


def test_members_refuse_one_device_id_under_two_keys_though_the_coordinator_let_it_in() -> None:
    rig = Rig(3, SUMS, mode="helper")
    inputs, d = rig.random_inputs(0), rig.ids[0]
    rig.coordinator.add(rig.m2(d, inputs[d]))
    twin = Coordinator(rig.signed, rig.anchors, MemorySpool())
    key = SigningKey.generate(rig.entropy)
    twin.add(guest_of(rig, certify(rig, d, key), key))
    parts = [request_parts(coordinator, 0)[0] for coordinator in (rig.coordinator, twin)]
    with pytest.raises(PeerProtocolError, match="two devices with one key, or one twice: device-00"):
        rig.members[rig.member_ids[0]].receive(request_of(rig, parts), rig.anchors)


def test_one_serial_for_two_members() -> None:
    """A revocation names a serial: two devices under one could not be told apart."""
    rig = Rig(3, SUMS)
    key = SigningKey.generate(rig.entropy)
    twin = certify(rig, "twin", key, serial=rig.certificates[rig.ids[0]].serial)
    with pytest.raises(PeerProtocolError, match="one key or certificate twice"):
        verify_manifest(with_member(rig, twin, key), rig.anchors, NOW_S)


def test_a_device_that_is_not_in_the_manifest() -> None:
    rig, larger = Rig(3, SUMS), Rig(4, SUMS)
    guest = larger.ids[3]
    rig.keys[guest], rig.certificates[guest] = larger.keys[guest], larger.certificates[guest]
    with pytest.raises(PeerProtocolError, match="not a member of this round: device-03"):
        rig.signed.manifest.index_of(guest)
    with pytest.raises(PeerProtocolError, match="not of this round's cohort: device-03"):
        rig.coordinator.add(Dealer(rig, guest, rig.random_inputs(0)[rig.ids[0]]).m2())


def test_a_device_that_is_not_of_the_named_cohort() -> None:
    rig = Rig(4, SUMS, mode="helper", cohort=("device-00", "device-01", "device-02"))
    with pytest.raises(PeerProtocolError, match="not of this round's cohort: device-03"):
        rig.coordinator.add(Dealer(rig, rig.ids[3], rig.random_inputs(0)[rig.ids[3]]).m2())
