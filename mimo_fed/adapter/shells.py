"""Between a device's delta (one matrix a part) and the vectors that are summed (one a shell).

The vector of a shell holds, part after part in the order of the spec, row by row: columns low..high-1 of a B,
rows low..high-1 of an A, and of an M the entries (a, b) with low <= max(a, b) < high.

Shapes: D entries of a shell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter.spec import AdapterSpec, Part, Shell
from mimo_fed.config import Phase
from mimo_fed.errors import SpecMismatch

Scalar = TypeVar("Scalar", bound=np.generic)


def prefix(part: Part, values: NDArray[Scalar], rank: int) -> NDArray[Scalar]:
    """Return the view of a part's values that a device of this rank trains.

    Args:
        part: what is trained.
        values: shape (part.rows, part.cols).
        rank: of the device.
    """
    if part.factor == "B":
        return values[:, :rank]
    return values[:rank] if part.factor == "A" else values[:rank, :rank]


def delta_to_shells(
    spec: AdapterSpec, phase: Phase, delta: Mapping[str, NDArray[np.float32]], rank: int
) -> dict[str, NDArray[np.float32]]:
    """Cut a delta into the vectors of the shells it fills.

    Args:
        spec: shape of the adapter.
        phase: what was trained.
        delta: per part name, float32, of the shape that `prefix` leaves for this rank.
        rank: of the device.

    Returns:
        Per shell name, float32, shape (D,).

    Raises:
        SpecMismatch: names or shapes are not the spec's, or the rank is not a shell's upper bound.
    """
    shells, parts = spec.shells_of(rank), spec.parts(phase)
    if set(delta) != {part.name for part in parts}:
        odd = sorted(set(delta) ^ {part.name for part in parts})
        raise SpecMismatch(f"delta has other parts than phase {phase} trains: {', '.join(odd[:3])}")
    for part in parts:
        if delta[part.name].shape != _shape(part, rank):
            raise SpecMismatch(f"delta of {part.name} has another shape: {delta[part.name].shape}")
    return {
        shell.name: np.concatenate(
            [_cut(part, shell, np.asarray(delta[part.name], np.float32)) for part in parts]
        )
        for shell in shells
    }


def shells_to_delta(
    spec: AdapterSpec, phase: Phase, vectors: Mapping[str, NDArray[np.floating]]
) -> dict[str, NDArray[np.float64]]:
    """Put the vectors of some shells back into matrices.

    Args:
        spec: shape of the adapter.
        phase: what was trained.
        vectors: per shell name, floats, shape (D,).

    Returns:
        Per part name, float64, shape (rows, cols); zero in the shells that were not given.

    Raises:
        SpecMismatch: no such shell, or a vector of another length.
    """
    delta = {part.name: np.zeros((part.rows, part.cols)) for part in spec.parts(phase)}
    for name, vector_D in vectors.items():
        shell = spec.shell(name)
        if vector_D.shape != (spec.dim(shell, phase),):
            raise SpecMismatch(f"vector of shell {name} has another shape: {vector_D.shape}")
        start = 0
        for part in spec.parts(phase):
            start += _paste(part, shell, delta[part.name], vector_D[start:])
    return delta


def shells_mask(spec: AdapterSpec, phase: Phase, names: Iterable[str]) -> dict[str, NDArray[np.bool_]]:
    """Say which entries of each part lie in the named shells.

    Raises:
        SpecMismatch: no such shell.
    """
    shells = [spec.shell(name) for name in names]
    mask = {part.name: np.zeros((part.rows, part.cols), np.bool_) for part in spec.parts(phase)}
    for part in spec.parts(phase):
        for shell in shells:
            _paste(part, shell, mask[part.name], np.ones(part.rows * part.cols, np.bool_))
    return mask


def _shape(part: Part, rank: int) -> tuple[int, int]:
    return (part.rows if part.factor == "B" else rank, part.cols if part.factor == "A" else rank)


def _cut(part: Part, shell: Shell, values: NDArray[np.float32]) -> NDArray[np.float32]:
    if part.factor == "B":
        return values[:, shell.low : shell.high].ravel()
    if part.factor == "A":
        return values[shell.low : shell.high].ravel()
    inner = values[: shell.high, : shell.high]
    return inner[_outside(shell.high, shell.low)]


def _paste(part: Part, shell: Shell, into: NDArray[Scalar], vector: NDArray[Any]) -> int:
    """Write a shell's entries from the front of `vector`; return how many they are."""
    low, high = shell.low, shell.high
    if part.factor == "M":
        outside = _outside(high, low)
        count = high**2 - low**2
        into[:high, :high][outside] = vector[:count]
        return count
    block = into[:, low:high] if part.factor == "B" else into[low:high]
    block[...] = vector[: block.size].reshape(block.shape)
    return block.size


def _outside(high: int, low: int) -> NDArray[np.bool_]:
    """Mark the entries of a high x high matrix beyond its first `low` rows and columns: an L."""
    outside = np.ones((high, high), np.bool_)
    outside[:low, :low] = False
    return outside
