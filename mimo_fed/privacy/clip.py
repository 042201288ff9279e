"""Bound what one device can say: one L2 norm over all of its shells together."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import PrivacyError


def clip(
    shells: Mapping[str, NDArray[np.float32]], clip_norm: float
) -> tuple[dict[str, NDArray[np.float32]], float, bool]:
    """Scale an update down until its norm is at most `clip_norm`.

    Args:
        shells: per shell, float32, shape (D,); all the device will send.
        clip_norm: C, positive.

    Returns:
        The clipped shells (copies), the norm before clipping, and whether anything was scaled.

    Raises:
        PrivacyError: an entry is not finite, or the clip norm is not positive.
    """
    if not (math.isfinite(clip_norm) and clip_norm > 0):
        raise PrivacyError(f"clip norm must be positive and finite: {clip_norm}")
    squares = {name: float(np.square(x_D, dtype=np.float64).sum()) for name, x_D in shells.items()}
    if broken := sorted(name for name, square in squares.items() if not math.isfinite(square)):
        raise PrivacyError(f"update holds a number that is not finite: {', '.join(broken)}")
    norm = math.sqrt(sum(squares.values()))
    clipped = norm > clip_norm
    factor = np.float32(clip_norm / norm if clipped else 1.0)
    return {name: np.asarray(x_D, dtype=np.float32) * factor for name, x_D in shells.items()}, norm, clipped
