"""Uniform residues, public polynomials, masks and words (docs/protocol.md 3)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from typing import Protocol

from tests.vectors.second.primitives import Q, Stream, derive

N, LANES, CHECKS, ERROR_BOUND = 2048, 32, 64, 32
BLOCK = N * LANES


class Source(Protocol):
    def take(self, length: int) -> bytes: ...


def uniform(stream: Source, count: int) -> list[int]:
    """Draw residues (3.2)."""
    words, spare = _words(stream, count), _spare(stream)
    return [word if word < Q else next(spare) for word in words]


def _spare(stream: Source) -> Iterator[int]:
    while True:
        yield from (word for word in _words(stream, 4) if word < Q)


def _words(stream: Source, count: int) -> list[int]:
    return [word & 0x7FFFFFFF for word in struct.unpack(f"<{count}I", stream.take(4 * count))]


def errors(stream: Source, count: int) -> list[int]:
    """Draw errors (3.4)."""
    pairs = struct.iter_unpack("<2I", stream.take(8 * count))
    return [one.bit_count() - other.bit_count() for one, other in pairs]


@cache
def psi() -> int:
    """An element of order 4096 (3.3)."""
    base = 2
    while pow(base, (Q - 1) // 2, Q) != Q - 1:
        base += 1
    return int(pow(base, (Q - 1) // (2 * N), Q))


def public_key(mh: bytes, name: str) -> bytes:
    return derive(mh, "public polynomials", name.encode())


def cut(length: int) -> list[tuple[int, int, int]]:
    """Cut a vector in blocks: (index, words, lanes) (3.3)."""
    sizes = [min(BLOCK, length - start) for start in range(0, length, BLOCK)]
    return [(i, size, (size + N - 1) // N) for i, size in enumerate(sizes)]


def mask(key: bytes, secret: Sequence[int], length: int) -> list[int]:
    """The first `length` residues of a s."""
    transformed, out = _at_odd_powers(secret), []
    for index, size, lanes in cut(length):
        drawn = uniform(Stream(key, index), N * lanes)
        block = [0] * (N * lanes)
        for lane in range(lanes):
            values = [drawn[(j % 64 * 32 + j // 64) * lanes + lane] * transformed[j] % Q for j in range(N)]
            block[lane::lanes] = _from_odd_powers(values)
        out += block[:size]
    return out


def secret_of(seed: bytes) -> list[int]:
    return uniform(Stream(derive(seed, "secret")), N)


def protect(mh: bytes, name: str, seed: bytes, values: Sequence[int], bits: int, noisy: bool) -> bytes:
    """The words of one vector, its check coordinates included (3.4, 3.5)."""
    padded = [*values, *[0] * CHECKS]
    masked = mask(public_key(mh, name), secret_of(seed), len(padded))
    noise: list[int] = []
    for index, size, _ in cut(len(padded)):
        noise += errors(Stream(derive(seed, "errors"), index), size) if noisy else [0] * size
    residues = [(a_s + e + m) % Q for a_s, e, m in zip(masked, noise, padded, strict=True)]
    return b"".join(rounded(v, bits).to_bytes(bits // 8, "little") for v in residues)


def rounded(value: int, bits: int) -> int:
    """Round a residue to a word (3.5)."""
    if bits == 32:
        return value
    factor = round(Fraction(2**62, Q))
    h = 62 - bits
    return (value * factor + (1 << h - 1) >> h) % (1 << bits)


def read_words(data: bytes, bits: int) -> list[int]:
    size = bits // 8
    return [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]


def unmask(key: bytes, secret: Sequence[int], words: Sequence[int], bits: int) -> list[Fraction]:
    """Lift the mask of summed words: the total, centred (3.5)."""
    totals = []
    for word, a_s in zip(words, mask(key, secret, len(words)), strict=True):
        value = Fraction(word) if bits == 32 else Fraction(word % 2**bits * Q, 2**bits)
        total = (value - a_s) % Q
        totals.append(total - Q if 2 * total > Q else total)
    return totals


def largest_error(devices: int, bits: int) -> Fraction:
    """What a total's error never exceeds (3.5)."""
    if bits == 32:
        return Fraction(0)
    return devices * (Fraction(501 * Q, 1000 * 2**bits) + 1 + ERROR_BOUND)


def _at_odd_powers(coefficients: Sequence[int]) -> list[int]:
    """Evaluate at psi^(2j + 1), j = 0 ... 2047."""
    return _transform([c * p % Q for c, p in zip(coefficients, _powers(psi()), strict=True)], psi() ** 2 % Q)


def _from_odd_powers(values: Sequence[int]) -> list[int]:
    back, share = pow(psi(), -1, Q), pow(N, -1, Q)
    scaled = _transform(list(values), back * back % Q)
    return [value * share % Q * p % Q for value, p in zip(scaled, _powers(back), strict=True)]


@cache
def _powers(base: int) -> list[int]:
    powers = [1]
    for _ in range(N - 1):
        powers.append(powers[-1] * base % Q)
    return powers


def _transform(values: list[int], omega: int) -> list[int]:
    """Cyclic transform: entry j is the sum over k of values[k] omega^(j k)."""
    powers, span = _powers(omega), N
    out = values
    while span > 1:  # decimation in frequency; the order is put right at the end
        half, step = span // 2, N // span
        following = []
        for start in range(0, N, span):
            low, high = out[start : start + half], out[start + half : start + span]
            following += [(a + b) % Q for a, b in zip(low, high, strict=True)]
            following += [
                (a - b) * p % Q for a, b, p in zip(low, high, powers[:: step or 1][:half], strict=True)
            ]
        out, span = following, half
    return [out[i] for i in _order()]


@cache
def _order() -> list[int]:
    return [int(f"{i:011b}"[::-1], 2) for i in range(N)]
