"""The hash tree over sealed shares, against the published definition and its own refusals."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg.crypto import digest
from mimo_fed.secagg.merkle import check_path, leaf, path, path_length, root, tree

SIZES = (1, 2, 3, 5, 7, 8, 24, 64)


def entries(size: int) -> list[bytes]:
    return [f"entry {i}".encode() for i in range(size)]


def written_root(data: Sequence[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word: MTH(D[n]) with k the largest power of two smaller than n."""
    if len(data) == 1:
        return digest("leaf", data[0])
    k = max(2**e for e in range(7) if 2**e < len(data))
    return digest("node", written_root(data[:k]) + written_root(data[k:]))


@pytest.mark.parametrize("size", SIZES)
def test_the_root_is_that_of_the_definition(size: int) -> None:
    assert root([leaf(d) for d in entries(size)]) == written_root(entries(size))


@pytest.mark.parametrize("size", SIZES)
def test_every_entry_is_under_its_root_in_its_own_place_alone(size: int) -> None:
    data = entries(size)
    leaves = [leaf(d) for d in data]
    top = root(leaves)
    for i in range(size):
        hashes = path(tree(leaves), i)
        assert len(hashes) == path_length(i, size)
        check_path(top, data[i], i, size, hashes)
        for j in set(range(size)) - {i}:
            with pytest.raises(PeerProtocolError, match=f"not under its signed root: {j}"):
                check_path(top, data[i], j, size, hashes)


@pytest.mark.parametrize("size", SIZES[1:])
def test_another_entry_hash_or_root_is_refused(size: int) -> None:
    data = entries(size)
    leaves = [leaf(d) for d in data]
    top, hashes = root(leaves), path(tree(leaves), 1)
    for expected, entry, climbed in (
        (top, b"another", hashes),
        (bytes(32), data[1], hashes),
        (top, data[1], (bytes(32), *hashes[1:])),
        (top, data[1], hashes[:-1]),
        (top, data[1], (*hashes, bytes(32))),
    ):
        with pytest.raises(PeerProtocolError):
            check_path(expected, entry, 1, size, climbed)


def test_an_inner_node_is_no_entry() -> None:
    """Leaves and nodes have domains of their own, so the two children of a node are no leaf."""
    leaves = [leaf(d) for d in entries(4)]
    with pytest.raises(PeerProtocolError):
        check_path(root(leaves), leaves[0] + leaves[1], 0, 2, (root(leaves[2:]),))
