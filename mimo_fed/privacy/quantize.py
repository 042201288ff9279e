"""Write a clipped update as integers modulo q, so that a sum of them cannot wrap, and read the sum.

    encode:  flatten -> clip each coordinate at c_inf -> times weight x scale -> round -> mod q
    decode:  centred sum / scale -> unflatten: the weighted sum of the updates

Scale is as large as n_max devices of weight w_max, each coordinate at c_inf, leave room for. Rounding is to
the nearest integer and deterministic: one unit of q is far below what the shortening of words adds later,
and `VectorEncoding.tolerance` states the two together.

Shapes: D entries of the update.
Ref: docs/protocol.md, quantising; Kairouz, Liu, Steinke 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import HeadroomError, PrivacyError
from mimo_fed.privacy.flatten import flatten, padded_length, unflatten

MODULUS = 2147352577
"""q: prime, below 2^31, 1 mod 4096, so that the ring of degree 2048 has a number-theoretic transform"""

C_INF_SIGMAS = 4.5
"""a coordinate is clipped at this many standard deviations of an update of full norm"""

VECTOR_SLACK = 1.001
"""room left above the largest sum"""

RING_SIGMA = 4.0
"""standard deviation that one device's pad adds, in units of q"""

_NORM_SLACK = 1.001


def to_residues(values: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Round to the nearest integer and take it modulo q.

    Args:
        values: finite, of magnitude below q/2.

    Returns:
        uint32 below q, same shape.
    """
    rounded = np.rint(values).astype(np.int64)
    rounded[rounded < 0] += MODULUS
    return rounded.astype(np.uint32)


def scale_for(bound: float, n_max: int, slack: float) -> float:
    """Return the fixed-point scale at which n_max values of magnitude `bound` cannot wrap.

    Raises:
        HeadroomError: rounding alone could use up the room that `slack` leaves.
    """
    scale = MODULUS / (2 * n_max * bound * slack)
    if n_max * (bound * scale + 0.5) > (MODULUS - 1) / 2:
        raise HeadroomError(f"a sum of this many devices could wrap: {n_max}")
    return scale


@dataclass(frozen=True, kw_only=True)
class VectorEncoding:
    """How the update of one shell is written; the same at both ends.

    Raises:
        HeadroomError: a sum of n_max devices could wrap.
        PrivacyError: a setting is out of range.
    """

    dim: int
    """D"""
    seed: bytes
    """of the random signs; public"""
    clip_norm: float
    """C, the L2 norm that no update exceeds before weighting"""
    n_max: int
    """most devices in one sum"""
    weight_max: int
    """largest integer weight"""

    def __post_init__(self) -> None:
        if self.dim < 1 or self.n_max < 1 or self.weight_max < 1:
            raise PrivacyError(f"encoding needs positive sizes: {(self.dim, self.n_max, self.weight_max)}")
        if not (math.isfinite(self.clip_norm) and self.clip_norm > 0):
            raise PrivacyError(f"clip norm must be positive and finite: {self.clip_norm}")
        scale_for(self.c_inf * self.weight_max, self.n_max, VECTOR_SLACK)

    @property
    def length(self) -> int:
        """Entries after flattening: a multiple of 2048."""
        return padded_length(self.dim)

    @property
    def c_inf(self) -> float:
        """The bound of one coordinate after flattening."""
        return C_INF_SIGMAS * self.clip_norm / math.sqrt(self.dim)

    @property
    def scale(self) -> float:
        """Units of q for 1.0 of an update."""
        return scale_for(self.c_inf * self.weight_max, self.n_max, VECTOR_SLACK)

    def encode(self, update_D: NDArray[np.float32], weight: int) -> NDArray[np.uint32]:
        """Write one device's update.

        Args:
            update_D: float32, shape (dim,), clipped: L2 norm at most clip_norm.
            weight: integer, 1..weight_max.

        Returns:
            uint32, shape (length,), values below q.

        Raises:
            PrivacyError: not finite, not clipped, of another shape, or the weight is out of range.
        """
        if update_D.shape != (self.dim,):
            raise PrivacyError(f"update has another shape: {update_D.shape}")
        norm = math.sqrt(np.square(update_D, dtype=np.float64).sum())
        if not math.isfinite(norm):
            raise PrivacyError("update holds a number that is not finite")
        if norm > self.clip_norm * _NORM_SLACK:
            raise PrivacyError(f"update is not clipped to {self.clip_norm}: norm {norm:.6g}")
        if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= self.weight_max:
            raise PrivacyError(f"weight is not an integer in 1..{self.weight_max}: {weight!r}")
        flat = flatten(update_D.astype(np.float32), self.seed)
        np.clip(flat, -self.c_inf, self.c_inf, out=flat)
        return to_residues(flat.astype(np.float64) * (weight * self.scale))

    def decode(self, total_D: NDArray[np.float64]) -> NDArray[np.float64]:
        """Read an opened sum.

        Args:
            total_D: float64, shape (length,), centred: in -q/2..q/2, in units of q.

        Returns:
            float64, shape (dim,): sum of weight x update over the devices in the sum.

        Raises:
            PrivacyError: another shape, or not finite.
        """
        if total_D.shape != (self.length,):
            raise PrivacyError(f"sum has another shape: {total_D.shape}")
        if not np.isfinite(total_D).all():
            raise PrivacyError("sum holds a number that is not finite")
        return unflatten(np.asarray(total_D, dtype=np.float64), self.dim, self.seed) / self.scale

    def write_total(self, total_D: NDArray[np.float64]) -> NDArray[np.float64]:
        """Write a sum that was added in the clear, in floats, so that `decode` reads exactly it.

        Args:
            total_D: float64, shape (dim,): sum of weight x update.

        Returns:
            float64, shape (length,), in units of q, not rounded.
        """
        return flatten(np.asarray(total_D, dtype=np.float64), self.seed) * self.scale

    def tolerance(self, num: int, word_bits: int) -> float:
        """Return the standard deviation of the error of one coordinate of a decoded sum.

        Words of `word_bits` bits round by std sqrt((num + 1) / 12) of their last bit; pads add 4 sqrt(num)
        and the rounding to integers sqrt(num / 12), in units of q. What the coordinate clip takes is extra.

        Args:
            num: devices in the sum.
            word_bits: bits of an uploaded word; 32 or more: words are not shortened.
        """
        last_bit = MODULUS / 2**word_bits if word_bits < 32 else 0.0
        words = (num + 1) / 12 * last_bit**2
        ring = RING_SIGMA**2 * num
        return math.sqrt(words + ring + num / 12) / self.scale
