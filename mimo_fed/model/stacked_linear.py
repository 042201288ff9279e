# mypy: disable-error-code="no-untyped-call"
"""One linear of the base for the devices of a pass: y = W x + sum over branches of left_n core_n right_n x.

A factor is either the same for every device (two dimensions) or one a device (three). There are two ways to
the same values, up to rounding:

| way | forward | pays when |
|---|---|---|
| merged | W_n = W + sum of products, then one bmm | a device has many tokens against the size of W |
| low rank | one matmul with W for all, then thin ones | W is large: read once, it serves every device |

The backward pass is written out: autograd would keep and make what nobody needs. With h = right_n x and
k = left_n^T dy (left_n without core_n), the gradients of left_n, right_n and core_n are dy^T h, k^T x and
k^T h, and only what one of the trained factors needs is kept.

Shapes: N devices of a pass, T tokens of one of them, I and O columns and rows of W, R rank of a branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional


@dataclass(kw_only=True)
class StackedBranch:
    """One low-rank branch of one linear; what requires a gradient is trained."""

    left: torch.Tensor
    """(O, R) or (N, O, R)"""
    right: torch.Tensor
    """(R, I) or (N, R, I)"""
    core: torch.Tensor | None = None
    """(N, R, R); None: the unit matrix"""
    moves: torch.Tensor | None = None
    """(N, R), 1 where a device of its rank may move a direction, else 0; None: everywhere"""

    @property
    def trained(self) -> list[torch.Tensor]:
        """What gets a gradient, in the order left, core, right."""
        return [t for t in (self.left, self.core, self.right) if t is not None and t.requires_grad]

    def narrow(self, num_devices: int) -> None:
        """Keep the first devices alone; trained factors become new parameters of the same values."""
        for name in ("left", "core", "right"):
            factor = getattr(self, name)
            if factor is not None and factor.requires_grad:
                setattr(self, name, nn.Parameter(factor.detach()[:num_devices].clone()))
        self.moves = None if self.moves is None else self.moves[:num_devices]

    def left_core(self) -> torch.Tensor:
        """Return left @ core, (O, R) or (N, O, R)."""
        left = self.left.detach()
        return left if self.core is None else torch.matmul(left, self.core.detach())

    def gradients(
        self, x_NTI: torch.Tensor | None, h_NTR: torch.Tensor | None, dy_NTO: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return the gradients of `trained`."""
        found = []
        k_NTR = torch.matmul(dy_NTO, self.left.detach()) if self._needs_k else None
        if self.left.requires_grad:
            assert h_NTR is not None  # noqa: S101 - for the type checker
            found.append(self._masked(torch.bmm(dy_NTO.mT, h_NTR), columns=True))
        if self.core is not None and self.core.requires_grad:
            assert h_NTR is not None and k_NTR is not None  # noqa: S101, PT018 - for the type checker
            found.append(self._masked(torch.bmm(k_NTR.mT, h_NTR), columns=True, rows=True))
        if self.right.requires_grad:
            assert x_NTI is not None and k_NTR is not None  # noqa: S101, PT018 - for the type checker
            found.append(self._masked(torch.bmm(k_NTR.mT, x_NTI), rows=True))
        return found

    @property
    def needs_h(self) -> bool:
        """Whether a gradient is made of right x."""
        return self.left.requires_grad or (self.core is not None and self.core.requires_grad)

    @property
    def _needs_k(self) -> bool:
        return self.right.requires_grad or (self.core is not None and self.core.requires_grad)

    def _masked(self, gradient: torch.Tensor, *, rows: bool = False, columns: bool = False) -> torch.Tensor:
        if self.moves is not None and columns:
            gradient *= self.moves[:, None, :]
        if self.moves is not None and rows:
            gradient *= self.moves[:, :, None]
        return gradient


@dataclass(kw_only=True)
class Lift:
    """The branches of one linear in one pass."""

    num_devices: int
    trained: StackedBranch | None = None
    frozen: list[StackedBranch] = field(default_factory=list)
    """none of which requires a gradient"""

    @property
    def branches(self) -> list[StackedBranch]:
        """All branches, the trained one last."""
        return self.frozen if self.trained is None else [*self.frozen, self.trained]


