"""The yardstick of the coordinator: adding numbers that nobody masked.

A coordinator that is told every vector adds each one to a running sum as it arrives. numpy does that at the
speed of memory, in 32 bits, since 16 would wrap for any sum of interest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mimo_fed.bench.clock import Piece, single, thread_seconds

PLAIN = "plain sum"


def plain_piece(num_params: int) -> Piece:
    """Time adding one vector of uint32, arrived as bytes, to a running sum.

    Args:
        num_params: length of the vector.
    """
    total_D = np.zeros(num_params, np.uint32)
    message = np.arange(num_params, dtype="<u4").tobytes()
    return Piece(name=PLAIN, run=single(lambda: add(total_D, message), thread_seconds))


def add(total_D: NDArray[np.uint32], message: bytes) -> None:
    """Add a vector that has arrived as bytes to the running sum, in place."""
    np.add(total_D, np.frombuffer(message, "<u4"), out=total_D)
