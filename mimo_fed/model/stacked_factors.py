# mypy: disable-error-code="no-untyped-call"
"""The factors of many devices, stacked by module: what a phase trains, and what stays frozen beside it.

Personal adapters of different rank are filled up with zeros: where a row of right and the column of left are
zero, so are both gradients, and they stay zero.

Shapes: N devices of a pass, R rank of a branch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, Module, Part, prefix
from mimo_fed.config import Phase
from mimo_fed.errors import SpecMismatch
from mimo_fed.model.stacked_linear import StackedBranch

Float32 = NDArray[np.float32]
Pairs = Mapping[str, tuple[Float32, Float32]]
"""(left (out, r), right (r, inp)) by module"""


@dataclass(frozen=True, kw_only=True)
class Personal:
    """A device's personal adapter; it never leaves the device."""

    factors: dict[str, tuple[Float32, Float32]]
    """(B (out, r), A (r, inp)) by module"""
    scale: float
    """lambda, its share"""


class StackedFactors:
    """X of one phase for the devices of a pass: the same start, a rank each.

    Args:
        adapter: what all of them start from.
        phase: which factors are trained.
        ranks: of the devices, N of them; fix the prefix of X that moves.
    """

    def __init__(self, adapter: GlobalAdapter, phase: Phase, ranks: Sequence[int]) -> None:
        self.parts: tuple[Part, ...] = adapter.spec.parts(phase)
        self._ranks = list(ranks)
        self._start = adapter.values(phase)
        moves = _moves(ranks, adapter.spec.config.rank)
        trained = {
            part.name: nn.Parameter(
                torch.from_numpy(np.array(self._start[part.name])).repeat(len(ranks), 1, 1)
            )
            for part in self.parts
        }
        self.branches = {
            module.name: StackedBranch(
                left=trained.get(f"{module.name}.B", torch.from_numpy(np.array(adapter.left[module.name]))),
                right=trained.get(f"{module.name}.A", torch.from_numpy(np.array(adapter.right[module.name]))),
                core=trained.get(f"{module.name}.M"),
                moves=moves,
            )
            for module in adapter.spec.modules
        }

    def values(self, row: int) -> dict[str, Float32]:
        """Return copies of every X of one device, whole, by part."""
        side = {"B": "left", "A": "right", "M": "core"}
        return {
            part.name: getattr(self.branches[part.module], side[part.factor])[row].detach().numpy().copy()
            for part in self.parts
        }

    def delta(self, row: int) -> dict[str, Float32]:
        """Return what has moved of one device: float32, the prefix of every part, by part."""
        rank, now = self._ranks[row], self.values(row)
        return {
            part.name: prefix(part, now[part.name] - self._start[part.name], rank).copy()
            for part in self.parts
        }


def check_fit(spec: AdapterSpec, *adapters: GlobalAdapter | None) -> None:
    """Check that adapters can be put on the modules of a spec.

    Raises:
        SpecMismatch: one is for another base, or has a module that the spec lacks.
    """
    known = {module.name for module in spec.modules}
    for adapter in adapters:
        if adapter is not None and adapter.spec.base_fingerprint != spec.base_fingerprint:
            raise SpecMismatch(f"the adapter is for another base: {adapter.spec.base_fingerprint[:12]}")
        if adapter is not None and (odd := sorted({m.name for m in adapter.spec.modules} - known)):
            raise SpecMismatch(f"no branch can be put on this module: {odd[0]}")


def start_personal(spec: AdapterSpec, rank: int, seed: int) -> Personal:
    """Return the personal adapter that a device begins with: right random from the seed, left zero."""
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for module in spec.modules:
        bound = 1 / math.sqrt(module.inp)
        right = (torch.rand((rank, module.inp), generator=generator) * 2 - 1) * bound
        factors[module.name] = (np.zeros((module.out, rank), np.float32), right.numpy())
    return Personal(factors=factors, scale=1.0)


def stack_trained(spec: AdapterSpec, personals: Sequence[Personal]) -> dict[str, StackedBranch]:
    """Return personal adapters as branches whose both factors are trained, with a share of 1."""
    factors = [own.factors for own in personals]
    return {
        m.name: StackedBranch(left=nn.Parameter(left), right=nn.Parameter(right))
        for m in spec.modules
        for left, right in [_stack_one(m, factors)]
    }


def stack_personals(spec: AdapterSpec, personals: Sequence[Personal | None]) -> dict[str, StackedBranch]:
    """Return personal adapters as frozen branches, left times the share; none at all if no device has any."""
    there = [own if own is not None and own.scale else None for own in personals]
    scales = [0.0 if own is None else own.scale for own in there]
    return _stack_frozen(spec, [None if own is None else own.factors for own in there], scales)


def stack_cohorts(spec: AdapterSpec, cohorts: Sequence[GlobalAdapter | None]) -> dict[str, StackedBranch]:
    """Return the devices' cohort adapters as frozen branches; none at all if no device has any."""
    lora = {id(own): own.lora() for own in cohorts if own is not None}
    return _stack_frozen(spec, [lora.get(id(own)) for own in cohorts], [1.0] * len(cohorts))


def _stack_frozen(
    spec: AdapterSpec, pairs: Sequence[Pairs | None], scales: Sequence[float]
) -> dict[str, StackedBranch]:
    names = {name for pair in pairs if pair is not None for name in pair}
    scale = torch.tensor([*scales], dtype=torch.float32)[:, None, None]
    stacked = {m.name: _stack_one(m, pairs) for m in spec.modules if m.name in names}
    return {name: StackedBranch(left=left * scale, right=right) for name, (left, right) in stacked.items()}


def take_personal(branches: Mapping[str, StackedBranch], row: int, start: Personal) -> Personal:
    """Return the personal adapter of one device, copied, with the rank of what it started from."""
    rank = next(iter(start.factors.values()))[1].shape[0]
    factors = {
        name: (
            branch.left[row, :, :rank].detach().numpy().copy(),
            branch.right[row, :rank].detach().numpy().copy(),
        )
        for name, branch in branches.items()
    }
    return Personal(factors=factors, scale=1.0)


def _stack_one(module: Module, pairs: Sequence[Pairs | None]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return left (N, out, R) and right (N, R, inp) of one module, zero where a device's rank ends."""
    own = [None if pair is None else pair.get(module.name) for pair in pairs]
    rank = max(factors[1].shape[0] for factors in own if factors is not None)
    left, right = torch.zeros(len(own), module.out, rank), torch.zeros(len(own), rank, module.inp)
    for row, factors in enumerate(own):
        if factors is not None:
            left[row, :, : len(factors[1])] = torch.from_numpy(np.array(factors[0]))
            right[row, : len(factors[1])] = torch.from_numpy(np.array(factors[1]))
    return left, right


def _moves(ranks: Sequence[int], rank: int) -> torch.Tensor | None:
    """Return (N, R), 1 for the directions that a device may move; None if every device moves all."""
    if all(own == rank for own in ranks):
        return None
    return (torch.arange(rank)[None] < torch.tensor(list(ranks))[:, None]).float()
