"""The arms of the planted bench: ways to bring many clients' training together, one learning rate each.

    fedit     both factors, averaged apart; a small device is filled up with zeros (inexact, the baseline)
    b, m      one phase alone; `m` on the random basis of the seed
    default   the cycle that is shipped
    spare     the cycle of least upload
    sketch    both factors, the product averaged from two sketches
    oracle    one party with everybody's inputs, both factors

b, m, default and spare go through the code of a round: shells, per-shell means, `advance`, canonicalisation.

Shapes: D entries of a shell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, Part, delta_to_shells, prefix
from mimo_fed.aggregate import ServerState, advance, sketch
from mimo_fed.bench.planted_task import F32, F64, MODULE, Shape, Task
from mimo_fed.bench.planted_train import Values, train
from mimo_fed.config import SPARE_CYCLE, Phase, ScheduleConfig, ServerConfig

SPARE: Final = 4
"""columns of a sketch beyond the adapter's rank"""
EXACT: Final = ("b", "m", "spare", "default")


class Point(NamedTuple):
    """Where an arm is after a round."""

    floats: int
    """uploaded so far, by a device of full rank"""
    error: float


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to learn together."""

    name: str
    exact: bool
    """the mean is that of what the devices trained"""
    run: Callable[[Task, Shape, float], list[Point]]
    """of a task, its shape and a learning rate: a point after every round"""


def arms(schedule: ScheduleConfig) -> dict[str, Arm]:
    """Return all arms; `schedule` is the default's."""
    cycles = {"b": "B", "default": schedule.cycle, "spare": SPARE_CYCLE, "m": "M"}
    found = [Arm(name="fedit", exact=False, run=fedit)]
    for name, cycle in cycles.items():
        found.append(Arm(name=name, exact=True, run=scheduled(replace(schedule, cycle=cycle))))
    found += [Arm(name="sketch", exact=False, run=sketched), Arm(name="oracle", exact=False, run=pooled)]
    return {arm.name: arm for arm in found}


def scheduled(schedule: ScheduleConfig) -> Callable[[Task, Shape, float], list[Point]]:
    """Return the arm that follows a schedule."""

    def run(task: Task, shape: Shape, rate: float) -> list[Point]:
        adapter, floats, points = GlobalAdapter.zero(task.spec), 0, []
        state = ServerState.empty(schedule.phase(0))
        for index in range(shape.rounds):
            phase = schedule.phase(index)
            means = _means(task, phase, adapter, rate * schedule.rate(phase), shape.num_steps)
            adapter, state = _advance(adapter, phase, means, state, schedule.phase(index + 1))
            floats += num_floats(task.spec, phase)
            points.append(Point(floats, task.error(adapter)))
        return points

    return run


def fedit(task: Task, shape: Shape, rate: float) -> list[Point]:
    """Average A and B apart, a small device's filled up with zeros."""
    adapter, floats, points = GlobalAdapter.zero(task.spec), 0, []
    for _ in range(shape.rounds):
        total = {part.name: np.zeros((part.rows, part.cols)) for part in task.spec.parts("AB")}
        for client in task.clients:
            small = _cut(adapter, client.rank)
            trained = train(small, "AB", [client], client.rank, rate, shape.num_steps)
            for name, value in trained.items():
                total[name] += client.weight * value.astype(np.float64)
        weight = sum(client.weight for client in task.clients)
        adapter = adapter.with_values("AB", {name: value / weight for name, value in total.items()})
        floats += num_floats(task.spec, "AB")
        points.append(Point(floats, task.error(adapter)))
    return points


def sketched(task: Task, shape: Shape, rate: float) -> list[Point]:
    """Average the products, through two sums that are wider than the adapter by `SPARE`."""
    spec, width = task.spec, task.spec.config.rank + SPARE
    adapter, floats, points = GlobalAdapter.zero(spec), 0, []
    for index in range(shape.rounds):
        products = []
        for client in task.clients:
            trained = train(adapter, "AB", [client], client.rank, rate, shape.num_steps)
            products.append({MODULE: (trained[f"{MODULE}.B"], trained[f"{MODULE}.A"])})
        first = _add(task, [sketch.first_upload(spec, p, width, seed=index)[MODULE] for p in products])
        basis = sketch.basis_of({MODULE: first})
        second = _add(task, [sketch.second_upload(spec, p, basis)[MODULE] for p in products])
        weight = sum(client.weight for client in task.clients)
        adapter = sketch.join(spec, basis, {MODULE: second}, weight=weight, epoch=index)
        floats += sketch.num_floats(spec, width)
        points.append(Point(floats, task.error(adapter)))
    return points


def pooled(task: Task, shape: Shape, rate: float) -> list[Point]:
    """Train on all inputs at once, each client's counted by its weight; nothing is averaged."""
    adapter, points = GlobalAdapter.zero(task.spec), []
    for _ in range(shape.rounds):
        trained = train(adapter, "AB", task.clients, task.spec.config.rank, rate, shape.num_steps)
        adapter = adapter.with_values("AB", trained)
        points.append(Point(0, task.error(adapter)))
    return points


def num_floats(spec: AdapterSpec, phase: Phase) -> int:
    """Count what a device of full rank uploads in a round."""
    return sum(spec.dim(shell, phase) for shell in spec.shells)


def _means(task: Task, phase: Phase, adapter: GlobalAdapter, rate: float, num_steps: int) -> dict[str, F64]:
    """Train every client and take the mean of each shell over those that fill it."""
    sums: dict[str, F64] = {}
    weights: dict[str, int] = {}
    start, parts = adapter.values(phase), task.spec.parts(phase)
    for client in task.clients:
        trained = train(adapter, phase, [client], client.rank, rate, num_steps)
        delta = {p.name: _prefix(p, trained, client.rank) - _prefix(p, start, client.rank) for p in parts}
        for name, vector_D in delta_to_shells(task.spec, phase, delta, client.rank).items():
            sums[name] = sums.get(name, np.zeros(vector_D.size)) + client.weight * vector_D.astype(np.float64)
            weights[name] = weights.get(name, 0) + client.weight
    return {name: total / weights[name] for name, total in sums.items()}


def _prefix(part: Part, values: Values, rank: int) -> F32:
    return prefix(part, values[part.name], rank)


def _advance(
    adapter: GlobalAdapter, phase: Phase, means: dict[str, F64], state: ServerState, next_phase: Phase
) -> tuple[GlobalAdapter, ServerState]:
    advanced = advance(adapter, phase, means, state=state, config=ServerConfig(), next_phase=next_phase)
    return advanced.adapter, advanced.state


def _add(task: Task, uploads: list[F64]) -> F64:
    total: F64 = np.sum([c.weight * up for c, up in zip(task.clients, uploads, strict=True)], axis=0)
    return total


def _cut(adapter: GlobalAdapter, rank: int) -> GlobalAdapter:
    """Return the adapter without the directions beyond a rank."""
    core = {name: value.copy() for name, value in adapter.core.items()}
    right = {name: value.copy() for name, value in adapter.right.items()}
    for name in core:
        core[name][:, rank:] = 0
        right[name][rank:] = 0
    return replace(adapter, core=core, right=right)
