# mypy: disable-error-code="no-untyped-call"
"""What a phase trains, mounted in a branch: X of each part, of which only this device's prefix moves.

| phase | lora_B holds | lora_A holds | moves |
|---|---|---|---|
| B | X = left @ core | right | lora_B |
| A | left | X = core @ right | lora_A |
| M | left @ X | right | X = core, kept beside the branch |
| AB | X of B | X of A | both |

All R columns take part in the forward pass; outside the prefix the gradient is zero, and AdamW without decay
leaves such entries alone, bit for bit. The gradient of the core is left^T G, G being that of lora_B.

Shapes: R rank of the adapter; X of a part (rows, cols).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mimo_fed.adapter import GlobalAdapter, Part, prefix
from mimo_fed.config import Phase
from mimo_fed.model.lora import Branches, Factor, Shared

Float32 = NDArray[np.float32]


class PhaseFactors:
    """X of one phase in one shared branch, while it is trained.

    Args:
        branches: mounts the factors at once; whoever trains puts the installed adapter back.
        branch: which shared branch.
        adapter: what training starts from.
        phase: which factor moves.
        rank: of the device; fixes the prefix of X that moves.
    """

    def __init__(
        self, branches: Branches, branch: Shared, adapter: GlobalAdapter, phase: Phase, rank: int
    ) -> None:
        self._branches, self._branch, self._rank = branches, branch, rank
        self._parts = adapter.spec.parts(phase)
        self._mount(adapter, phase)
        start = adapter.values(phase)
        device = branches.model.device
        self._left = {
            part.module: torch.from_numpy(np.array(adapter.left[part.module])).to(device)
            for part in self._parts
            if part.factor == "M"
        }
        self._values = {
            part.name: nn.Parameter(torch.from_numpy(np.array(start[part.name], order="C")).to(device))
            if part.factor == "M"
            else branches.weight(part.module, part.factor, branch)
            for part in self._parts
        }
        self._start = self.values()
        self.fixed = self._fixed()

    def _mount(self, adapter: GlobalAdapter, phase: Phase) -> None:
        self._branches.set_shared(self._branch, adapter)
        start = adapter.values(phase)
        for part in self._parts:
            if part.factor != "M":
                self._branches.write(part.module, part.factor, self._branch, start[part.name])
            if phase == "A":
                self._branches.write(part.module, "B", self._branch, adapter.left[part.module])

    def _fixed(self) -> list[torch.Tensor]:
        """Where X may not move; in the order of `parameters`."""
        found = []
        for part in self._parts:
            fixed = np.ones((part.rows, part.cols), bool)
            prefix(part, fixed, self._rank)[...] = False
            found.append(torch.from_numpy(fixed).to(self._branches.model.device))
        return found

    @property
    def parameters(self) -> list[nn.Parameter]:
        """X of every part."""
        return list(self._values.values())

    def unfreeze(self) -> None:
        """Let the backward pass reach what moves, after `Branches.use`."""
        for part in self._parts:
            self._grown(part).requires_grad_(True)

    def _grown(self, part: Part) -> nn.Parameter:
        factor: Factor = "A" if part.factor == "A" else "B"
        return self._branches.weight(part.module, factor, self._branch)

    def take_gradients(self) -> None:
        """Give every X its gradient, zero outside the prefix."""
        for part, parameter, fixed in zip(self._parts, self.parameters, self.fixed, strict=True):
            if part.factor == "M":
                grown = self._grown(part)
                assert grown.grad is not None  # noqa: S101 - for the type checker: a backward pass just ran
                parameter.grad = self._left[part.module].T @ grown.grad
                grown.grad = None
            if parameter.grad is not None:
                parameter.grad.masked_fill_(fixed, 0)

    def show(self) -> None:
        """Let the forward pass see X: of phase M, write lora_B = left @ X."""
        with torch.no_grad():
            for part in self._parts:
                if part.factor == "M":
                    self._grown(part).copy_(self._left[part.module] @ self._values[part.name])

    def values(self) -> dict[str, Float32]:
        """Return copies of the prefix of every X, by part."""
        return {
            part.name: prefix(part, self._values[part.name].detach().cpu().numpy(), self._rank).copy()
            for part in self._parts
        }

    def delta(self) -> dict[str, Float32]:
        """Return what has moved since the start: float32, the prefix of every part, by part."""
        return {name: values - self._start[name] for name, values in self.values().items()}
