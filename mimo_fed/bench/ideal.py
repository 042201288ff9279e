"""The least that pairwise masking could cost: SecAgg+ with nothing in it but its keystreams.

A client of SecAgg+ (Bell et al. 2020) with k neighbours adds k + 1 pseudo-random vectors to its own: one for
each neighbour, added on one side and subtracted on the other, and one of its own. Here they are AES-256-CTR
keystreams, the fastest a processor has, drawn straight into the cache and added as machine words; key
agreement, shares, signatures and three of the four messages are left out. No program can be faster; a real
one is slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.bench.clock import Piece, single, thread_seconds
from mimo_fed.secagg.crypto import Keystream

NEIGHBOURS: Final = (32, 96)
_CHUNK_BYTES: Final = 1 << 17
Words = NDArray[np.uint16] | NDArray[np.uint32]


def ideal_name(neighbours: int, word_bits: int) -> str:
    """Name the piece with so many neighbours and words of so many bits."""
    return f"ideal SecAgg+, {neighbours} neighbours, {word_bits} bits"


def ideal_piece(num_params: int, neighbours: int, word_bits: int) -> Piece:
    """Time masking one vector of words.

    Args:
        num_params: length of the vector.
        neighbours: k.
        word_bits: 16 or 32.
    """
    words_D: Words = np.zeros(num_params, np.uint16) if word_bits == 16 else np.zeros(num_params, np.uint32)
    pairs = [(_key(i + 1), i % 2 == 0) for i in range(neighbours)]
    return Piece(
        name=ideal_name(neighbours, word_bits),
        run=single(lambda: mask(words_D, _key(0), pairs), thread_seconds),
        warm=lambda: mask(words_D[:_CHUNK_BYTES], _key(0), pairs),
    )


def ideal_bytes(num_params: int, word_bits: int) -> int:
    """Count the bytes of the masked vector alone."""
    return num_params * word_bits // 8


def mask(words_D: Words, own: bytes, pairs: Sequence[tuple[bytes, bool]]) -> Words:
    """Add the client's own mask and those of its neighbours.

    Args:
        words_D: uint16 or uint32, shape (D,).
        own: the key of the client's own mask, 32 bytes.
        pairs: for each neighbour the key shared with it, and whether its mask is added or subtracted.

    Returns:
        The masked words, same shape and type.
    """
    masked = words_D.copy()
    streams: list[tuple[Keystream, np.ufunc]] = [(Keystream(own), np.add)]
    streams += [(Keystream(key), np.add if up else np.subtract) for key, up in pairs]
    step = _CHUNK_BYTES // words_D.itemsize
    for start in range(0, len(masked), step):
        piece = masked[start : start + step]
        for stream, apply in streams:
            apply(piece, np.frombuffer(stream.take(piece.nbytes), words_D.dtype), out=piece)
    return masked


def _key(index: int) -> bytes:
    return index.to_bytes(32, "big")
