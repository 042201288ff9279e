"""The personal adapter at rest, and the choice of its share. It never leaves the device."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from mimo_fed.adapter import AdapterSpec
from mimo_fed.errors import SpecMismatch
from mimo_fed.model.lora import Branches


def walk_downhill(grid: Sequence[float], cost: Callable[[float], float], *, start: float) -> float:
    """Return the grid value of least cost, reached from `start` by steps to better neighbours.

    Exact where the cost is convex along the grid. The first grid value is always measured, so the answer
    never costs more than that one does. A tie goes to the smaller value; a cost that is no number is the
    worst there is.
    """
    known: dict[int, float] = {}

    def at(index: int) -> float:
        if not 0 <= index < len(grid):
            return math.inf
        if index not in known:
            measured = cost(grid[index])
            known[index] = math.inf if math.isnan(measured) else measured
        return known[index]

    here = min(range(len(grid)), key=lambda index: abs(grid[index] - start))
    while True:
        lower = here > 0 and at(here - 1) <= at(here)
        best = here - 1 if lower else here + 1 if at(here + 1) < at(here) else here
        if best == here:
            break
        here = best
    return grid[0] if at(0) <= at(here) else grid[here]


def to_bytes(branches: Branches, spec: AdapterSpec) -> bytes:
    """Write the personal factors and lambda as safetensors."""
    note = {
        "base_fingerprint": spec.base_fingerprint,
        "rank": branches.personal_rank,
        "scale": branches.personal_scale,
    }
    return save(branches.personal_tensors(), metadata={"mimo_fed_personal": json.dumps(note)})


def from_bytes(data: bytes, spec: AdapterSpec) -> tuple[dict[str, torch.Tensor], float]:
    """Read what `to_bytes` wrote, checked against `spec`.

    Raises:
        SpecMismatch: malformed, for another base, or of another shape.
    """
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        note = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["mimo_fed_personal"])
        fingerprint, rank, scale = str(note["base_fingerprint"]), int(note["rank"]), float(note["scale"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise SpecMismatch(f"not a personal adapter: {type(error).__name__}") from error
    if fingerprint != spec.base_fingerprint:
        raise SpecMismatch(f"the personal adapter is for another base: {fingerprint[:12]}")
    wanted: dict[str, tuple[int, int]] = {}
    for module in spec.modules if rank else ():
        wanted[f"base_model.model.{module.name}.lora_A.weight"] = (rank, module.inp)
        wanted[f"base_model.model.{module.name}.lora_B.weight"] = (module.out, rank)
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != wanted:
        raise SpecMismatch("the personal adapter's tensors do not fit this base")
    if not math.isfinite(scale) or not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise SpecMismatch("the personal adapter holds values that are not finite")
    return tensors, scale


def restore(branches: Branches, tensors: Mapping[str, torch.Tensor], scale: float) -> None:
    """Make the personal branch be `tensors` (none: no branch) with lambda `scale`."""
    if not tensors:
        branches.drop_personal()
        return
    rank = next(tensor.shape[0] for name, tensor in tensors.items() if name.endswith("lora_A.weight"))
    if branches.personal_rank != rank:
        branches.start_personal(rank, seed=0)
    branches.set_personal(tensors)
    branches.scale_personal(scale)
