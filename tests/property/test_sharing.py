"""Shares, whoever gives and whoever answers: the right secret, or a refusal that says whose fault it is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimo_fed.errors import PeerProtocolError, RoundAborted
from mimo_fed.secagg import MODULUS
from mimo_fed.secagg.consistency import check_shares, prove
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.decoding import decode, reconstruct
from mimo_fed.secagg.shamir import NUM_MASKS, Sharing, share
from tests.unit.secagg.plain import Numbers, interpolate, on_one_polynomial, random_secrets

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)
KEYS = st.binary(min_size=32, max_size=32)
CHANGES = st.integers(1, MODULUS - 1)


@st.composite
def committees(draw: st.DrawFn, surplus: int = 0) -> Numbers:
    size = draw(st.integers(3, 12))
    threshold = draw(st.integers(2, size - surplus))
    return Numbers(size, threshold, draw(st.integers(1, threshold)))


def subsets(size: int, least: int, most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, size - 1), min_size=least, max_size=most, unique=True)


def change(rows: NDArray[np.uint32], member: int, column: int, by: int) -> None:
    rows[member, column] = (int(rows[member, column]) + by) % MODULUS


@SETTINGS
@given(c=committees(), key=KEYS, num_devices=st.integers(1, 5), data=st.data())
def test_any_quorum_opens_the_sum_of_the_secrets(
    c: Numbers, key: bytes, num_devices: int, data: st.DataObject
) -> None:
    secrets = random_secrets(num_devices)
    dealt = [share([s], *c, Keystream(key, i)).shares() for i, s in enumerate(secrets)]
    total = np.stack(dealt).sum(axis=0, dtype=np.uint64) % np.uint64(MODULUS)
    members = data.draw(subsets(c.size, c.threshold, c.size))
    answers = {i: total[i, :-NUM_MASKS].astype(np.uint32) for i in members}
    secret, liars = reconstruct(answers, c.threshold, c.packing, key)
    assert np.array_equal(secret, np.stack(secrets).sum(axis=0) % np.uint64(MODULUS))
    assert liars == ()


@SETTINGS
@given(c=committees(), key=KEYS, data=st.data())
def test_liars_are_named_or_the_round_ends(c: Numbers, key: bytes, data: st.DataObject) -> None:
    [right] = random_secrets(1)
    rows = share([right], *c, Keystream(key)).shares()[:, :-NUM_MASKS]
    members = data.draw(subsets(c.size, c.threshold, c.size))
    surplus = len(members) - c.threshold
    liars = members[: data.draw(st.integers(0, (surplus + 1) // 2))]
    for i in liars:
        change(rows, i, data.draw(st.integers(0, rows.shape[1] - 1)), data.draw(CHANGES))
    answers = {i: rows[i] for i in members}
    if len(liars) > surplus // 2:
        with pytest.raises(RoundAborted, match="contradict each other"):
            reconstruct(answers, c.threshold, c.packing, key)
        return
    secret, named = reconstruct(answers, c.threshold, c.packing, key)
    assert named == tuple(sorted(liars))
    assert np.array_equal(secret, right)


@SETTINGS
@given(c=committees(surplus=1), key=KEYS, by=CHANGES, data=st.data())
def test_conspirators_up_to_half_the_surplus_never_give_a_wrong_secret(
    c: Numbers, key: bytes, by: int, data: st.DataObject
) -> None:
    """They add values of one polynomial, zero at as many honest members as its degree allows."""
    [right] = random_secrets(1)
    rows = share([right], *c, Keystream(key)).shares()[:, :-NUM_MASKS]
    order = data.draw(st.permutations(range(c.size)))
    count = data.draw(st.integers(1, (c.size - c.threshold + 1) // 2))
    for i in order[:count]:
        value = by
        for j in order[count : count + c.threshold - 1]:
            value = value * (i - j) % MODULUS
        change(rows, i, 3, value)
    try:
        secret, named = reconstruct(dict(enumerate(rows)), c.threshold, c.packing, key)
    except RoundAborted:
        assert count > (c.size - c.threshold) // 2
        return
    assert named == tuple(sorted(order[:count]))
    assert np.array_equal(secret, right)


@SETTINGS
@given(m=st.integers(2, 7), data=st.data())
def test_the_decoder_finds_what_trying_every_set_finds(m: int, data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, m))
    points = data.draw(st.lists(st.integers(1, 20), min_size=m, max_size=m, unique=True))
    few = st.integers(0, 2) | st.integers(0, MODULUS - 1)
    message = data.draw(st.lists(few, min_size=threshold, max_size=threshold))
    word = [sum(c * x**k for k, c in enumerate(message)) % MODULUS for x in points]
    for i in data.draw(subsets(m, 0, m)):
        word[i] = data.draw(few)
    expected = None
    for count in range((m - threshold) // 2 + 1):
        for left_out in combinations(range(m), count):
            kept = [i for i in range(m) if i not in left_out]
            if on_one_polynomial([points[i] for i in kept], [word[i] for i in kept], threshold):
                expected = list(left_out) if expected is None else expected
    assert decode(points, word, threshold) == expected


def refusing(rows: NDArray[np.uint32], proof: NDArray[np.uint32], key: bytes, threshold: int) -> set[int]:
    found = set()
    for i, row in enumerate(rows):
        try:
            check_shares(row, i, proof, key, threshold)
        except PeerProtocolError:
            found.add(i)
    return found


@SETTINGS
@given(c=committees(), key=KEYS, count=st.integers(1, 3), data=st.data())
def test_whoever_was_given_another_share_refuses_it(
    c: Numbers, key: bytes, count: int, data: st.DataObject
) -> None:
    sharing = share(random_secrets(count), *c, Keystream(key))
    rows, proof = sharing.shares(), prove(sharing, key)
    victims = data.draw(subsets(c.size, 0, c.size))
    for i in victims:
        change(rows, i, data.draw(st.integers(0, rows.shape[1] - 1)), data.draw(CHANGES))
    assert refusing(rows, proof, key, c.threshold) == set(victims)


@SETTINGS
@given(c=committees(surplus=1), key=KEYS, data=st.data())
def test_no_proof_of_shares_that_fit_no_polynomial_is_accepted_by_all(
    c: Numbers, key: bytes, data: st.DataObject
) -> None:
    """Up to C - r changed members leave a column off every polynomial; the dealer fits its proof to any r."""
    sharing = share(random_secrets(1), *c, Keystream(key))
    rows = sharing.shares()
    victims = data.draw(subsets(c.size, 1, c.size - c.threshold))
    column = data.draw(st.integers(0, rows.shape[1] - 1))
    for i in victims:
        change(rows, i, column, data.draw(CHANGES))
    fooled = data.draw(subsets(c.size, c.threshold, c.threshold))
    points = [i + 1 for i in fooled]
    seen = prove(Sharing(values=rows[fooled].astype(np.uint64), size=c.size), key)
    proof = [[interpolate(points, list(t), -1 - b) for b in range(c.threshold)] for t in seen.tolist()]
    refused = refusing(rows, np.array(proof, np.uint32), key, c.threshold)
    assert refused
    assert not refused & set(fooled)
