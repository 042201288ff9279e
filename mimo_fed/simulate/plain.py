"""A round without encryption: the same layout, clip, weights and reading, but sums of floats that are exact.

What is summed is float64, and what `mimo_fed.round.outcome` reads is that total in the units of an opened
sum, so that everything after the opening is the code of production. Nothing is rounded to integers and no
word is shortened: the difference to a round with encryption is what encryption costs in accuracy.

Shapes: D entries of a sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import RoundAborted
from mimo_fed.round.layout import STATISTICS, Layout, sum_name
from mimo_fed.round.prepare import Prepared
from mimo_fed.secagg import Manifest, OpenedSum, RoundResult
from mimo_fed.secagg.groups import assign_groups

Float64 = NDArray[np.float64]


@dataclass
class _Total:
    """One sum while it grows."""

    devices: list[str] = field(default_factory=list)
    update_D: Float64 | None = None  # noqa: N815
    numbers: dict[str, float] = field(default_factory=dict)

    def add(self, device: str, numbers: Mapping[str, float], update_D: Float64 | None = None) -> None:
        self.devices.append(device)
        for name, value in numbers.items():
            self.numbers[name] = self.numbers.get(name, 0.0) + value
        if update_D is not None:
            self.update_D = update_D if self.update_D is None else self.update_D + update_D


class PlainSums:
    """Adds what devices would have sealed.

    Args:
        manifest: of the round, unsigned.
        cohort: whom it asks.
        layout: its sums.
    """

    def __init__(self, manifest: Manifest, cohort: tuple[str, ...], layout: Layout) -> None:
        self._manifest, self._layout = manifest, layout
        num = manifest.num_groups
        self._groups = assign_groups(frozenset(cohort), manifest.beacon, num) if num else {}
        self._totals = {spec.name: _Total() for spec in manifest.sums}

    def add(self, device: str, prepared: Prepared) -> None:
        """Add one device's update, weight, steps and statistics, in the sums that it takes part in."""
        weight, group = prepared.weight, self._groups.get(device, 0)
        numbers = {"weight": float(weight), "weighted_steps": float(weight * prepared.num_steps)}
        for name, vector_D in prepared.vectors.items():
            total = self._totals[sum_name(self._layout.spec.shell(name), group)]
            total.add(device, numbers, weight * vector_D.astype(np.float64))
        encoding = self._layout.statistics
        bounds = dict(zip(encoding.names, encoding.bounds, strict=True))
        statistics = {n: max(-bounds[n], min(bounds[n], value)) for n, value in prepared.statistics.items()}
        self._totals[STATISTICS].add(device, statistics)

    def result(self) -> RoundResult:
        """Open every sum that has enough devices.

        Raises:
            RoundAborted: none has.
        """
        sums: dict[str, OpenedSum] = {}
        closed: dict[str, str] = {}
        for spec in self._manifest.sums:
            total = self._totals[spec.name]
            if len(total.devices) < spec.n_min:
                closed[spec.name] = f"survivors not at least {spec.n_min}: {len(total.devices)}"
                continue
            sums[spec.name] = OpenedSum(
                total_D=self._written(spec.name, total),
                num_devices=len(total.devices),
                devices=tuple(sorted(total.devices)),
            )
        if not sums:
            raise RoundAborted(f"no sum could be opened: {'; '.join(closed.values())}")
        return RoundResult(
            sums=sums,
            closed=closed,
            evidence=b"",
            quorum_digest="",
            survivors=tuple(sorted({device for opened in sums.values() for device in opened.devices})),
            accused=(),
            liars=(),
        )

    def _written(self, name: str, total: _Total) -> Float64:
        """Write a total as an opened sum has it."""
        if name == STATISTICS:
            return self._layout.statistics.write_total(total.numbers)
        shell = self._layout.spec.shell(name.partition(".")[0])
        encoding = self._layout.encoding(shell)
        assert total.update_D is not None  # noqa: S101 - for the type checker: devices were added with vectors
        written = encoding.vector.write_total(total.update_D)
        return np.concatenate([written, encoding.weight.write_total(total.numbers)])
