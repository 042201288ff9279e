from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mimo_fed.adapter import AdapterSpec, prefix
from mimo_fed.config import Phase, TrainConfig
from mimo_fed.errors import ConfigError
from mimo_fed.model import Base, DeviceModel, Limits
from mimo_fed.model.mezo import TwoForwardPasses
from mimo_fed.model.phase import PhaseFactors
from mimo_fed.model.train import batch_loss, batches
from tests.unit.model.samples import assert_same, random_adapter, state

Texts = tuple[str, ...]


def kept_bytes(work: Callable[[], Any]) -> int:
    """Bytes of activations that autograd kept for backward passes while `work` ran."""
    kept = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += 0 if isinstance(tensor, torch.nn.Parameter) else tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        work()
    return kept


@pytest.fixture
def forward_only(nano: Base, spec: AdapterSpec) -> DeviceModel:
    device = DeviceModel(nano, spec, limits=Limits(forward_only=True))
    device.install(random_adapter(spec, 5).canonical().to_safetensors())
    return device


@pytest.mark.parametrize("phase", ["B", "A", "M"])
def test_checkpointing_changes_the_memory_and_not_the_result(
    nano: Base, spec: AdapterSpec, config: TrainConfig, texts: Texts, phase: Phase
) -> None:
    adapter = random_adapter(spec, 5).canonical().to_safetensors()
    settings = replace(config, phase=phase)
    deltas, kept, personal = [], [], []
    for limits in (Limits(), Limits(checkpointing=True)):
        device = DeviceModel(nano, spec, limits=limits)
        device.install(adapter)

        def train(device: DeviceModel = device) -> None:
            deltas.append(device.train_global(texts, rank=8, config=settings, seed=1).delta)

        kept.append(kept_bytes(train))
        device.train_personal(texts, config=config, seed=1, num_steps=3)
        personal.append(device.loss(texts, "personal").nats)
        before = state(device)
        device.train_global(texts, rank=8, config=settings, seed=1)
        assert_same(state(device), before)
    assert kept[1] < kept[0] / 2
    for name, value in deltas[0].items():
        np.testing.assert_allclose(deltas[1][name], value, atol=1e-6)
    assert personal[1] == pytest.approx(personal[0], rel=1e-5)


def test_checkpointing_leaves_chat_its_cache(nano: Base, spec: AdapterSpec) -> None:
    ask = [{"role": "user", "content": "What does the function return?"}]
    device = DeviceModel(nano, spec, limits=Limits(checkpointing=True))
    assert device.generate(ask, "global", 8) == DeviceModel(nano, spec).generate(ask, "global", 8)


def test_forward_passes_alone_lower_the_loss_within_the_prefix(
    forward_only: DeviceModel, spec: AdapterSpec, config: TrainConfig, texts: Texts
) -> None:
    before = state(forward_only)
    settings = replace(config, phase="M", num_steps=60)
    trained = forward_only.train_global(texts, rank=8, config=settings, seed=1, held_out=texts)
    assert trained.loss_after < trained.loss_before - 0.02
    assert trained.num_steps == 60
    assert set(trained.delta) == {part.name for part in spec.parts("M")}
    assert {value.shape for value in trained.delta.values()} == {(8, 8)}
    assert_same(state(forward_only), before)
    again = forward_only.train_global(texts, rank=8, config=settings, seed=1).delta
    assert all(np.array_equal(again[name], value) for name, value in trained.delta.items())


def test_forward_passes_keep_nothing_for_a_backward_pass(
    forward_only: DeviceModel, device: DeviceModel, config: TrainConfig, texts: Texts
) -> None:
    settings = replace(config, phase="M", num_steps=2)

    def watch(done: int, total: int, loss: float) -> None:
        parameters = list(forward_only._branches.model.parameters())
        assert not [p for p in parameters if p.requires_grad or p.grad is not None]

    def train(one: DeviceModel) -> Callable[[], object]:
        return lambda: one.train_global(
            texts, rank=8, config=settings, seed=1, progress=watch if one is forward_only else None
        )

    assert kept_bytes(train(forward_only)) == 0
    assert kept_bytes(train(device)) > 1 << 20


def test_the_estimate_is_the_slope_along_its_direction(
    device: DeviceModel, spec: AdapterSpec, texts: Texts
) -> None:
    adapter = random_adapter(spec, 5).canonical()
    branches = device._branches
    rows = next(batches(device.base.tokenizer, texts, batch_size=2, seq_len=48, seed=3))
    factors = PhaseFactors(branches, "global", adapter, "M", 4)
    branches.use("global")
    factors.unfreeze()
    batch_loss(branches.model, rows, backward=True)
    factors.take_gradients()
    true = [parameter.grad.clone() for parameter in factors.parameters if parameter.grad is not None]
    values = [parameter.detach().clone() for parameter in factors.parameters]
    slopes = []
    for seed in range(4):
        loss = TwoForwardPasses(branches.model, factors, seed)(rows)
        found = [parameter.grad for parameter in factors.parameters if parameter.grad is not None]
        assert all(torch.equal(p, v) for p, v in zip(factors.parameters, values, strict=True))
        for part, estimate in zip(spec.parts("M"), found, strict=True):
            outside = estimate.numpy().copy()
            prefix(part, outside, 4)[...] = 0
            assert not outside.any()
        squared = float(sum((g**2).sum() for g in found))
        along = float(sum((g * t).sum() for g, t in zip(found, true, strict=True)))
        slopes.append((squared, along))
    num_moving = 16 * len(true)
    for (
        squared,
        along,
    ) in slopes:  # found = slope * z, so found . true = slope^2 and |found|^2 = slope^2 |z|^2
        assert squared / along == pytest.approx(num_moving, rel=0.5)
    assert len({squared for squared, _ in slopes}) == 4
    assert loss == pytest.approx(batch_loss(branches.model, rows, backward=False), rel=1e-3)


@pytest.mark.parametrize("phase", ["B", "A", "AB"])
def test_a_forward_only_device_trains_the_core_alone(
    forward_only: DeviceModel, config: TrainConfig, texts: Texts, phase: Phase
) -> None:
    before = state(forward_only)
    with pytest.raises(ConfigError, match=f"not phase {phase}"):
        forward_only.train_global(texts, rank=8, config=replace(config, phase=phase), seed=1)
    with pytest.raises(ConfigError, match="personal"):
        forward_only.train_personal(texts, config=config, seed=1)
    assert_same(state(forward_only), before)
