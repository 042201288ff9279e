"""From opened sums to what a round gave: means of the shells, and statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import AdapterSpec, Shell
from mimo_fed.aggregate import fed_nova_scale, robust_mean
from mimo_fed.config import RoundConfig
from mimo_fed.errors import RoundAborted
from mimo_fed.round.layout import STATISTICS, Layout, ShellMean, layout_of, sum_name
from mimo_fed.secagg import Manifest, RoundResult

Mean = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a round gave.

    Attributes:
        manifest: what the devices agreed to.
        cohort: ids of the devices that were asked to contribute.
        result: the opened sums and the evidence.
        means: per shell that moved, float64 (D,): the mean of the updates.
        weights: per shell that moved, the sum of the weights in it.
        closed: sums that were not opened, and shells that stay where they are, each with the reason.
        statistics: decoded sums; see `Layout.statistics`.
        votes: how many members signed the survivors.
    """

    manifest: Manifest
    cohort: tuple[str, ...]
    result: RoundResult
    means: Mapping[str, Mean]
    weights: Mapping[str, int]
    closed: Mapping[str, str]
    statistics: Mapping[str, float]
    votes: int

    @property
    def config(self) -> RoundConfig:
        """What the round fixed."""
        return RoundConfig.from_json(self.manifest.application)

    @property
    def dropouts(self) -> tuple[str, ...]:
        """Devices of the cohort that are in no opened sum."""
        return tuple(sorted(set(self.cohort) - set(self.result.survivors)))

    @property
    def clipped_share(self) -> float:
        """Share of the devices in the sum whose update was clipped, 0..1."""
        size = max(1, len(self.result.survivors))
        return min(1.0, max(0.0, self.statistics["clipped"] / size))

    @property
    def losses(self) -> tuple[float, float]:
        """Weighted mean loss before and after (current and candidate), nats per token."""
        weight = max(1.0, round(self.statistics["weight"]))
        return self.statistics["loss_before"] / weight, self.statistics["loss_after"] / weight


def read_outcome(
    manifest: Manifest, cohort: tuple[str, ...], spec: AdapterSpec, result: RoundResult, votes: int
) -> Outcome:
    """Decode the opened sums.

    A sum is closed if no honest devices could have given its total, a shell if too few of its groups opened.

    Raises:
        RoundAborted: the statistics stayed closed.
    """
    layout = layout_of(manifest, spec)
    closed = dict(result.closed)
    if STATISTICS not in result.sums:
        raise RoundAborted(f"statistics stayed closed: {closed.get(STATISTICS, 'not opened')}")
    means: dict[str, Mean] = {}
    weights: dict[str, int] = {}
    for shell in layout.shells:
        groups = _read_groups(layout, shell, result, closed)
        if not groups:
            continue
        try:
            means[shell.name] = _mean(layout, groups)
        except RoundAborted as aborted:
            closed[shell.name] = aborted.message
            continue
        weights[shell.name] = sum(group.weight for group in groups)
    return Outcome(
        manifest=manifest,
        cohort=cohort,
        result=result,
        means=means,
        weights=weights,
        closed=closed,
        statistics=layout.statistics.decode(result.sums[STATISTICS].total_D),
        votes=votes,
    )


def _read_groups(
    layout: Layout, shell: Shell, result: RoundResult, closed: dict[str, str]
) -> list[ShellMean]:
    """Read each opened group of a shell; of one that is implausible, keep the reason."""
    encoding, read = layout.encoding(shell), []
    for group in layout.groups:
        name = sum_name(shell, group)
        if name not in result.sums:
            continue
        opened = result.sums[name]
        try:
            read.append(encoding.decode(opened.total_D, opened.num_devices, layout.word_bits))
        except RoundAborted as aborted:
            closed[name] = aborted.message
    return read


def _mean(layout: Layout, groups: list[ShellMean]) -> Mean:
    """Join the groups of a shell, each scaled to the steps that its devices took on the mean.

    Raises:
        RoundAborted: fewer than five groups opened.
    """
    train = layout.config.train
    means = [group.mean for group in groups]
    if train.normalise_steps:
        means = [
            group.mean * fed_nova_scale(group.weighted_steps, group.weight, train.num_steps)
            for group in groups
        ]
    if layout.groups == (0,):
        return means[0]
    weights = [float(group.weight) for group in groups]
    return robust_mean(means, weights, layout.config.secure_sum.robust)
