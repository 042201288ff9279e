"""The factors an adapter begins with: random signs that every party derives for itself, bit for bit.

Row `row` of V0 (right) of module `name` takes its signs from SHAKE-256 over the text

    mimo-fed/basis/v1 LF seed LF name LF row

(UTF-8, numbers in decimal): one bit an entry, least significant bit of each byte first, 1 meaning minus.
Column `column` of U0 (left) takes them alike from `mimo-fed/basis/left/v1`. Entries have the magnitude
1/sqrt(inp) and 1/sqrt(out), rounded to float32, so that rows of V0 and columns of U0 have norm 1 and any two
are nearly orthogonal.

Shapes: R rank, inp and out columns and rows of the module's weight.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter.spec import AdapterSpec

_RIGHT = "mimo-fed/basis/v1"
_LEFT = "mimo-fed/basis/left/v1"

Factors = dict[str, NDArray[np.float32]]


def basis(spec: AdapterSpec) -> Factors:
    """Derive V0 of every module.

    Returns:
        Per module name, float32, read-only, shape (R, inp), entries +-1/sqrt(inp).
    """
    return dict(_right(spec))


@lru_cache(maxsize=2)
def _right(spec: AdapterSpec) -> Factors:
    config = spec.config
    return {m.name: _rows(_RIGHT, m.name, m.inp, config.rank, config.seed) for m in spec.modules}


def left_basis(spec: AdapterSpec) -> Factors:
    """Derive U0 of every module.

    Returns:
        Per module name, float32, read-only, shape (out, R), entries +-1/sqrt(out).
    """
    return dict(_left(spec))


@lru_cache(maxsize=2)
def _left(spec: AdapterSpec) -> Factors:
    config = spec.config
    rows = {m.name: _rows(_LEFT, m.name, m.out, config.rank, config.seed) for m in spec.modules}
    return {name: _fixed(np.ascontiguousarray(row.T)) for name, row in rows.items()}


def _rows(domain: str, module: str, length: int, rank: int, seed: int) -> NDArray[np.float32]:
    magnitude = np.float32(1.0 / math.sqrt(length))
    minus = np.stack([_signs(f"{domain}\n{seed}\n{module}\n{row}", length) for row in range(rank)])
    return _fixed(np.where(minus, -magnitude, magnitude))


def _fixed(factor: NDArray[np.float32]) -> NDArray[np.float32]:
    factor.flags.writeable = False
    return factor


def _signs(text: str, length: int) -> NDArray[np.bool_]:
    stream = hashlib.shake_256(text.encode()).digest(-(-length // 8))
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8), count=length, bitorder="little")
    return bits.astype(np.bool_)
