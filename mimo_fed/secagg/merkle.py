"""A hash tree over a list, so that one signature covers all of it and each entry can be shown alone.

The tree is RFC 6962's, section 2.1: the left subtree takes the largest power of two below the number of
leaves. Leaves and nodes are hashed under domain tags of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg.crypto import digest

Tree = tuple[bytes, ...]
"""a hash tree: the hashes of each level, joined; the leaves first, the root last"""
_HASH_BYTES: Final = 32


def leaf(data: bytes) -> bytes:
    """Hash an entry."""
    return digest("leaf", data)


def tree(leaves: Sequence[bytes]) -> Tree:
    """Hash a list of at least one leaf, level by level; a node without a neighbour moves up as it is."""
    levels = [b"".join(leaves)]
    while len(levels[-1]) > _HASH_BYTES:
        pairs = [levels[-1][at : at + 2 * _HASH_BYTES] for at in range(0, len(levels[-1]), 2 * _HASH_BYTES)]
        levels.append(b"".join(digest("node", p) if len(p) > _HASH_BYTES else p for p in pairs))
    return tuple(levels)


def root(leaves: Sequence[bytes]) -> bytes:
    """Hash a list of at least one leaf to 32 bytes."""
    return tree(leaves)[-1]


def path(levels: Tree, index: int) -> tuple[bytes, ...]:
    """Return the hashes that lead from leaf `index` to the root, lowest first."""
    starts = [((index >> height) ^ 1) * _HASH_BYTES for height in range(len(levels))]
    found = [level[at : at + _HASH_BYTES] for level, at in zip(levels, starts, strict=True)]
    return tuple(sibling for sibling in found if sibling)


def path_length(index: int, size: int) -> int:
    """Count the hashes of the path of leaf `index` among `size`."""
    if size == 1:
        return 0
    left = _left(size)
    return 1 + (path_length(index, left) if index < left else path_length(index - left, size - left))


def check_path(expected: bytes, data: bytes, index: int, size: int, hashes: Sequence[bytes]) -> None:
    """Accept an entry that stands at `index` among `size` under a root.

    Raises:
        PeerProtocolError: it does not.
    """
    if len(hashes) != path_length(index, size) or _climb(leaf(data), index, size, hashes) != expected:
        raise PeerProtocolError(f"an entry is not under its signed root: {index}")


def _climb(value: bytes, index: int, size: int, hashes: Sequence[bytes]) -> bytes:
    if size == 1:
        return value
    left = _left(size)
    if index < left:
        return _node(_climb(value, index, left, hashes[:-1]), hashes[-1])
    return _node(hashes[-1], _climb(value, index - left, size - left, hashes[:-1]))


def _left(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _node(left: bytes, right: bytes) -> bytes:
    return digest("node", left + right)
