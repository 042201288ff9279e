"""Move the clip norm to where a wanted share of the devices is not clipped.

Each device says in the statistics sum whether its update was clipped; only the share is read. With a target
of one half the clip norm follows the median length of an update.

Ref: Andrew, Thakkar, McMahan, Ramaswamy 2021 (differentially private learning with adaptive clipping).
"""

from __future__ import annotations

import math

from mimo_fed.errors import ConfigError


def next_clip_norm(
    clip_norm: float, unclipped_share: float, *, target: float = 0.5, rate: float = 0.2
) -> float:
    """Return the next round's clip norm: C exp(-rate (unclipped share - target)).

    Args:
        clip_norm: C of the round that was opened, positive.
        unclipped_share: share of its devices whose update was not longer than C, 0..1.
        target: the share that is wanted, 0..1.
        rate: how fast C moves; ln C by at most this in a round.

    Raises:
        ConfigError: a number is out of range.
    """
    if not (0 < clip_norm < math.inf and 0 < rate < math.inf):
        raise ConfigError(f"clip norm and rate must be positive and finite: {clip_norm}, {rate}")
    if not (0 <= unclipped_share <= 1 and 0 <= target <= 1):
        raise ConfigError(f"shares must be in 0..1: {unclipped_share}, {target}")
    return clip_norm * math.exp(-rate * (unclipped_share - target))
