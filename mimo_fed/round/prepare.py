"""What a device's training becomes before it is written as integers: clipped vectors, weight and statistics.

Shapes: D entries of a shell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import AdapterSpec, delta_to_shells
from mimo_fed.config import TrainConfig
from mimo_fed.errors import LocalProtocolError
from mimo_fed.privacy import clip
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
    losses = loss_statistics(weight, update.loss_before, update.loss_after)
    return Prepared(
        vectors=clipped,
        weight=weight,
        num_steps=update.num_steps,
        statistics=losses | {"clipped": float(was_clipped)},
        norm=norm,
    )


def to_vectors(
    spec: AdapterSpec, train: TrainConfig, update: TrainedUpdate, rank: int
) -> dict[str, NDArray[np.float32]]:
    """Cut an update into the vectors of its shells, scaled to all of the round's steps if the round says so.

    Raises:
        LocalProtocolError: the device took no step, or more than the round asks for.
    """
    if not 1 <= update.num_steps <= train.num_steps:
        raise LocalProtocolError(
            f"device took {update.num_steps} of {train.num_steps} steps; it sends nothing"
        )
    vectors = delta_to_shells(spec, train.phase, update.delta, rank)
    if not train.normalise_steps:
        return vectors
    factor = np.float32(train.num_steps / update.num_steps)
    return {name: vector_D * factor for name, vector_D in vectors.items()}


def loss_statistics(weight: int, before: float, after: float) -> dict[str, float]:
    """State weight and weighted losses, nats per token, as the round sums them.

    Raises:
        LocalProtocolError: a loss is not a number.
    """
    if not (np.isfinite(before) and np.isfinite(after)):
        raise LocalProtocolError("training gave a loss that is not a number; nothing is sent")
    return {
        "weight": float(weight),
        "loss_before": weight * before,
        "loss_after": weight * after,
        "improved": float(after < before),
    }
