"""The form of messages, before anybody asks who sent them."""

from __future__ import annotations

import numpy as np
import pytest

from mimo_fed.codec import Reader, Writer
from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg.messages import (
    Ballot,
    Entry,
    Header,
    ascending,
    count,
    indices_of,
    mask_of,
    seal_context,
    share_values,
    start,
)
from tests.adversary.forge import Dealer
from tests.unit.secagg.rig import Rig

RIG = Rig(4, {"a": 10, "b": 10, "c": 10})


@pytest.mark.parametrize("indices", [(), (0,), (1, 3), (0, 63), tuple(range(64))])
def test_a_set_of_sums_is_a_mask_and_back(indices: tuple[int, ...]) -> None:
    assert indices_of(mask_of(indices)) == indices
    assert mask_of(indices) < 1 << 64


def test_a_message_starts_with_its_kind_and_round() -> None:
    good = Writer().text("vote").raw(b"r" * 32).bytes()
    start(Reader(good), "vote", b"r" * 32)
    with pytest.raises(PeerProtocolError, match="opening: another kind of message"):
        start(Reader(good), "opening", b"r" * 32)
    with pytest.raises(PeerProtocolError, match="vote: belongs to another round"):
        start(Reader(good), "vote", b"s" * 32)


@pytest.mark.parametrize("ids", [["b", "a"], ["a", "a"], ["a", "c", "b"]])
def test_devices_in_another_order_are_refused(ids: list[str]) -> None:
    with pytest.raises(PeerProtocolError, match="list: devices are not distinct and in order"):
        ascending(ids, "list")
    ascending(sorted(set(ids)), "list")


def test_a_list_beyond_its_bound_is_refused_before_it_is_read() -> None:
    assert count(Reader(Writer().u32(7).bytes()), 7) == 7
    with pytest.raises(PeerProtocolError, match="more than 7 entries: 8"):
        count(Reader(Writer().u32(8).bytes()), 7)


def test_a_member_gets_the_groups_of_each_sum_and_four_masks() -> None:
    assert share_values(3, 2) == 3 * 1024 + 4
    assert share_values(1, 3) == 683 + 4


def test_a_header_comes_back_as_it_was() -> None:
    dealer = Dealer(RIG, RIG.ids[1], {"a": np.zeros(10, np.uint32), "c": np.zeros(10, np.uint32)})
    header = dealer.header([b"sealed"])
    again = Header.decode(header.encode(RIG.signed.mh), RIG.signed)
    assert (again.device_id, again.rank, again.indices) == (RIG.ids[1], 4, (0, 2))
    assert (again.nonce, again.words, again.sealed) == (header.nonce, header.words, header.sealed)
    assert np.array_equal(again.proof, header.proof)
    assert again.challenge(RIG.signed.mh) == header.challenge(RIG.signed.mh)


def test_a_seal_is_bound_to_all_that_it_belongs_to() -> None:
    good = (b"m" * 32, "a", "b", b"n" * 16, 3)
    contexts = {seal_context(*good)}
    for at, other in enumerate((b"x" * 32, "c", "c", b"x" * 16, 5)):
        changed = [*good]
        changed[at] = other
        contexts.add(seal_context(*changed))  # type: ignore[arg-type]
    assert len(contexts) == 6
    assert seal_context(b"m" * 32, "ab", "c", b"n" * 16, 3) != seal_context(
        b"m" * 32, "a", "bc", b"n" * 16, 3
    )


def test_a_ballot_comes_back_and_knows_who_is_in_each_opened_sum() -> None:
    entries = tuple(
        Entry(device_id=d, rank=4, sums=sums, contribution=bytes(32))
        for d, sums in zip(RIG.ids, (1, 3, 7, 6), strict=True)
    )
    ballot = Ballot(survivors=entries, opened=0b011)
    assert Ballot.decode(ballot.encode(RIG.signed.mh), RIG.signed) == ballot
    assert [entry.device_id for entry in ballot.entries(0)] == RIG.ids[:3]
    assert [entry.device_id for entry in ballot.entries(1)] == RIG.ids[1:]
    assert ballot.entries(2) == ()
