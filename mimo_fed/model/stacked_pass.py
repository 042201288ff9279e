# mypy: disable-error-code="no-untyped-call"
"""The devices of one pass: their branches, which of them a step leaves out, and how the pass narrows.

Shapes: N devices of a pass, S steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mimo_fed.model.stacked_base import StackedBase
from mimo_fed.model.stacked_linear import StackedBranch

Branches = Mapping[str, StackedBranch]
"""by module"""


class StackedPass:
    """Mounts the branches of a pass step by step.

    Args:
        base: they are mounted on.
        trained: one branch a module.
        frozen: more branches, each a device's own.
        present: bool, (N, S): the steps in which a device's frozen branches take part; None: always.
    """

    def __init__(
        self,
        base: StackedBase,
        trained: Branches,
        frozen: Sequence[Branches],
        present: Sequence[Sequence[bool]] | None = None,
    ) -> None:
        self._base, self._trained, self._present = base, trained, present
        self._frozen = [branches for branches in frozen if branches]

    def parameters(self) -> list[nn.Parameter]:
        """Return what is trained, in a fixed order."""
        return [p for b in self._trained.values() for p in b.trained if isinstance(p, nn.Parameter)]

    def narrow(self, num_devices: int) -> None:
        """Keep the first devices alone; the trained factors become new parameters of the same values."""
        for branch in self._trained.values():
            branch.narrow(num_devices)

    def before_step(self, step: int, num_devices: int) -> None:
        """Mount what takes part in a step of the first devices."""
        self._base.mount(num_devices, self._trained, [*self._present_in(step, num_devices)])

    def _present_in(self, step: int, num_devices: int) -> list[dict[str, StackedBranch]]:
        there = torch.ones(num_devices)
        if self._present is not None:
            there = torch.tensor([row[step] for row in self._present[:num_devices]], dtype=torch.float32)
        if not there.any():
            return []
        share = there[:, None, None]
        return [
            {
                name: StackedBranch(left=branch.left[:num_devices] * share, right=branch.right[:num_devices])
                for name, branch in branches.items()
            }
            for branches in self._frozen
        ]
