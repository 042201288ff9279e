"""One step of the server: from the means of a round to the next adapter.

A shell is averaged over the devices that trained it. Counting the others as zeros would shrink the outer
shells towards nothing, the more so the fewer devices are large. A shell that stayed closed keeps its value.

Before a phase of another kind the adapter is put on the basis of its own singular vectors (the same dW, one
basis epoch on), and the optimizer's moments go over with it.

Shapes: D entries of a shell.
Ref: Wang et al. 2020 (FedNova) for `fed_nova_scale`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import GlobalAdapter, shells_mask, shells_to_delta
from mimo_fed.aggregate.moments import project
from mimo_fed.aggregate.server import Move, ServerState, check_config, move
from mimo_fed.config import Phase, ServerConfig
from mimo_fed.errors import ConfigError, SpecMismatch


@dataclass(frozen=True, kw_only=True)
class Advanced:
    """What a step gives."""

    adapter: GlobalAdapter
    """the next one; ready for the next phase"""
    state: ServerState
    """the moments that go with it, of the next phase"""


def advance(
    adapter: GlobalAdapter,
    phase: Phase,
    means: Mapping[str, NDArray[np.floating]],
    *,
    state: ServerState,
    config: ServerConfig,
    scale: float = 1.0,
    next_phase: Phase,
) -> Advanced:
    """Take one step on what a phase trains.

    Args:
        adapter: what the round started from, or a later one of the same basis epoch; left as it is.
        phase: what the devices trained.
        means: per opened shell, floats, shape (D,): weighted sum of updates over sum of weights.
        state: the moments that go with `adapter`. Of another phase, they are projected first.
        config: the optimizer.
        scale: of the step, for staleness; 1 is the whole step.
        next_phase: of the round that will start from the result.

    Returns:
        The next adapter, and the moments that go with it.

    Raises:
        ConfigError: a setting is out of range.
        SpecMismatch: no such shell, a mean of another length or that is not finite, or moments of another
            shape.
    """
    if not 0 < scale < math.inf:
        raise ConfigError(f"scale of a step must be positive and finite: {scale}")
    check_config(config)
    state.check(adapter.spec)
    if odd := sorted(name for name, mean_D in means.items() if not np.isfinite(mean_D).all()):
        raise SpecMismatch(f"mean of a shell is not finite: {odd[0]}")
    state = _carry(state, adapter, adapter, phase)
    moves = _moves(adapter, phase, means, state, config)
    values = adapter.values(phase)
    moved = {name: values[name].astype(np.float64) + scale * m.change for name, m in moves.items()}
    after = adapter.with_values(phase, moved) if means else adapter
    state = ServerState(
        phase=phase,
        first={name: m.first for name, m in moves.items() if m.first is not None},
        second={name: m.second for name, m in moves.items() if m.second is not None},
        num_steps=state.num_steps + 1,
    )
    if next_phase == phase:
        return Advanced(adapter=after, state=state)
    canonical = after.canonical()
    return Advanced(adapter=canonical, state=_carry(state, after, canonical, next_phase))


def fed_nova_scale(weighted_steps: float, weight: float, num_steps: int) -> float:
    """Return by what a shell's mean is scaled where devices took different numbers of steps.

    A device scales its delta by num_steps / steps before it is clipped, so that slow devices pull the mean no
    less than fast ones; this brings the mean back to the steps that were taken on average.

    Args:
        weighted_steps: sum of weight x steps over the shell's devices.
        weight: sum of their weights.
        num_steps: what the round asks for.

    Raises:
        ConfigError: not positive and finite.
    """
    if not (0 < weight < math.inf and 0 < weighted_steps < math.inf and num_steps > 0):
        raise ConfigError(f"steps and weights must be positive: {weighted_steps}, {weight}, {num_steps}")
    return weighted_steps / weight / num_steps


def _moves(
    adapter: GlobalAdapter,
    phase: Phase,
    means: Mapping[str, NDArray[np.floating]],
    state: ServerState,
    config: ServerConfig,
) -> dict[str, Move]:
    """Return the step of every part."""
    mean = shells_to_delta(adapter.spec, phase, means)
    opened = shells_mask(adapter.spec, phase, means)
    return {
        name: move(mean[name], opened[name], state.first.get(name), state.second.get(name), config)
        for name in mean
    }


def _carry(state: ServerState, old: GlobalAdapter, new: GlobalAdapter, phase: Phase) -> ServerState:
    """Bring the moments to another phase; within one they stay."""
    if state.phase == phase:
        return state
    return replace(state, phase=phase, first=project(state.first, old, state.phase, new, phase), second={})
