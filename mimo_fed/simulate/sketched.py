"""A round of the method `sketch`: two secure sums of products that share no factor.

Each of the two sums is a round of the drivers, and its vectors have a layout that is there already: the first
sum, (out, S) of every module, is what phase B trains of an adapter of rank S, and the second, (S, inp), is
what phase A trains of it. So clip, weights, encryption and opening are those of every other round.

A device's update is the product after training less the product before: B_k A_k - B A, a pair of factors of
twice the rank. The clip norm bounds that update in the second sum; the first only gives the directions.

Shapes: R rank of the adapter, S width of the sketch, out and inp of a module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, shells_to_delta
from mimo_fed.aggregate import sketch
from mimo_fed.config import Phase
from mimo_fed.errors import RoundAborted
from mimo_fed.round.cohort import Candidate
from mimo_fed.round.device import TrainedUpdate
from mimo_fed.simulate.rounds import Played, Plays
from mimo_fed.simulate.school import School, Turn

Float64 = NDArray[np.float64]
Product = dict[str, tuple[Float64, Float64]]


def play_sketch(
    rounds: Plays, school: School, turn: Turn, there: frozenset[str], known: Mapping[str, Candidate]
) -> tuple[Played, GlobalAdapter]:
    """Run both sums.

    Args:
        rounds: runs each.
        school: the devices.
        turn: what is trained; its sequence number and the next one are used.
        there: devices that may be asked.
        known: what earlier rounds say of devices.

    Returns:
        What the second sum gave, with the uploads of both, and the next adapter.

    Raises:
        RoundAborted: too few devices in either sum.
    """
    spec, width = turn.adapter.spec, width_of(turn.adapter.spec)
    products: dict[str, Product] = {}
    kept: dict[str, TrainedUpdate] = {}

    def first(names: Sequence[str]) -> dict[str, TrainedUpdate]:
        taught = school.teach_products(names)
        updates = {}
        for name, (product, update) in taught.items():
            products[name] = difference(turn.adapter, product)
            uploads = sketch.first_upload(spec, products[name], width, turn.sequence)
            updates[name] = replace(update, delta=_named(uploads, "B", 1 / math.sqrt(width)))
        kept.update(updates)
        return updates

    one = rounds.play(_part(turn, width, "B", 0), there, known, first)
    basis = sketch.basis_of(_by_module(one, "B"))

    def second(names: Sequence[str]) -> dict[str, TrainedUpdate]:
        uploads = {name: sketch.second_upload(spec, products.pop(name), basis) for name in names}
        return {name: replace(kept[name], delta=_named(uploads[name], "A")) for name in names}

    two = rounds.play(_part(turn, width, "A", 1), frozenset(one.outcome.result.survivors), known, second)
    played = replace(two, floats_up=one.floats_up + two.floats_up, bytes_up=one.bytes_up + two.bytes_up)
    return played, add(turn.adapter, basis, _by_module(two, "A"))


def width_of(spec: AdapterSpec) -> int:
    """Return S: twice the adapter's rank, or as many as the smallest module has rows."""
    return min(2 * spec.config.rank, *(module.out for module in spec.modules))


def difference(adapter: GlobalAdapter, product: Mapping[str, tuple[NDArray[np.float32], ...]]) -> Product:
    """Return the factors of what training changed: of twice the rank."""
    change = {}
    for name, (left, right) in adapter.lora().items():
        new_left, new_right = product[name]
        change[name] = (
            np.hstack([new_left, -left]).astype(np.float64),
            np.vstack([new_right, right]).astype(np.float64),
        )
    return change


def add(adapter: GlobalAdapter, basis: Mapping[str, Float64], change: Mapping[str, Float64]) -> GlobalAdapter:
    """Add Q Z to an adapter and cut the result to its rank, one basis epoch on."""
    outer, inner = {}, {}
    for name, (left, right) in adapter.lora().items():
        outer[name], factor = np.linalg.qr(np.hstack([left.astype(np.float64), basis[name]]))
        inner[name] = factor @ np.vstack([right.astype(np.float64), change[name]])
    return sketch.join(adapter.spec, outer, inner, weight=1.0, epoch=adapter.epoch + 1)


def _part(turn: Turn, width: int, phase: Phase, number: int) -> Turn:
    """Return the round of one of the two sums."""
    config = replace(
        turn.config,
        adapter=replace(turn.config.adapter, rank=width, shells=(width,)),
        train=replace(turn.config.train, phase=phase),
    )
    spec = replace(turn.adapter.spec, config=config.adapter)
    return replace(turn, sequence=turn.sequence + number, config=config, layout=spec)


def _named(uploads: Mapping[str, Float64], factor: str, scale: float = 1.0) -> dict[str, NDArray[np.float32]]:
    return {f"{module}.{factor}": (scale * value).astype(np.float32) for module, value in uploads.items()}


def _by_module(played: Played, phase: Phase) -> dict[str, Float64]:
    """Return the opened mean, by module.

    Raises:
        RoundAborted: it stayed closed.
    """
    outcome = played.outcome
    if not outcome.means:
        raise RoundAborted(f"a sum of the sketch stayed closed: {'; '.join(outcome.closed.values())}")
    spec = played.spec
    delta = shells_to_delta(spec, phase, outcome.means)
    return {part.module: delta[part.name] for part in spec.parts(phase)}
