"""The ring of the masks: its size, its uniform elements, its errors, and how a vector is cut into blocks.

The ring is Z_q[X]/(X^2048 + 1) (docs/protocol.md 3). The mask of polynomial j is a_j s, where a_j is public,
drawn from the round's own keystream straight as values at the 2048 odd powers of a root psi of order 4096,
and s is the secret. One more small error e_j per coefficient makes the result look uniform. Since
a_j s_1 + a_j s_2 = a_j (s_1 + s_2), whoever learns the sum of the secrets can lift the mask of the sum, and
of nothing else. The products are the work of `mimo_fed.secagg.backends`.

Legend: D words of a sum; lanes, polynomials that travel together; a block is 2048 x lanes values, lane last;
a sum is a run of blocks, 32 lanes each except the last.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.secagg import modular
from mimo_fed.secagg.crypto import Keystream, derive
from mimo_fed.secagg.modular import MODULUS, Floats, Residues

RING: Final = 2048
"""coefficients of a polynomial"""
LANES: Final = 32
BLOCK: Final = RING * LANES
ETA: Final = 32
"""the error is a centred binomial of 2 x 32 coins: variance 16"""
_ROWS, _COLUMNS = 32, 64
_MASK31: Final = 0x7FFFFFFF


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of a vector.

    Attributes:
        index: which; its streams bear this number.
        start: of its first word in the vector.
        count: of its words in the vector; those beyond belong to no one and are cut off.
        lanes: polynomials in it, 1 to 32.
    """

    index: int
    start: int
    count: int
    lanes: int

    @property
    def where(self) -> slice:
        """Its words in the vector."""
        return slice(self.start, self.start + self.count)


def blocks(length: int) -> list[Block]:
    """Cut a vector of `length` words into blocks (docs/protocol.md 3.3)."""
    cut = []
    for index, start in enumerate(range(0, length, BLOCK)):
        count = min(BLOCK, length - start)
        cut.append(Block(index=index, start=start, count=count, lanes=-(-count // RING)))
    return cut


def uniform(stream: Keystream, count: int) -> NDArray[np.uint32]:
    """Draw residues below q: little-endian words, the top bit cleared, words of q and above replaced.

    A refused word is replaced by the next good one after the first `count` words (docs/protocol.md 3.2).
    """
    words = np.frombuffer(stream.take(4 * count), "<u4") & np.uint32(_MASK31)
    replace(words, np.flatnonzero(words >= MODULUS), stream)
    return words


def replace(words: NDArray[np.uint32], refused: NDArray[np.int64], stream: Keystream) -> None:
    """Put the next good words of a stream in the places of refused ones, in order."""
    places = refused.tolist()
    spare: list[int] = []
    while places:
        if not spare:
            spare = [word & _MASK31 for word in struct.unpack("<4I", stream.take(16))]
        word = spare.pop(0)
        if word < MODULUS:
            words[places.pop(0)] = word


@dataclass(frozen=True, kw_only=True)
class ErrorTerm:
    """What is added to a s + m so that the sum hides its terms.

    Attributes:
        name: of the distribution.
        bound: largest size of an error.
        sample: draws that many errors from a stream.
    """

    name: str
    bound: int
    sample: Callable[[Keystream, int], NDArray[np.int32]]


def binomial(stream: Keystream, count: int) -> NDArray[np.int32]:
    """Draw centred binomial errors: ones in one 32-bit word minus ones in the next (docs/protocol.md 3.4)."""
    ones = np.bitwise_count(np.frombuffer(stream.take(8 * count), np.uint32)).reshape(count, 2)
    return ones[:, 0].astype(np.int32) - ones[:, 1].astype(np.int32)


def _nothing(stream: Keystream, count: int) -> NDArray[np.int32]:
    return np.zeros(count, np.int32)


BINOMIAL: Final = ErrorTerm(name="binomial-32", bound=ETA, sample=binomial)
NO_ERROR: Final = ErrorTerm(name="none", bound=0, sample=_nothing)
"""hides nothing: for tests of exact sums"""


def public_key(mh: bytes, name: str) -> bytes:
    """Derive the keystream key of a sum's public polynomials from the manifest's hash."""
    return derive(mh, "public polynomials", name.encode())


@cache
def root() -> int:
    """Return psi: b^((q - 1) / 4096) for the least b >= 2 that gives order 4096."""
    candidates = (pow(base, (MODULUS - 1) // (2 * RING), MODULUS) for base in range(2, MODULUS))
    return next(psi for psi in candidates if pow(psi, RING, MODULUS) == MODULUS - 1)


def evaluate(coefficients: NDArray[np.uint32] | Residues) -> Residues:
    """Evaluate a polynomial at psi^(2j+1), j = 64 n1 + n2: the forward transform, (2048,) to (2048,)."""
    # with k = k1 + 32 k2: psi^((2j+1) k) = psi^k omega^(32 n2 k2) omega^(n2 k1) omega^(64 n1 k1)
    scale, inner, twiddle, outer = _forward()
    by_k2 = (coefficients * scale % MODULUS).reshape(_COLUMNS, _ROWS)
    turned = modular.multiply(inner, by_k2) * twiddle % MODULUS  # rows n2, columns k1
    return modular.multiply(outer, turned.T.copy()).reshape(RING)


@cache
def _forward() -> tuple[Residues, Floats, Residues, Floats]:
    """Constants of the forward transform: psi^k, the 64-point stage, the twiddles, the 32-point stage."""
    wide, narrow = np.arange(_COLUMNS), np.arange(_ROWS)
    order = 2 * RING
    inner = modular.power(root(), 2 * _ROWS * wide[:, None] * wide[None, :], order)
    twiddle = modular.power(root(), 2 * wide[:, None] * narrow[None, :], order)
    outer = modular.power(root(), 2 * _COLUMNS * narrow[:, None] * narrow[None, :], order)
    scale = modular.power(root(), np.arange(RING), order)
    return scale, modular.operator(inner), twiddle, modular.operator(outer)
