"""Write a device's few numbers (weights, losses, bits) so that only their sums are read.

Statistics are neither flattened nor under the clip norm: each has its own bound and fixed-point scale, and is
written 64 times over, so that averaging the repeats takes the rounding of words down by eight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import PrivacyError
from mimo_fed.privacy.quantize import scale_for, to_residues

REPEATS = 64
"""copies of each statistic in the sum"""

STATISTICS_SLACK = 1.01
"""wider than a vector's: all devices may sit at their bound at once, and the words' rounding comes on top"""


@dataclass(frozen=True, kw_only=True)
class StatisticsEncoding:
    """Which statistics a round sums, and how each is written; the same at both ends.

    Raises:
        HeadroomError: a sum of n_max devices could wrap.
        PrivacyError: names and bounds do not pair up, or a bound is not positive.
    """

    names: tuple[str, ...]
    """in the order written"""
    bounds: tuple[float, ...]
    """per name: a value is clipped to [-bound, bound]"""
    n_max: int
    """most devices in one sum"""

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names) or len(self.names) != len(self.bounds):
            raise PrivacyError(f"each statistic needs one name and one bound: {self.names}")
        if self.n_max < 1 or not all(math.isfinite(bound) and bound > 0 for bound in self.bounds):
            raise PrivacyError(f"bounds and n_max must be positive: {self.bounds}, {self.n_max}")
        self._scales()

    @property
    def length(self) -> int:
        """Entries of the sum."""
        return REPEATS * len(self.names)

    def encode(self, values: Mapping[str, float]) -> NDArray[np.uint32]:
        """Write one device's statistics; a value beyond its bound is clipped to it.

        Args:
            values: one number for every name, no other.

        Returns:
            uint32, shape (length,), values below q.

        Raises:
            PrivacyError: a name is missing or unknown, or a value is not finite.
        """
        if set(values) != set(self.names):
            raise PrivacyError(f"statistics are not the round's: {sorted(set(values) ^ set(self.names))}")
        if broken := sorted(name for name, value in values.items() if not math.isfinite(value)):
            raise PrivacyError(f"statistic is not a finite number: {', '.join(broken)}")
        given = np.array([values[name] for name in self.names], dtype=np.float64)
        bounds = np.array(self.bounds, dtype=np.float64)
        return to_residues(np.repeat(np.clip(given, -bounds, bounds) * self._scales(), REPEATS))

    def decode(self, total_D: NDArray[np.float64]) -> dict[str, float]:
        """Read an opened sum.

        Args:
            total_D: float64, shape (length,), centred, in units of q.

        Returns:
            Per name, the sum over the devices in it.

        Raises:
            PrivacyError: another shape, or not finite.
        """
        if total_D.shape != (self.length,):
            raise PrivacyError(f"sum of statistics has another shape: {total_D.shape}")
        if not np.isfinite(total_D).all():
            raise PrivacyError("sum of statistics holds a number that is not finite")
        means = total_D.reshape(len(self.names), REPEATS).mean(axis=1) / self._scales()
        return dict(zip(self.names, means.tolist(), strict=True))

    def write_total(self, totals: Mapping[str, float]) -> NDArray[np.float64]:
        """Write sums that were added in the clear, in floats, so that `decode` reads exactly them.

        Args:
            totals: one number for every name.

        Returns:
            float64, shape (length,), in units of q, not rounded.
        """
        return np.repeat(np.array([totals[name] for name in self.names]) * self._scales(), REPEATS)

    def _scales(self) -> NDArray[np.float64]:
        return np.array([scale_for(bound, self.n_max, STATISTICS_SLACK) for bound in self.bounds])
