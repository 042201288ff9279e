"""Between a device's delta (one matrix a module) and the vectors that are summed (one a shell).

The vector of a shell holds, module after module in the order of the spec, the block of columns low..high-1
of that module's matrix, row by row.

Shapes: D entries of a shell.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter.spec import AdapterSpec
from mimo_fed.errors import SpecMismatch


def delta_to_shells(
    spec: AdapterSpec, delta: Mapping[str, NDArray[np.float32]], rank: int
) -> dict[str, NDArray[np.float32]]:
    """Cut a delta into the vectors of the shells it fills.

    Args:
        spec: shape of the global adapter.
        delta: per module, float32, shape (out, rank).
        rank: of the device.

    Returns:
        Per shell name, float32, shape (D,).

    Raises:
        SpecMismatch: names or shapes are not the spec's, or the rank is not a shell's upper bound.
    """
    shells = spec.shells_of(rank)
    if set(delta) != {module.name for module in spec.modules}:
        odd = sorted(set(delta) ^ {module.name for module in spec.modules})
        raise SpecMismatch(f"delta has other modules than the spec: {', '.join(odd[:3])}")
    for module in spec.modules:
        if delta[module.name].shape != (module.out, rank):
            raise SpecMismatch(f"delta of {module.name} has another shape: {delta[module.name].shape}")
    return {
        shell.name: np.concatenate(
            [delta[m.name][:, shell.low : shell.high].astype(np.float32).ravel() for m in spec.modules]
        )
        for shell in shells
    }


def shell_to_delta(
    spec: AdapterSpec, shell_name: str, vector_D: NDArray[np.floating]
) -> dict[str, NDArray[np.float32]]:
    """Put the vector of one shell back into matrices.

    Args:
        spec: shape of the global adapter.
        shell_name: of a shell of the spec.
        vector_D: floats, shape (D,).

    Returns:
        Per module, float32, shape (out, high - low).

    Raises:
        SpecMismatch: no such shell, or a vector of another length.
    """
    shell = spec.shell(shell_name)
    if vector_D.shape != (spec.dim(shell),):
        raise SpecMismatch(f"vector of shell {shell_name} has another shape: {vector_D.shape}")
    width = shell.high - shell.low
    ends = np.cumsum([module.out * width for module in spec.modules])
    blocks = np.split(vector_D.astype(np.float32), ends[:-1])
    return {m.name: block.reshape(m.out, width) for m, block in zip(spec.modules, blocks, strict=True)}
