"""Rounding residues to words of b bits, and reading a sum of words back (docs/protocol.md 3.5).

A uniform residue v becomes the word round(v 2^b / q) mod 2^b. Because the masked value is uniform, the
rounding is a subtractive dither: its error does not depend on the input. Words add natively and wrap.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import LocalProtocolError
from mimo_fed.secagg.modular import MODULUS, Floats
from mimo_fed.secagg.ring import ETA

WORD_BITS: Final = (16, 24)
Words = NDArray[np.uint16] | NDArray[np.uint32]


def round_to_words(values: NDArray[np.uint64], word_bits: int) -> bytes:
    """Round residues in [0, q) to words, little-endian, `word_bits` / 8 bytes each."""
    shift = 62 - word_bits
    factor = ((1 << 62) + MODULUS // 2) // MODULUS
    scaled = values * np.uint64(factor)
    scaled += np.uint64(1 << (shift - 1))
    scaled >>= np.uint64(shift)
    if word_bits == 16:
        return scaled.astype("<u2").tobytes()
    return scaled.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def read_words(data: bytes, word_bits: int) -> Words:
    """Read what `round_to_words` wrote: uint16 for 16 bits, uint32 for 24."""
    if word_bits == 16:
        return np.frombuffer(data, np.dtype("<u2")).astype(np.uint16, copy=False)
    padded = np.zeros((len(data) // 3, 4), np.uint8)
    padded[:, :3] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return padded.view(np.dtype("<u4")).reshape(-1).astype(np.uint32, copy=False)


def empty_sum(length: int, word_bits: int) -> Words:
    """Return zero words to add to; they wrap modulo a multiple of 2^b."""
    if word_bits not in WORD_BITS:
        raise LocalProtocolError(f"words have 16 or 24 bits, not: {word_bits}")
    return np.zeros(length, np.uint16) if word_bits == 16 else np.zeros(length, np.uint32)


def unmask(words: Words, mask: Floats, word_bits: int) -> Floats:
    """Lift the mask of a sum: (n,) summed words and (n,) mask residues to centred totals in q-units."""
    wrapped = (words & np.asarray((1 << word_bits) - 1, words.dtype)).astype(np.float64)
    total: Floats = wrapped * (MODULUS / (1 << word_bits)) - mask
    total -= np.rint(total / MODULUS) * MODULUS
    return total


def error_bound(num_devices: int, word_bits: int) -> float:
    """Largest error of a coordinate of a total, in q-units: rounding and ring errors at their extremes."""
    return num_devices * (0.501 * MODULUS / (1 << word_bits) + ETA + 1)
