from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.utils import parametrize

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, prefix
from mimo_fed.config import Phase, TrainConfig
from mimo_fed.errors import ConfigError
from mimo_fed.model import Base, DeviceModel, Limits
from mimo_fed.model.learn import DRAW_GLOBAL
from mimo_fed.model.train import Plan, batches, run_steps
from tests.unit.model.samples import NAME, assert_same, random_adapter, state

Texts = tuple[str, ...]
PHASES: tuple[Phase, ...] = ("B", "A", "M", "AB")


def installed(device: DeviceModel, phase: Phase) -> GlobalAdapter:
    """Install an adapter that a round of this phase could begin from."""
    adapter = random_adapter(device.spec, 5).canonical()
    device.install(adapter.to_safetensors())
    return adapter


@pytest.mark.parametrize("rank", [4, 16])
@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_moves_only_this_ranks_prefix_and_moves_back(
    device: DeviceModel, spec: AdapterSpec, config: TrainConfig, texts: Texts, phase: Phase, rank: int
) -> None:
    adapter = installed(device, phase)
    device.train_personal(texts, config=config, seed=1, num_steps=2)
    before, start = state(device), adapter.values(phase)
    moving = {"B": ["lora_B"], "M": ["lora_B"], "A": ["lora_A", "lora_B"], "AB": ["lora_A", "lora_B"]}[phase]
    seen: list[int] = []

    def watch(done: int, total: int, loss: float) -> None:
        now = state(device)
        moved = [n for n in now if not torch.equal(now[n], before[n])]
        assert all(n.endswith("global.weight") and any(factor in n for factor in moving) for n in moved)
        for part in spec.parts(phase) if phase != "M" else ():
            value = now[f"{part.module}.lora_{part.factor}.global.weight"].numpy()
            fixed = np.ones(value.shape, bool)
            prefix(part, fixed, rank)[...] = False
            assert np.array_equal(value[fixed], start[part.name][fixed])
            assert not np.array_equal(value[~fixed], start[part.name][~fixed])
        seen.append(done)

    settings = replace(config, phase=phase)
    trained = device.train_global(texts, rank=rank, config=settings, seed=7, progress=watch)
    assert seen == list(range(1, config.num_steps + 1))
    assert set(trained.delta) == {part.name for part in spec.parts(phase)}
    for part in spec.parts(phase):
        delta = trained.delta[part.name]
        assert delta.shape == prefix(part, start[part.name], rank).shape
        assert delta.dtype == np.float32
        assert np.abs(delta).max() > 0
    assert trained.loss_after < trained.loss_before
    assert trained.num_steps == config.num_steps
    assert trained.num_tokens == config.num_steps * config.batch_size * config.seq_len
    assert_same(state(device), before)


@pytest.mark.parametrize("phase", PHASES)
def test_training_can_begin_from_the_adapter_that_changes_nothing(
    device: DeviceModel, config: TrainConfig, texts: Texts, phase: Phase
) -> None:
    trained = device.train_global(texts, rank=8, config=replace(config, phase=phase), seed=7)
    assert trained.loss_after < trained.loss_before


@pytest.mark.parametrize("phase", PHASES)
def test_the_adapter_with_the_delta_added_is_what_was_trained(
    device: DeviceModel, spec: AdapterSpec, config: TrainConfig, texts: Texts, phase: Phase
) -> None:
    adapter = installed(device, phase)
    trained = device.train_global(
        texts, rank=8, config=replace(config, phase=phase), seed=7, held_out=texts[:5]
    )
    values = {name: value.copy() for name, value in adapter.values(phase).items()}
    for part in spec.parts(phase):
        prefix(part, values[part.name], 8)[...] += trained.delta[part.name]
    device.install(adapter.with_values(phase, values).to_safetensors())
    assert device.loss(texts[:5], "global").per_token == pytest.approx(trained.loss_after, rel=1e-5)


def core_of(model: Any, adapter: GlobalAdapter) -> dict[str, nn.Parameter]:
    """Make every lora_B be left @ core by torch's own parametrisation; return the cores."""

    class FromCore(nn.Module):
        def __init__(self, left: torch.Tensor) -> None:
            super().__init__()
            self.left = left

        def forward(self, core: torch.Tensor) -> torch.Tensor:
            return self.left @ core

        def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
            return torch.linalg.lstsq(self.left, weight).solution.contiguous()

    layers = dict(model.named_modules())
    cores = {}
    for name, core in adapter.core.items():
        linear = layers[name].lora_B["global"]
        parametrize.register_parametrization(linear, "weight", FromCore(torch.from_numpy(adapter.left[name])))
        original = linear.parametrizations.weight.original
        with torch.no_grad():
            original.copy_(torch.from_numpy(core))
        cores[name] = original.requires_grad_(True)
    return cores


