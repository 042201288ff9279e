"""How much a device counts in a mean: by its amount of training text."""

from __future__ import annotations

from collections.abc import Iterable

BYTES_PER_WEIGHT = 512
"""training text that counts one, UTF-8 bytes"""


def weight_of(train_bytes: int, weight_max: int) -> int:
    """Return the integer weight of a device, 1 to `weight_max`."""
    return max(1, min(weight_max, round(train_bytes / BYTES_PER_WEIGHT)))


def num_bytes(texts: Iterable[str]) -> int:
    """Count UTF-8 bytes."""
    return sum(len(text.encode()) for text in texts)
