"""Rounding residues to words of b bits, and reading a sum of words back (docs/protocol.md 3.5).

A uniform residue v becomes the word round(v 2^b / q) mod 2^b. Because the masked value is uniform, the
rounding is a subtractive dither: its error does not depend on the input. Words add natively and wrap.
A word of 32 bits is the residue itself: sums of such words are exact. They serve tests, not rounds.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import LocalProtocolError
from mimo_fed.secagg.modular import MODULUS, Floats
from mimo_fed.secagg.ring import BINOMIAL, ErrorTerm

WORD_BITS: Final = (16, 24)
"""what a manifest may ask for"""
UNROUNDED: Final = 32
FACTOR: Final = ((1 << 62) + MODULUS // 2) // MODULUS
"""the integer nearest to 2^62 / q"""

Words = NDArray[np.uint16] | NDArray[np.uint32] | NDArray[np.uint64]
_SUM_DTYPES: Final = {16: np.uint16, 24: np.uint32, UNROUNDED: np.uint64}
_READ_AT_ONCE: Final = 1 << 16
_PLACES: Final = np.array([1, 1 << 8, 1 << 16], np.uint32)


def round_to_words(values: NDArray[np.uint64], word_bits: int) -> bytes:
    """Round residues in [0, q) to words, little-endian, `word_bits` / 8 bytes each."""
    if word_bits == UNROUNDED:
        return values.astype("<u4").tobytes()
    shift = 62 - word_bits
    scaled = values * np.uint64(FACTOR)
    scaled += np.uint64(1 << (shift - 1))
    scaled >>= np.uint64(shift)
    if word_bits == 16:
        return scaled.astype("<u2").tobytes()
    return scaled.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def read_words(data: bytes | bytearray | memoryview, word_bits: int) -> Words:
    """Read what `round_to_words` wrote: uint16 for 16 bits, else uint32."""
    if word_bits == 16:
        return np.frombuffer(data, np.dtype("<u2")).astype(np.uint16, copy=False)
    if word_bits == UNROUNDED:
        return np.frombuffer(data, np.dtype("<u4")).astype(np.uint32, copy=False)
    octets = np.frombuffer(data, np.uint8)
    # four bytes are read for a word, of which one is the next word's; hence the last word's own line
    words = np.empty(len(octets) // 3, np.uint32)
    words[:-1] = np.ndarray(max(len(words) - 1, 0), "<u4", octets, 0, (3,))
    words[-1:] = octets[-3:].reshape(-1, 3).astype(np.uint32) @ _PLACES
    words &= np.uint32(0xFFFFFF)
    return words


def empty_sum(length: int, word_bits: int) -> Words:
    """Return zero words to add to; they wrap modulo a multiple of 2^b (of 32 bits: they do not wrap)."""
    if word_bits not in _SUM_DTYPES:
        raise LocalProtocolError(f"words have 16, 24 or 32 bits, not: {word_bits}")
    return np.zeros(length, _SUM_DTYPES[word_bits])


def add_words(total_D: Words, data: bytes | bytearray | memoryview, word_bits: int) -> None:
    """Add words to a sum, in place, in pieces that stay in the cache.

    Raises:
        LocalProtocolError: `data` is not as long as the sum.
    """
    view = memoryview(data)
    if view.nbytes * 8 != len(total_D) * word_bits:
        raise LocalProtocolError(f"words are not as long as their sum of {len(total_D)}: {view.nbytes} bytes")
    size = word_bits // 8
    for at in range(0, len(total_D), _READ_AT_ONCE):
        part = total_D[at : at + _READ_AT_ONCE]
        part += read_words(view[at * size : (at + len(part)) * size], word_bits)


def unmask(words_D: Words, mask_D: Floats, word_bits: int) -> Floats:
    """Lift the mask of a sum: summed words and mask residues in [0, q) to centred totals in units of one.

    The double-precision operations, and so their last bits, are the same in every back end.
    """
    if word_bits == UNROUNDED:
        total_D: Floats = (words_D % np.uint64(MODULUS)).astype(np.float64)
    else:
        total_D = (words_D & np.asarray((1 << word_bits) - 1, words_D.dtype)).astype(np.float64)
        total_D *= MODULUS / (1 << word_bits)
    total_D -= mask_D
    total_D -= np.rint(total_D * (1.0 / MODULUS)) * MODULUS
    return total_D


def error_bound(num_devices: int, word_bits: int, error: ErrorTerm = BINOMIAL) -> float:
    """Largest error of a total's coordinate, in units of one: rounding and ring errors at their extremes."""
    rounding = 0.0 if word_bits == UNROUNDED else 0.501 * MODULUS / (1 << word_bits) + 1
    return num_devices * (rounding + error.bound)
