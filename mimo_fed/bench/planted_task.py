"""Planted adapters: students match a teacher whose adapter is known, so that the error of dW itself is seen.

Teacher of client k: base + shared (rank 8) + its cohort's (rank 4) + its own (rank 2). The base is the same
for student and teacher and cancels, so it is never formed. What a global adapter should be is the weighted
mean of the teachers; it is of a higher rank than the adapter, and `floor` is the least error of that rank.

A client's loss is mean |(dW - teacher) x|^2 / 2 over its inputs x, so of the inputs only their mean square S
matters. In the small shape S is that of the inputs drawn; at the size of a 7B model's module it is what
endlessly many inputs would have, a diagonal, so that none need be held.

Shapes: T inputs of a client, out and inp of the module, r rank of a teacher or of any rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, Module
from mimo_fed.config import AdapterConfig

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
MODULE: Final = "model.layers.0.mlp.down_proj"
SHARED, COHORT, PERSONAL = 8, 4, 2
"""ranks of what is planted"""
SIZES: Final = (1.0, 0.5, 0.25)
"""largest singular value of each of the three; the others of one fall to a third of it"""


class Thin(NamedTuple):
    """A dW as two factors; their product is never formed."""

    tall: F64
    """(out, r)"""
    wide: F64
    """(r, inp)"""

    def norm(self) -> float:
        """Return the Frobenius norm of the product."""
        return float(np.linalg.norm(self._inner()))

    def tail(self, rank: int) -> float:
        """Return the Frobenius norm of what the best approximation of a rank leaves out."""
        _, singular, _ = np.linalg.svd(self._inner())
        return float(np.linalg.norm(singular[rank:]))

    def _inner(self) -> F64:
        """Return a small matrix of the same singular values."""
        _, r_tall = np.linalg.qr(self.tall)
        _, r_wide = np.linalg.qr(self.wide.T)
        inner: F64 = r_tall @ r_wide.T
        return inner

    def minus(self, other: Thin) -> Thin:
        """Return the difference of two."""
        return Thin(np.hstack([self.tall, -other.tall]), np.vstack([self.wide, other.wide]))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How large the task is."""

    out: int
    inp: int
    num_clients: int
    inputs: tuple[int, int]
    """fewest and most inputs of a client; they give its weight"""
    drawn: bool
    """draw them; else a client's inputs are endless"""
    rounds: int
    num_steps: int
    """optimizer steps of a device in a round"""
    rates: tuple[float, ...]
    """learning rates that are tried"""


SHAPES: Final = {
    "small": Shape(
        out=64,
        inp=64,
        num_clients=24,
        inputs=(48, 192),
        drawn=True,
        rounds=48,
        num_steps=5,
        rates=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    ),
    "7b": Shape(
        out=4096,
        inp=11008,
        num_clients=12,
        inputs=(48, 192),
        drawn=False,
        rounds=32,
        num_steps=5,
        rates=(0.0002, 0.0005, 0.001, 0.002),
    ),
}
RANKS: Final = (4, 8, 16)
"""ranks of the devices in turn; also the shells"""
WEIGHT_MAX: Final = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Client:
    """One device: what it has seen of its teacher."""

    rank: int
    weight: int
    tall: F32
    """(out, r): of its teacher"""
    wide: F32
    """(r, inp): of its teacher"""
    inputs: F32 | None
    """(T, inp); None: endless"""
    squares: F32
    """(inp,), mean square of each coordinate of endless inputs"""

    def spread(self, rows: F32) -> F32:
        """Return rows @ S, float32, shape (r, inp)."""
        if self.inputs is None:
            return rows * self.squares
        spread: F32 = np.asarray((rows @ self.inputs.T) @ self.inputs / len(self.inputs), np.float32)
        return spread

    @cached_property
    def wide_spread(self) -> F32:
        """The wide factor times S, float32, shape (r, inp)."""
        return self.spread(self.wide)


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """All devices, and what their adapter should become."""

    spec: AdapterSpec
    clients: tuple[Client, ...]
    wanted: Thin
    """weighted mean of the teachers"""

    def error(self, adapter: GlobalAdapter) -> float:
        """Return ||dW - wanted|| / ||wanted||."""
        left, core, right = (getattr(adapter, side)[MODULE].astype(np.float64) for side in _SIDES)
        return Thin(left @ core, right).minus(self.wanted).norm() / self.wanted.norm()

    @property
    def floor(self) -> float:
        """The least error of any adapter of this rank."""
        return self.wanted.tail(self.spec.config.rank) / self.wanted.norm()


_SIDES: Final = ("left", "core", "right")


def make_task(shape: Shape, seed: int, *, skew: float = 0.0) -> Task:
    """Plant adapters and draw every client's inputs.

    Args:
        shape: sizes.
        seed: of everything that is drawn.
        skew: 0: inputs of all clients are alike (standard normal); else each client stretches each input
            coordinate by exp(skew x normal), of mean square 1.
    """
    rng = np.random.default_rng(seed)
    num_cohorts = min(3, shape.num_clients)
    shared = _plant(shape, SHARED, SIZES[0], rng)
    cohorts = [_plant(shape, COHORT, SIZES[1], rng) for _ in range(num_cohorts)]
    clients, teachers = [], []
    for index in range(shape.num_clients):
        cohort, own = cohorts[index % num_cohorts], _plant(shape, PERSONAL, SIZES[2], rng)
        teacher = Thin(
            np.hstack([shared.tall, cohort.tall, own.tall]), np.vstack([shared.wide, cohort.wide, own.wide])
        )
        count = int(rng.integers(shape.inputs[0], shape.inputs[1], endpoint=True))
        stretch = np.exp(skew * rng.normal(size=shape.inp))
        stretch /= np.sqrt(np.mean(stretch**2))
        inputs_TI = stretch.astype(np.float32) * rng.standard_normal(
            (count if shape.drawn else 1, shape.inp), dtype=np.float32
        )
        clients.append(
            Client(
                rank=RANKS[int(rng.integers(len(RANKS)))] if index >= len(RANKS) else RANKS[index],
                weight=max(1, round(WEIGHT_MAX * count / shape.inputs[1])),
                tall=teacher.tall.astype(np.float32),
                wide=teacher.wide.astype(np.float32),
                inputs=inputs_TI if shape.drawn else None,
                squares=np.square(stretch).astype(np.float32),
            )
        )
        teachers.append(teacher)
    config = AdapterConfig(rank=RANKS[-1], shells=RANKS, seed=seed)
    spec = AdapterSpec(
        base_fingerprint="00" * 32, modules=(Module(MODULE, shape.out, shape.inp),), config=config
    )
    return Task(spec=spec, clients=tuple(clients), wanted=_mean(teachers, [c.weight for c in clients]))


def _plant(shape: Shape, rank: int, size: float, rng: np.random.Generator) -> Thin:
    """Draw a dW of random directions."""
    tall = np.linalg.qr(rng.normal(size=(shape.out, rank)))[0]
    wide = np.linalg.qr(rng.normal(size=(shape.inp, rank)))[0].T
    return Thin(tall * size * np.geomspace(1, 1 / 3, rank), wide)


def _mean(teachers: list[Thin], weights: list[int]) -> Thin:
    shares = np.array(weights) / sum(weights)
    tall = np.hstack([share * t.tall for share, t in zip(shares, teachers, strict=True)])
    return Thin(tall, np.vstack([t.wide for t in teachers]))
