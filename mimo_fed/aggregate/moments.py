"""What a moment means, kept when the basis or the trained factor changes.

A first moment is a mean of deltas, so it is a direction of dW:

    of B: m_B @ right      of A: left @ m_A      of M: left @ m_M @ right

It goes over to the next phase as the nearest thing that this phase can say, with the new orthonormal factors:

    to B: G @ right'^T     to A: left'^T @ G     to M: left'^T @ G @ right'^T

G is never formed: it is out x inp, and a product of two thin factors. A second moment is a mean of squares of
entries; in another basis these are other entries, so it begins anew. AB is alone in its cycle: should the
cycle be changed under way, nothing is carried to or from it.

Shapes: R rank, out and inp of a module.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import Factor, GlobalAdapter
from mimo_fed.config import Phase

F64 = NDArray[np.float64]
Thin = tuple[F64, F64]
"""(out, R) and (R, inp), whose product is a direction of dW"""


def project(
    first: Mapping[str, F64], old: GlobalAdapter, old_phase: Phase, new: GlobalAdapter, phase: Phase
) -> dict[str, F64]:
    """Carry first moments from one adapter and phase to another.

    Args:
        first: per part of the old phase, float64; a part that is missing has no moment.
        old: the adapter whose frozen factors the moments go with.
        old_phase: what they are of.
        new: the adapter they will go with; its frozen factors are orthonormal, else this is approximate.
        phase: what they will be of.

    Returns:
        Per part of the new phase, float64; only for modules that had a moment.
    """
    if "AB" in (old_phase, phase):
        return {}
    directions = {
        part.module: _direction(first[part.name], old, part.module, part.factor)
        for part in old.spec.parts(old_phase)
        if part.name in first
    }
    return {
        part.name: _onto(directions[part.module], new, part.module, part.factor)
        for part in new.spec.parts(phase)
        if part.module in directions
    }


def _direction(moment: F64, adapter: GlobalAdapter, module: str, factor: Factor) -> Thin:
    left, right = adapter.left[module].astype(np.float64), adapter.right[module].astype(np.float64)
    if factor == "B":
        return moment, right
    return (left, moment) if factor == "A" else (left @ moment, right)


def _onto(thin: Thin, adapter: GlobalAdapter, module: str, factor: Factor) -> F64:
    tall, wide = thin
    left, right = adapter.left[module].astype(np.float64), adapter.right[module].astype(np.float64)
    if factor == "B":
        projected: F64 = tall @ (wide @ right.T)
    elif factor == "A":
        projected = (left.T @ tall) @ wide
    else:
        projected = (left.T @ tall) @ (wide @ right.T)
    return projected
