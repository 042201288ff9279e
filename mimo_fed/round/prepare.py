"""What a device's training becomes before it is written as integers: clipped vectors, weight and statistics.

Shapes: D entries of a shell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimo_fed.privacy import clip
from mimo_fed.round.contribute import _losses, to_vectors
from mimo_fed.round.device import TrainedUpdate
from mimo_fed.round.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One device's part of a train round, in floats.

    Attributes:
        vectors: per shell that the device fills, float32, shape (D,), clipped together.
        weight: integer, 1..weight_max.
        num_steps: optimizer steps that it took.
        statistics: one number for each of the round's statistics.
        norm: L2 norm before clipping.
    """

    vectors: Mapping[str, NDArray[np.float32]]
    weight: int
    num_steps: int
    statistics: Mapping[str, float]
    norm: float


def prepare(update: TrainedUpdate, layout: Layout, rank: int) -> Prepared:
    """Cut, scale and clip an update, and state its weight and losses.

    Args:
        update: what training gave.
        layout: of the round.
        rank: of the device.

    Raises:
        LocalProtocolError: a loss is not a number, or the steps are not within the round's.
        SpecMismatch: the delta has other parts or shapes.
        PrivacyError: the delta holds a number that is not finite.
    """
    config = layout.config
    weight = max(1, min(update.weight, config.privacy.weight_max))
    vectors = to_vectors(layout.spec, config.train, update, rank)
    clipped, norm, was_clipped = clip(vectors, config.privacy.clip_norm)
    statistics = _losses(weight, update.loss_before, update.loss_after) | {"clipped": float(was_clipped)}
    return Prepared(
        vectors=clipped, weight=weight, num_steps=update.num_steps, statistics=statistics, norm=norm
    )
