"""A committee member that answers wrongly: detected before anything is believed."""

from __future__ import annotations

import numpy as np
import pytest

from mimo_fed.codec import Writer
from mimo_fed.errors import PeerProtocolError, RoundAborted
from mimo_fed.secagg import MODULUS
from tests.unit.secagg.rig import Rig

SUMS = {"a": 40}


def opening_rig(n: int) -> Rig:
    rig = Rig(n, SUMS)
    rig.gather(rig.random_inputs(1))
    rig.check_shares(rig.ids)
    rig.vote(rig.ids)
    return rig


def false_opening(rig: Rig, d: str) -> bytes:
    """The member's opening with one value changed, properly signed."""
    honest = rig.members[d].open(rig.coordinator.quorum_certificate())
    body = bytearray(honest[:-64])
    last = (int.from_bytes(body[-4:], "little") + 1) % MODULUS
    body[-4:] = last.to_bytes(4, "little")
    return bytes(body) + rig.keys[d].sign("opening", bytes(body))


def test_a_wrong_opening_contradicts_the_surplus() -> None:
    rig = opening_rig(6)
    rig.open(rig.ids[:5])
    rig.coordinator.add_opening(false_opening(rig, rig.ids[5]))
    with pytest.raises(RoundAborted, match="a member lied"):
        rig.coordinator.result()


def test_a_lone_liar_among_two_surplus_answers_is_pointed_at() -> None:
    rig = opening_rig(8)
    rig.coordinator.add_opening(false_opening(rig, rig.ids[4]))
    rig.open([d for d in rig.ids if d != rig.ids[4]])
    with pytest.raises(RoundAborted, match="without member 4 they agree"):
        rig.coordinator.result()


def test_a_wrong_opening_without_surplus_fails_the_check_coordinates() -> None:
    rig = opening_rig(6)
    rig.open(rig.ids[:4])
    rig.coordinator.add_opening(false_opening(rig, rig.ids[5]))
    with pytest.raises(RoundAborted, match="SumInconsistent"):
        rig.coordinator.result()


def test_a_second_opening() -> None:
    rig = opening_rig(4)
    rig.open(rig.ids)
    rig.open(rig.ids)
    with pytest.raises(PeerProtocolError, match="a second one"):
        rig.coordinator.add_opening(false_opening(rig, rig.ids[0]))
    assert rig.coordinator.result().survivors == tuple(rig.ids)


def test_an_opening_in_another_members_name() -> None:
    rig = opening_rig(3)
    opening = rig.members[rig.ids[0]].open(rig.coordinator.quorum_certificate())
    body = bytearray(opening[:-64])
    body[4 + len("opening") + 32 + 1] = 1
    with pytest.raises(PeerProtocolError, match="signature"):
        rig.coordinator.add_opening(bytes(body) + rig.keys[rig.ids[0]].sign("opening", bytes(body)))


def test_an_opening_beyond_the_modulus() -> None:
    rig = opening_rig(3)
    body = rig.members[rig.ids[0]].open(rig.coordinator.quorum_certificate())[:-64]
    body = body[:-4] + np.array([MODULUS], "<u4").tobytes()
    with pytest.raises(PeerProtocolError, match="q or above"):
        rig.coordinator.add_opening(body + rig.keys[rig.ids[0]].sign("opening", body))


def test_a_vote_for_another_ballot() -> None:
    rig = opening_rig(3)
    body = Writer().text("vote").raw(rig.signed.mh).u16(0).raw(b"b" * 32).bytes()
    with pytest.raises(PeerProtocolError, match="another ballot"):
        rig.coordinator.add_vote(body + rig.keys[rig.ids[0]].sign("vote", body))


def test_complaints_about_a_device_that_gave_nothing_and_second_lists() -> None:
    rig = Rig(4, SUMS)
    inputs = rig.random_inputs(1)
    del inputs[rig.ids[3]]
    rig.gather(inputs)

    def complaints(accuser: int, accused: list[int]) -> bytes:
        writer = Writer().text("complaints").raw(rig.signed.mh).u16(accuser).u16(len(accused))
        for index in accused:
            writer.u16(index)
        return writer.bytes() + rig.keys[rig.ids[accuser]].sign("complaints", writer.bytes())

    with pytest.raises(PeerProtocolError, match="gave nothing"):
        rig.coordinator.add_complaints(complaints(0, [3]))
    with pytest.raises(PeerProtocolError, match="not distinct"):
        rig.coordinator.add_complaints(complaints(0, [1, 1]))
    rig.coordinator.add_complaints(complaints(0, []))
    with pytest.raises(PeerProtocolError, match="a second list of device-00"):
        rig.coordinator.add_complaints(complaints(0, [1]))


def test_a_member_that_accuses_everybody_stops_the_round_and_opens_nothing() -> None:
    rig = Rig(4, SUMS)
    rig.gather(rig.random_inputs(1))
    rig.check_shares(rig.ids[1:])
    writer = Writer().text("complaints").raw(rig.signed.mh).u16(0).u16(4).u16(0).u16(1).u16(2).u16(3)
    rig.coordinator.add_complaints(writer.bytes() + rig.keys[rig.ids[0]].sign("complaints", writer.bytes()))
    with pytest.raises(RoundAborted, match="no sum has enough survivors"):
        rig.coordinator.ballot()
