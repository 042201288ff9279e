# mypy: disable-error-code="no-untyped-call"
"""Qwen2's RMS norm with a frozen weight, its backward pass written out: half the passes over memory.

y = x r w with r = 1 / sqrt(mean(x^2) + eps), so dx = r g - x r^3 mean(g x), where g = dy w.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm


class FrozenNorm(nn.Module):
    """Computes what `norm` computes; the weight is shared and gets no gradient.

    Args:
        norm: of the base, in float32.
    """

    def __init__(self, norm: Qwen2RMSNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the norm of x (..., H)."""
        applied: Any = _Norm.apply(x, self.norm.weight.detach(), self.norm.variance_epsilon)
        y: torch.Tensor = applied
        return y


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        r = r.div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, r)
        y: torch.Tensor = (x * r).mul_(weight)
        return y

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> Any:
        (dy,) = outputs
        x, weight, r = ctx.saved_tensors
        g = dy * weight
        along = (g * x).sum(-1, keepdim=True).mul_(r**3).div_(-x.shape[-1])
        return g.mul_(r).addcmul_(x, along), None, None