def test_phase_m_is_plain_autograd_on_the_core(
    nano: Base, device: DeviceModel, spec: AdapterSpec, config: TrainConfig, texts: Texts
) -> None:
    adapter = installed(device, "M")
    delta = device.train_global(texts, rank=16, config=replace(config, phase="M"), seed=7).delta
    oracle = DeviceModel(nano, spec)
    oracle.install(adapter.to_safetensors())
    cores = core_of(oracle._branches.model, adapter)
    take_steps(oracle._branches.model, nano, list(cores.values()), config, texts)
    for name, core in cores.items():
        wanted = core.detach().numpy() - adapter.core[name]
        np.testing.assert_allclose(delta[f"{name}.M"], wanted, atol=2e-5)
        assert np.abs(wanted).max() > 1e-3


def take_steps(
    model: Any, base: Base, parameters: list[nn.Parameter], config: TrainConfig, texts: Texts
) -> None:
    """Train the stock way, on the batches that seed 7 gives."""
    shape = {"batch_size": config.batch_size, "seq_len": config.seq_len}
    plan = Plan(parameters=parameters, num_steps=config.num_steps, learning_rate=config.learning_rate)
    run_steps(model, batches(base.tokenizer, texts, seed=(7, DRAW_GLOBAL), **shape), plan)


@pytest.mark.parametrize("phase", ["A", "B", "AB"])
def test_phases_of_lora_factors_are_stock_training_of_those_factors(
    nano: Base, device: DeviceModel, spec: AdapterSpec, config: TrainConfig, texts: Texts, phase: Phase
) -> None:
    adapter = installed(device, phase)
    delta = device.train_global(texts, rank=16, config=replace(config, phase=phase), seed=7).delta
    settings = LoraConfig(r=16, lora_alpha=16, target_modules=spec.config.targets, task_type="CAUSAL_LM")
    any_get: Any = get_peft_model
    with pytest.warns(FutureWarning):
        inner = any_get(copy.deepcopy(nano.model), settings).base_model.model.eval()
    inner.requires_grad_(False)
    layers, start, weights = dict(inner.named_modules()), adapter.values(phase), {}
    for module in spec.modules:
        factors = {"A": layers[module.name].lora_A["default"], "B": layers[module.name].lora_B["default"]}
        held = {"A": adapter.right[module.name], "B": adapter.left[module.name]}
        for factor, linear in factors.items():
            name = f"{module.name}.{factor}"
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(start.get(name, held[factor])))
            if name in start:
                weights[name] = linear.weight.requires_grad_(True)
    take_steps(inner, nano, list(weights.values()), config, texts)
    assert weights.keys() == delta.keys()
    for name, weight in weights.items():
        wanted = weight.detach().numpy() - start[name]
        np.testing.assert_allclose(delta[name], wanted, atol=1e-6)
        assert np.abs(wanted).max() > 1e-3


@pytest.mark.parametrize("phase", PHASES)
def test_whatever_raises_the_installed_adapter_is_back(
    device: DeviceModel, config: TrainConfig, texts: Texts, phase: Phase
) -> None:
    installed(device, phase)
    before = state(device)

    def fail(done: int, total: int, loss: float) -> None:
        raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError, match="power"):
        device.train_global(texts, rank=8, config=replace(config, phase=phase), seed=1, progress=fail)
    assert_same(state(device), before)
    assert not [p for p in device._branches.model.parameters() if p.requires_grad or p.grad is not None]


def test_a_device_may_take_fewer_steps_than_asked(
    nano: Base, spec: AdapterSpec, device: DeviceModel, config: TrainConfig, texts: Texts
) -> None:
    slow = DeviceModel(nano, spec, limits=Limits(max_steps=2))
    trained = slow.train_global(texts, rank=8, config=config, seed=1)
    assert trained.num_steps == 2
    assert trained.num_tokens == 2 * config.batch_size * config.seq_len
    asked = device.train_global(texts, rank=8, config=replace(config, num_steps=2), seed=1)
    assert np.array_equal(trained.delta[f"{NAME}.B"], asked.delta[f"{NAME}.B"])
    assert slow.train_global(texts, rank=8, config=replace(config, num_steps=1), seed=1).num_steps == 1
    with pytest.raises(ConfigError, match="budget"):
        Limits(max_steps=0)
