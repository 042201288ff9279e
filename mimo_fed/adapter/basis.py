"""The fixed factor V0 (lora_A): random signs that every party derives for itself, bit for bit.

Row `row` of module `name` takes its signs from SHAKE-256 over the text

    mimo-fed/basis/v1 LF seed LF name LF row

(UTF-8, numbers in decimal): one bit an entry, least significant bit of each byte first, 1 meaning minus.
Every entry has the magnitude 1/sqrt(inp), rounded to float32, so that each row has norm 1 and any two
rows are nearly orthogonal.

Shapes: R rank, inp columns of the module's weight.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter.spec import AdapterSpec, Module

_DOMAIN = "mimo-fed/basis/v1"


def basis(spec: AdapterSpec) -> dict[str, NDArray[np.float32]]:
    """Derive V0 of every module.

    Returns:
        Per module name, float32, shape (R, inp), entries +-1/sqrt(inp).
    """
    return {module.name: _factor(module, spec.config.rank, spec.config.seed) for module in spec.modules}


def _factor(module: Module, rank: int, seed: int) -> NDArray[np.float32]:
    magnitude = np.float32(1.0 / math.sqrt(module.inp))
    minus = np.stack([_signs(module, row, seed) for row in range(rank)])
    return np.where(minus, -magnitude, magnitude)


def _signs(module: Module, row: int, seed: int) -> NDArray[np.bool_]:
    text = f"{_DOMAIN}\n{seed}\n{module.name}\n{row}"
    stream = hashlib.shake_256(text.encode()).digest(-(-module.inp // 8))
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8), count=module.inp, bitorder="little")
    return bits.astype(np.bool_)
