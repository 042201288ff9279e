"""A coordinator that shows members other contributions than were sent: they refuse all of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mimo_fed.codec import Writer
from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg import Coordinator, MemorySpool, make_manifest, verify_manifest
from tests.adversary.forge import (
    Dealer,
    gathered_rig,
    request_of,
    request_parts,
    voting_rig,
)
from tests.unit.secagg.rig import NOW_S, Rig

SUMS = {"a": 40}


def refuse_shares(rig: Rig, request: bytes, reason: str) -> None:
    """The first member refuses everything, and its state does not change."""
    member = rig.members[rig.member_ids[0]]
    before = member.to_bytes()
    with pytest.raises(PeerProtocolError, match=reason):
        member.receive(request, rig.anchors)
    assert member.to_bytes() == before


def test_shares_exchanged_for_those_of_another_contributor() -> None:
    rig = gathered_rig()
    (head, sealed, path), second, *rest = request_parts(rig.coordinator, 0)
    swapped = [(head, second[1], path), (second[0], sealed, second[2]), *rest]
    refuse_shares(rig, request_of(rig, swapped), "not under its signed root: 0")


def test_shares_meant_for_another_member() -> None:
    """Each row has its place in the signed tree."""
    rig = gathered_rig()
    others = request_parts(rig.coordinator, 1)
    refuse_shares(rig, request_of(rig, others), "not under its signed root: 0")
    refuse_shares(rig, rig.coordinator.share_request(rig.ids[1]), "not under its signed root: 0")


def test_shares_of_the_coordinators_own_making() -> None:
    """It can seal to the prekey like anybody, but not sign for the contributor."""
    rig = gathered_rig()
    (head, _, path), *rest = request_parts(rig.coordinator, 0)
    forger = Dealer(rig, rig.ids[0], rig.random_inputs(9)[rig.ids[0]])
    own = forger.seal_to(0, forger.rows[0].astype("<u4").tobytes())
    refuse_shares(rig, request_of(rig, [(head, own, path), *rest]), "not under its signed root")


def test_a_contribution_of_the_coordinators_in_a_devices_name() -> None:
    rig = gathered_rig()
    forger = Dealer(rig, rig.ids[3], rig.random_inputs(9)[rig.ids[3]])
    lying = Coordinator(rig.signed, rig.anchors, MemorySpool())
    with pytest.raises(PeerProtocolError, match="signature is not valid: contribution"):
        lying.add(forger.m2(rig.coordinator_key))
    header = forger.header([forger.seal_to(i, row.tobytes()) for i, row in enumerate(forger.rows)])
    head = Writer().blob(header.encode(rig.signed.mh)).bytes()
    parts = request_parts(rig.coordinator, 0)
    for signature in (bytes(64), rig.coordinator_key.sign("contribution", header.encode(rig.signed.mh))):
        forged = (head + signature, *parts[3][1:])
        refuse_shares(rig, request_of(rig, [*parts[:3], forged]), "not valid: contribution")


def test_a_header_changed_on_the_way() -> None:
    """Another rank, in the same contribution: the signature covers all of it."""
    rig = gathered_rig()
    (head, sealed, path), *rest = request_parts(rig.coordinator, 0)
    rank = 4 + len(Writer().text("contribution").raw(rig.signed.mh).bytes()) + 4
    at = rank + len(rig.certificates[rig.ids[0]].encode())
    assert head[at : at + 2] == b"\x00\x04"
    changed = head[:at] + b"\x00\x10" + head[at + 2 :]
    refuse_shares(rig, request_of(rig, [(changed, sealed, path), *rest]), "signature is not valid")


@pytest.mark.parametrize("order", [(0, 0, 1, 2), (1, 0, 2, 3), (0, 1, 2, 2)])
def test_one_device_twice_or_devices_out_of_order(order: tuple[int, ...]) -> None:
    rig = gathered_rig()
    parts = request_parts(rig.coordinator, 0)
    reason = "not distinct and in order" if len(set(order)) == 4 else "one twice"
    refuse_shares(rig, request_of(rig, [parts[i] for i in order]), reason)


def test_two_contributions_of_one_device_to_different_members() -> None:
    """A colluding device signs two; every member holds one, and no ballot names both."""
    rig, twin = Rig(4, SUMS), MemorySpool()
    inputs, d = rig.random_inputs(1), rig.ids[3]
    other = Coordinator(rig.signed, rig.anchors, twin)
    for name in rig.ids[:3]:
        m2 = rig.m2(name, inputs[name])
        rig.coordinator.add(m2)
        other.add(m2)
    rig.coordinator.add(rig.m2(d, inputs[d]))
    other.add(rig.m2(d, inputs[d]))
    rig.coordinator.close()
    other.close()
    rig.members[rig.ids[0]].receive(other.share_request(rig.ids[0]), rig.anchors)
    rig.check_shares(rig.ids[1:])
    with pytest.raises(PeerProtocolError, match="another contribution of device-03"):
        rig.members[rig.ids[0]].vote(rig.coordinator.ballot())


def test_more_contributors_than_any_round_has() -> None:
    rig = gathered_rig()
    request = Writer().text("shares").raw(rig.signed.mh).u32((1 << 20) + 1).bytes()
    refuse_shares(rig, request, "more than 1048576 entries")


def test_a_second_set_of_shares() -> None:
    rig = voting_rig()
    refuse_shares(rig, request_of(rig, request_parts(rig.coordinator, 0)[:3]), "another set")


def test_a_contribution_hidden_from_one_member() -> None:
    """A member that was not shown a contribution does not vouch for it."""
    rig = gathered_rig()
    member = rig.members[rig.ids[0]]
    member.receive(request_of(rig, request_parts(rig.coordinator, 0)[:3]), rig.anchors)
    rig.check_shares(rig.ids[1:])
    with pytest.raises(PeerProtocolError, match="no good shares from device-03"):
        member.vote(rig.coordinator.ballot())


def test_a_member_that_was_shown_nothing_vouches_for_nothing() -> None:
    rig = gathered_rig()
    member = rig.members[rig.ids[0]]
    rig.coordinator.add_complaints(member.receive(request_of(rig, []), rig.anchors))
    rig.check_shares(rig.ids[1:])
    with pytest.raises(PeerProtocolError, match="no good shares from device-00"):
        member.vote(rig.coordinator.ballot())


def test_a_ballot_without_showing_the_shares_first() -> None:
    rig = gathered_rig()
    rig.check_shares(rig.ids[1:])
    with pytest.raises(PeerProtocolError, match="came before the shares"):
        rig.members[rig.ids[0]].vote(rig.coordinator.ballot())


def test_an_old_contribution_shown_as_one_of_this_round() -> None:
    old, new = gathered_rig(), gathered_rig(round_id="round-2", sequence=2)
    replayed = request_parts(old.coordinator, 0)[0]
    parts = [replayed, *request_parts(new.coordinator, 0)[1:]]
    refuse_shares(new, request_of(new, parts), "contribution: belongs to another round")


def test_an_old_seal_under_a_header_of_this_round() -> None:
    """Even with the same prekeys, as if they had been used twice: the seal is bound to round and message."""
    old, new = Rig(4, SUMS), Rig(4, SUMS, application=b"another")
    assert old.manifest.members == new.manifest.members
    assert old.signed.mh != new.signed.mh
    inputs = old.random_inputs(1)
    then = Dealer(old, old.ids[0], inputs[old.ids[0]])
    now = Dealer(new, new.ids[0], inputs[new.ids[0]])
    now.sealed[1] = then.seal_to(1, then.rows[1].astype("<u4").tobytes())
    new.coordinator.add(now.m2())
    for d in new.ids[1:]:
        new.coordinator.add(new.m2(d, inputs[d]))
    new.coordinator.close()
    new.check_shares()
    new.vote()
    new.open()
    [(accuser, accused, reason)] = new.coordinator.result().accused
    assert (accuser, accused, reason) == ("device-01", "device-00", "sealed shares do not open")


def test_two_manifests_in_one_round_share_no_key() -> None:
    """Same members and prekeys, another base: what is sent under one is refused under the other."""
    rig = Rig(3, SUMS)
    second = verify_manifest(
        make_manifest(rig.coordinator_key, dataclasses.replace(rig.manifest, base_digest="11" * 32)),
        rig.anchors,
        NOW_S,
    )
    first, rig.signed = rig.signed, second
    m2 = rig.m2(rig.ids[0], {"a": np.zeros(40, np.uint32)})
    with pytest.raises(PeerProtocolError, match="another round"):
        rig.coordinator.add(m2)
    Coordinator(second, rig.anchors, MemorySpool()).add(m2)
    assert first.mh != second.mh
