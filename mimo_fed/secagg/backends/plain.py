"""The masks in Python integers: slow, and the reference that the other back ends are tested against.

It follows docs/protocol.md 3 line by line and shares no arithmetic with the others. One polynomial at a time,
it evaluates the secret at the odd powers of psi, multiplies, and interpolates.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import LocalProtocolError
from mimo_fed.secagg.backends.interface import Run, in_turn, run_blocks
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.modular import MODULUS
from mimo_fed.secagg.ring import RING, Block, ErrorTerm
from mimo_fed.secagg.words import Words

_Q: Final = MODULUS


class PlainBackend:
    """The back end to read."""

    name = "plain"

    def prepare(self) -> None:
        """Do nothing: there is nothing to build."""

    def protect(
        self,
        *,
        public: bytes,
        secret: NDArray[np.uint32],
        errors_key: bytes,
        error: ErrorTerm,
        values_D: NDArray[np.uint32],
        word_bits: int,
        run: Run = in_turn,
    ) -> bytearray:
        """See `Backend.protect`."""
        at_points = _evaluate(secret.tolist())
        size = word_bits // 8
        out = bytearray(len(values_D) * size)

        def work(some: Sequence[Block]) -> None:
            for block in some:
                mask = _mask(public, at_points, block)
                errors = error.sample(Keystream(errors_key, block.index), block.count).tolist()
                values = values_D[block.where].tolist()
                for i, (a_s, e, m) in enumerate(zip(mask, errors, values, strict=True), block.start):
                    word = _round((a_s + e + m) % _Q, word_bits)
                    out[i * size : (i + 1) * size] = word.to_bytes(size, "little")

        run_blocks(len(values_D), work, run)
        return out

    def add(self, total_D: Words, data: bytes | bytearray | memoryview, word_bits: int) -> None:
        """See `Backend.add`."""
        size, wrap = word_bits // 8, 2 ** (8 * total_D.itemsize)
        view = memoryview(data).cast("B")
        if len(view) != size * len(total_D):
            raise LocalProtocolError(
                f"words are not as long as their sum of {len(total_D)}: {len(view)} bytes"
            )
        for i in range(len(total_D)):
            word = int.from_bytes(view[i * size : (i + 1) * size], "little")
            total_D[i] = (int(total_D[i]) + word) % wrap

    def unmask(
        self,
        *,
        public: bytes,
        secret: NDArray[np.uint32],
        words_D: Words,
        word_bits: int,
        run: Run = in_turn,
    ) -> NDArray[np.float64]:
        """See `Backend.unmask`."""
        at_points, total_D = _evaluate(secret.tolist()), np.empty(len(words_D))

        def work(some: Sequence[Block]) -> None:
            for block in some:
                words = words_D[block.where].tolist()
                mask = _mask(public, at_points, block)
                for i, (word, a_s) in enumerate(zip(words, mask, strict=True), block.start):
                    total_D[i] = _centre(_expand(word, word_bits) - a_s)

        run_blocks(len(words_D), work, run)
        return total_D


def _mask(public: bytes, at_points: list[int], block: Block) -> list[int]:
    """Multiply a block's public polynomials by the secret: its `count` coefficients, lanes interleaved."""
    values = _uniform(Keystream(public, block.index), RING * block.lanes)
    mask = [0] * (RING * block.lanes)
    for lane in range(block.lanes):
        product = [0] * RING
        for n1 in range(32):
            for n2 in range(64):
                j = 64 * n1 + n2
                product[j] = values[(n2 * 32 + n1) * block.lanes + lane] * at_points[j] % _Q
        mask[lane :: block.lanes] = _interpolate(product)
    return mask[: block.count]


def _uniform(stream: Keystream, count: int) -> list[int]:
    """Draw residues below q (docs/protocol.md 3.2)."""
    words = [word & 0x7FFFFFFF for word in struct.unpack(f"<{count}I", stream.take(4 * count))]
    spare: list[int] = []
    for i, word in enumerate(words):
        while words[i] >= _Q:
            if not spare:
                spare = [word & 0x7FFFFFFF for word in struct.unpack("<4I", stream.take(16))]
            words[i] = spare.pop(0)
    return words


def _round(value: int, word_bits: int) -> int:
    """Round a residue to a word (docs/protocol.md 3.5)."""
    if word_bits == 32:
        return value
    h = 62 - word_bits
    factor = (2 * 2**62 + _Q) // (2 * _Q)
    word: int = ((value * factor + 2 ** (h - 1)) >> h) % 2**word_bits
    return word


def _expand(word: int, word_bits: int) -> float:
    """Turn a summed word into a residue; it may have a fraction."""
    if word_bits == 32:
        return float(word % _Q)
    residue: float = (word % 2**word_bits) * (_Q / 2**word_bits)
    return residue


def _centre(total: float) -> float:
    """Bring a total into [-q/2, q/2]."""
    return total - round(total * (1 / _Q)) * _Q


def _evaluate(coefficients: list[int]) -> list[int]:
    """Evaluate a polynomial at psi^(2j + 1), j = 0 ... 2047."""
    psi = _psi()
    scaled = [c * pow(psi, k, _Q) % _Q for k, c in enumerate(coefficients)]
    return _fourier(scaled, psi * psi % _Q)


def _interpolate(values: list[int]) -> list[int]:
    """Find the polynomial with these values at psi^(2j + 1): the inverse of `_evaluate`."""
    back = pow(_psi(), -1, _Q)
    scaled = _fourier(values, back * back % _Q)
    factor = pow(RING, -1, _Q)
    coefficients = []
    for value in scaled:
        coefficients.append(value * factor % _Q)
        factor = factor * back % _Q
    return coefficients


def _fourier(values: list[int], omega: int) -> list[int]:
    """Sum values[j] omega^(j k) over j, for each k; omega has the order of the list's length."""
    if len(values) == 1:
        return values
    even = _fourier(values[0::2], omega * omega % _Q)
    odd = _fourier(values[1::2], omega * omega % _Q)
    twiddle, low, high = 1, [], []
    for u, v in zip(even, odd, strict=True):
        low.append((u + twiddle * v) % _Q)
        high.append((u - twiddle * v) % _Q)
        twiddle = twiddle * omega % _Q
    return low + high


@cache
def _psi() -> int:
    """Return b^((q - 1) / 4096) for the least b >= 2 that gives order 4096."""
    base = 2
    while pow(base, (_Q - 1) // 2, _Q) == 1:
        base += 1
    return pow(base, (_Q - 1) // 4096, _Q)
