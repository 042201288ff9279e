"""The server's optimizers: how far each entry of X moves, given the mean of a round.

With d the mean, m the first and v the second moment, eta the server's rate:

    fedavg    X += eta d
    fedavgm   m = beta1 m + d                                                X += eta m
    fedadam   m = beta1 m + (1 - beta1) d,  v = beta2 v + (1 - beta2) d^2    X += eta m / (sqrt(v) + tau)
    fedyogi   as fedadam, but               v = v - (1 - beta2) d^2 sign(v - d^2)

m begins at nothing, v at tau^2. An entry whose shell stayed closed has no mean: it keeps X, m and v.

Shapes: a moment has the shape of its part.
Ref: Reddi et al. 2021 (adaptive federated optimization); Hsu, Qi, Brown 2019 (momentum of the server).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from mimo_fed.adapter import FACTORS, AdapterSpec
from mimo_fed.config import Phase, ServerConfig
from mimo_fed.errors import ConfigError, DigestMismatch, SpecMismatch

F64 = NDArray[np.float64]
OPTIMIZERS: Final = ("fedavg", "fedavgm", "fedadam", "fedyogi")
_KEY: Final = "mimo_fed"


@dataclass(frozen=True, kw_only=True, eq=False)
class ServerState:
    """The moments of a server optimizer, in the basis of the adapter that they go with.

    A part that is missing has no moment yet.
    """

    phase: Phase
    """what the moments are of"""
    first: Mapping[str, F64]
    """per part name, float64, shape (rows, cols): m"""
    second: Mapping[str, F64]
    """the same: v"""
    num_steps: int
    """steps of the server since release 0"""

    @classmethod
    def empty(cls, phase: Phase) -> ServerState:
        """Return the state before the first step."""
        return cls(phase=phase, first={}, second={}, num_steps=0)

    def check(self, spec: AdapterSpec) -> None:
        """Refuse moments that are not of this adapter.

        Raises:
            SpecMismatch: a part that the phase does not train, another shape, or a value not finite.
        """
        shapes = {part.name: (part.rows, part.cols) for part in spec.parts(self.phase)}
        for name, moment in [*self.first.items(), *self.second.items()]:
            if shapes.get(name) != moment.shape:
                raise SpecMismatch(f"moment is not of this adapter: {name} of shape {moment.shape}")
            if not np.isfinite(moment).all():
                raise SpecMismatch(f"moment holds a number that is not finite: {name}")

    def to_bytes(self) -> bytes:
        """Write the state as safetensors; equal values give equal bytes."""
        tensors = {
            f"{order}/{name}": np.ascontiguousarray(moment)
            for order, moments in (("first", self.first), ("second", self.second))
            for name, moment in moments.items()
        }
        note = json.dumps({"num_steps": self.num_steps, "phase": self.phase}, sort_keys=True)
        return safetensors_numpy.save(dict(sorted(tensors.items())), metadata={_KEY: note})

    @classmethod
    def from_bytes(cls, data: bytes) -> ServerState:
        """Read what `to_bytes` wrote.

        Raises:
            DigestMismatch: not whole, or not the state of a server optimizer.
        """
        try:
            tensors = safetensors_numpy.load(data)
            length = int.from_bytes(data[:8], "little")
            note = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_KEY])
            phase, num_steps = note["phase"], int(note["num_steps"])
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise DigestMismatch(f"bytes are not the state of a server optimizer: {error}") from None
        moments: dict[str, dict[str, F64]] = {"first": {}, "second": {}}
        for key, tensor in tensors.items():
            order, _, name = key.partition("/")
            if order not in moments or tensor.dtype != np.float64:
                raise DigestMismatch(f"state of a server optimizer holds something else: {key}")
            moments[order][name] = tensor
        if phase not in FACTORS or num_steps < 0:
            raise DigestMismatch(f"state of a server optimizer is of no phase: {phase!r}, {num_steps}")
        return cls(phase=phase, num_steps=num_steps, **moments)


class Move(NamedTuple):
    """What one step does to one part."""

    change: F64
    """to be added to X"""
    first: F64 | None
    """m afterwards; None: this optimizer keeps none"""
    second: F64 | None
    """v afterwards"""


def check_config(config: ServerConfig) -> None:
    """Refuse settings with which no step could be taken.

    Raises:
        ConfigError: no such optimizer, or a number out of range.
    """
    if config.optimizer not in OPTIMIZERS:
        raise ConfigError(f"server optimizer is not one of {', '.join(OPTIMIZERS)}: {config.optimizer!r}")
    if not 0 < config.learning_rate < math.inf:
        raise ConfigError(f"server's learning rate must be positive and finite: {config.learning_rate}")
    if not (0 <= config.momentum < 1 and 0 <= config.second_momentum < 1):
        raise ConfigError(f"momenta must be in 0..1: {config.momentum}, {config.second_momentum}")
    if not 0 < config.adaptivity < math.inf:
        raise ConfigError(f"adaptivity must be positive and finite: {config.adaptivity}")


def move(
    mean: F64, opened: NDArray[np.bool_], first: F64 | None, second: F64 | None, config: ServerConfig
) -> Move:
    """Take one step on one part.

    Args:
        mean: float64, shape (rows, cols), zero where closed.
        opened: bool, the same shape: entries whose shell opened.
        first: m, or None for nothing yet.
        second: v, or None for tau^2 everywhere.
        config: which optimizer, and its numbers.
    """
    if config.optimizer == "fedavg":
        return Move(config.learning_rate * mean, None, None)
    begun = np.zeros_like(mean) if first is None else first
    if config.optimizer == "fedavgm":
        moved = np.where(opened, config.momentum * begun + mean, begun)
        return Move(np.where(opened, config.learning_rate * moved, 0.0), moved, None)
    moved = np.where(opened, config.momentum * begun + (1 - config.momentum) * mean, begun)
    spread = np.full_like(mean, config.adaptivity**2) if second is None else second
    square = np.square(mean)
    if config.optimizer == "fedadam":
        grown = config.second_momentum * spread + (1 - config.second_momentum) * square
    else:
        grown = spread - (1 - config.second_momentum) * square * np.sign(spread - square)
    grown = np.where(opened, grown, spread)
    change = config.learning_rate * moved / (np.sqrt(grown) + config.adaptivity)
    return Move(np.where(opened, change, 0.0), moved, grown)