class StackedLinear(nn.Module):
    """A frozen linear of the base, and the branches that a pass puts on it.

    Args:
        linear: of the base; its tensors are shared, never changed.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self._weight = linear.weight.detach()
        self.lift: Lift | None = None

    def fold(self, product_OI: torch.Tensor | None) -> None:
        """Let W be the base's weight plus something frozen that all devices share; None: plus nothing."""
        own = self.linear.weight.detach()
        self._weight = own if product_OI is None else own + product_OI

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y for x (N * B, T, I): the rows of a device follow one another."""
        if self.lift is None:
            return functional.linear(x, self._weight, self.linear.bias)
        x_NTI = x.reshape(self.lift.num_devices, -1, x.shape[-1])
        trained = self.lift.trained.trained if self.lift.trained is not None else []
        applied: Any = _Lifted.apply(x_NTI, self._weight, self.linear.bias, self.lift, *trained)
        y: torch.Tensor = applied.view(*x.shape[:-1], -1)
        return y


class _Lifted(torch.autograd.Function):
    """The linear with its branches; gradients of x and of the trained factors."""

    @staticmethod
    def forward(
        ctx: Any,
        x_NTI: torch.Tensor,
        weight_OI: torch.Tensor,
        bias: torch.Tensor | None,
        lift: Lift,
        *trained: torch.Tensor,
    ) -> torch.Tensor:
        merged = _merges(weight_OI, x_NTI.shape[1])
        h_NTR: torch.Tensor | None = None
        if merged:
            weight = _merge(weight_OI, lift.branches)
            y_NTO = torch.bmm(x_NTI, weight.mT)
            if bias is not None:
                y_NTO += bias
        else:
            weight = weight_OI
            y_NTO = functional.linear(x_NTI, weight, bias)
            for branch in lift.branches:
                h_NTR = torch.matmul(x_NTI, branch.right.detach().mT)
                y_NTO.baddbmm_(h_NTR, _each(branch.left_core(), len(x_NTI)).mT)
        own = lift.trained
        if own is not None:
            keep_x = x_NTI if own.right.requires_grad else None
            if h_NTR is None and own.needs_h:
                h_NTR = torch.matmul(x_NTI, own.right.detach().mT)
            keep_h = h_NTR if own.needs_h else None
            ctx.save_for_backward(weight, keep_x, keep_h)
            ctx.lift, ctx.merged = lift, merged
        return y_NTO

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> Any:
        (dy_NTO,) = outputs
        weight, x_NTI, h_NTR = ctx.saved_tensors
        lift: Lift = ctx.lift
        assert lift.trained is not None  # noqa: S101 - for the type checker
        dx_NTI = None
        if ctx.needs_input_grad[0]:
            dx_NTI = torch.matmul(dy_NTO, weight)
            for branch in () if ctx.merged else lift.branches:
                k_NTR = torch.matmul(dy_NTO, branch.left_core())
                dx_NTI.baddbmm_(k_NTR, _each(branch.right.detach(), len(dy_NTO)))
        return dx_NTI, None, None, None, *lift.trained.gradients(x_NTI, h_NTR, dy_NTO)


def _merges(weight_OI: torch.Tensor, num_tokens: int) -> bool:
    """Decide the way: to merge costs 2 O I R a device, to add thin products 2 T R (O + I), forth and back."""
    out, inp = weight_OI.shape
    return out * inp < num_tokens * (out + inp)


def _merge(weight_OI: torch.Tensor, branches: Sequence[StackedBranch]) -> torch.Tensor:
    """Return W_n, (N, O, I)."""
    total: torch.Tensor | None = None
    for branch in branches:
        left, right = branch.left_core(), branch.right.detach()
        num_devices = max(factor.shape[0] if factor.ndim == 3 else 1 for factor in (left, right))
        start = weight_OI.expand(num_devices, -1, -1) if total is None else total
        total = torch.baddbmm(start, _each(left, num_devices), _each(right, num_devices))
    assert total is not None  # noqa: S101 - for the type checker: a lift has a branch
    return total


def _each(factor: torch.Tensor, num_devices: int) -> torch.Tensor:
    """Return a factor with a first dimension of N."""
    return factor if factor.ndim == 3 else factor.expand(num_devices, -1, -1)
