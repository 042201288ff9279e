from __future__ import annotations

import torch
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from mimo_fed.model.frozen_norm import FrozenNorm


def test_value_and_gradient_are_those_of_the_norm_it_stands_for() -> None:
    generator = torch.Generator().manual_seed(1)
    norm = Qwen2RMSNorm(24, eps=1e-3)
    norm.weight.data = torch.randn(24, generator=generator)
    x, dy = (torch.randn(3, 5, 24, generator=generator) for _ in range(2))
    results = []
    for module in (norm, FrozenNorm(norm)):
        inner = x.clone().requires_grad_(True)
        value = module(inner)
        value.backward(dy)
        assert inner.grad is not None
        results.append((value.detach(), inner.grad))
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
