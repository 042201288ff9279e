from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, to_peft
from mimo_fed.config import TrainConfig
from mimo_fed.errors import AdapterError, ConfigError, DataError, SpecMismatch
from mimo_fed.model import Base, DeviceModel, TrainingStopped, load_base
from tests.unit.model.samples import NAME, assert_same, random_adapter, state

Texts = tuple[str, ...]


def test_it_starts_as_the_base(device: DeviceModel, spec: AdapterSpec, texts: Texts) -> None:
    assert device.installed_digest == GlobalAdapter.zero(spec).digest()
    base = device.loss(texts, "base")
    assert device.loss(texts, "global").nats == pytest.approx(base.nats, rel=1e-6)
    assert device.loss(texts, "personal").nats == pytest.approx(base.nats, rel=1e-6)


def test_an_installed_adapter_computes_w_plus_its_product(
    device: DeviceModel, spec: AdapterSpec, texts: Texts
) -> None:
    adapter = random_adapter(spec, 1).canonical()
    device.install(adapter.to_safetensors())
    assert device.installed_digest == adapter.digest()
    model: Any = DeviceModel(device.base, spec)._branches.model
    weights = dict(model.named_modules())
    shared = {name: weights[name].base_layer.weight for name in adapter.core}
    merged: Any = DeviceModel(device.base, spec)
    layers = dict(merged._branches.model.named_modules())
    for name, core in adapter.core.items():
        change = torch.from_numpy(adapter.left[name] @ core @ adapter.right[name])
        layers[name].base_layer.weight = torch.nn.Parameter(shared[name] + change, requires_grad=False)
    assert merged.loss(texts, "base").nats == pytest.approx(device.loss(texts, "global").nats, rel=1e-5)
    assert device.loss(texts, "base").nats != pytest.approx(device.loss(texts, "global").nats, rel=1e-3)


def test_stock_peft_serves_the_same_function(
    device: DeviceModel, spec: AdapterSpec, texts: Texts, tmp_path: Path
) -> None:
    import copy
    import json

    from peft import PeftModel

    from mimo_fed.model.loss import measure

    adapter = random_adapter(spec, 2).canonical()
    device.install(adapter.to_safetensors())
    tensors, settings = to_peft(adapter)
    (tmp_path / "adapter_model.safetensors").write_bytes(tensors)
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.warns(FutureWarning):
        stock = PeftModel.from_pretrained(copy.deepcopy(device.base.model), tmp_path)
    inner: Any = stock.base_model.model
    cost = measure(inner.eval(), device.base.tokenizer, texts)
    assert cost.nats == pytest.approx(device.loss(texts, "global").nats, rel=1e-6)
    rows = torch.arange(40).reshape(2, 20)
    mounted: Any = device._branches.model
    with torch.inference_mode():
        assert torch.equal(inner(input_ids=rows).logits, mounted(input_ids=rows).logits)


@pytest.mark.parametrize("lie", ["garbage", "cut", "other base", "nan"])
def test_a_bad_release_is_refused_before_anything_moves(
    device: DeviceModel, spec: AdapterSpec, lie: str
) -> None:
    device.install(random_adapter(spec, 3).to_safetensors())
    before, digest = state(device), device.installed_digest
    good = random_adapter(spec, 4).to_safetensors()
    if lie == "nan":
        bad = random_adapter(spec, 4)
        bad.left["model.layers.1.mlp.down_proj"][3, 2] = np.nan
        data = bad.to_safetensors()
    else:
        other = replace(spec, base_fingerprint="0" * 64)
        data = {
            "garbage": b"\x00" * 99,
            "cut": good[:-9],
            "other base": GlobalAdapter.zero(other).to_safetensors(),
        }[lie]
    with pytest.raises(AdapterError):
        device.install(data)
    assert not device.trial(data, [], loss_bound=0.1).ok
    assert device.installed_digest == digest
    assert_same(state(device), before)


def test_a_spec_for_another_base_is_refused(nano: Base, spec: AdapterSpec) -> None:
    with pytest.raises(SpecMismatch, match="another base"):
        DeviceModel(nano, replace(spec, base_fingerprint="0" * 64))
    wrong = (spec.modules[0]._replace(out=99), *spec.modules[1:])
    with pytest.raises(SpecMismatch, match="no such linear"):
        DeviceModel(nano, replace(spec, modules=wrong))


def test_training_is_fixed_by_its_seed(device: DeviceModel, config: TrainConfig, texts: Texts) -> None:
    device.train_personal(texts, config=config, seed=1, num_steps=2)
    first, same, other = (device.train_global(texts, rank=8, config=config, seed=s).delta for s in (1, 1, 2))
    name = f"{NAME}.B"
    assert np.array_equal(first[name], same[name])
    assert not np.array_equal(first[name], other[name])


def test_branch_dropout_decides_whether_the_personal_branch_takes_part(
    device: DeviceModel, config: TrainConfig, texts: Texts
) -> None:
    name = f"{NAME}.B"
    settings = {p: replace(config, branch_dropout=p) for p in (0.0, 0.5, 1.0)}
    without = device.train_global(texts, rank=8, config=settings[0.0], seed=1).delta[name]
    device.train_personal(texts, config=config, seed=1)
    deltas = {
        p: device.train_global(texts, rank=8, config=c, seed=1).delta[name] for p, c in settings.items()
    }
    assert np.array_equal(deltas[1.0], without)
    assert not np.array_equal(deltas[0.0], without)
    assert not np.array_equal(deltas[0.5], without)
    assert not np.array_equal(deltas[0.5], deltas[0.0])


def test_personal_training_moves_only_the_personal_branch(
    device: DeviceModel, spec: AdapterSpec, config: TrainConfig, texts: Texts
) -> None:
    device.install(random_adapter(spec, 6).to_safetensors())
    before, cost = state(device), device.loss(texts, "global")
    report = device.train_personal(texts[:9], config=config, seed=1, held_out=texts[9:])
    assert report.loss_after < report.loss_before == pytest.approx(device.loss(texts[9:], "global").per_token)
    assert {
        name: tensor for name, tensor in state(device).items() if ".personal." not in name
    }.keys() == before.keys()
    assert_same({n: t for n, t in state(device).items() if ".personal." not in n}, before)
    assert device.loss(texts, "global") == cost
    assert device.pick_lambda(texts[9:]) > 0
    assert device.loss(texts[9:], "personal").nats <= device.loss(texts[9:], "global").nats


def test_a_stop_leaves_everything_as_it_was(
    device: DeviceModel, spec: AdapterSpec, config: TrainConfig, texts: Texts
) -> None:
    device.install(random_adapter(spec, 7).to_safetensors())
    before = state(device)
    for stop_first_personal in (True, False):
        polls = iter([False, False, True])
        with pytest.raises(TrainingStopped) as caught:
            device.train_personal(texts, config=config, seed=1, stop=lambda polls=polls: next(polls))
        assert caught.value.code == "train.stopped"
        assert_same(state(device), before)
        polls = iter([False, False, True])
        with pytest.raises(TrainingStopped):
            device.train_global(texts, rank=8, config=config, seed=1, stop=lambda polls=polls: next(polls))
        assert_same(state(device), before)
        if stop_first_personal:
            device.train_personal(texts, config=config, seed=1, num_steps=2)
            assert device.pick_lambda(texts) > 0
            before = state(device)
    assert device.personal_scale > 0


def test_no_text_and_a_rank_out_of_range_are_errors(
    device: DeviceModel, config: TrainConfig, texts: Texts
) -> None:
    before = state(device)
    with pytest.raises(DataError):
        device.train_personal([], config=config, seed=1)
    with pytest.raises(DataError):
        device.train_personal([], config=config, seed=1, held_out=texts)
    with pytest.raises(DataError):
        device.train_global([""], rank=4, config=config, seed=1)
    for rank in (0, 17):
        with pytest.raises(ConfigError, match="rank"):
            device.train_global(texts, rank=rank, config=config, seed=1)
    assert_same(state(device), before)


def test_two_devices_share_a_base_and_nothing_else(
    nano: Base, spec: AdapterSpec, config: TrainConfig, texts: Texts
) -> None:
    one, two = DeviceModel(nano, spec), DeviceModel(nano, spec)
    cost = two.loss(texts, "personal")
    one.install(random_adapter(spec, 8).to_safetensors())
    one.train_personal(texts, config=config, seed=1, num_steps=2)
    assert two.loss(texts, "personal") == cost
    assert not [name for name, _ in nano.model.named_parameters() if "lora" in name]
    weights = [
        {p.data_ptr() for n, p in d._branches.model.named_parameters() if "lora" not in n} for d in (one, two)
    ]
    assert weights[0] == weights[1] == {p.data_ptr() for p in nano.model.parameters()}


def test_a_trial_passes_what_helps_and_refuses_what_harms(
    device: DeviceModel, spec: AdapterSpec, config: TrainConfig, texts: Texts
) -> None:
    before = state(device)
    trained = device.train_global(texts, rank=16, config=config, seed=1)
    good = device.trial(
        GlobalAdapter.zero(spec).with_values("B", trained.delta).to_safetensors(), texts, loss_bound=0.0
    )
    assert good.ok
    assert good.reason == ""
    assert good.loss_after < good.loss_before == pytest.approx(device.loss(texts, "global").per_token)
    bad = device.trial(random_adapter(spec, 9, size=3.0).to_safetensors(), texts, loss_bound=0.1)
    assert not bad.ok
    assert "above" in bad.reason
    assert bad.loss_after > bad.loss_before * 1.1
    overflow = device.trial(random_adapter(spec, 9, size=1e36).to_safetensors(), texts, loss_bound=0.1)
    assert not overflow.ok
    assert "finite" in overflow.reason
    assert device.trial(random_adapter(spec, 9).to_safetensors(), [], loss_bound=0.0).ok
    assert_same(state(device), before)


def test_a_remembered_cost_is_the_cost_of_what_is_in_place(
    nano: Base, spec: AdapterSpec, config: TrainConfig, texts: Texts
) -> None:
    device = DeviceModel(nano, spec)
    release = random_adapter(spec, 10).to_safetensors()
    report = device.trial(release, texts, loss_bound=9.0)
    device.install(release)
    device.train_personal(texts, config=config, seed=1, num_steps=2)
    device.loss(texts, "personal")
    device.train_personal(texts, config=config, seed=2, num_steps=2)
    fresh = DeviceModel(nano, spec)
    fresh.install(release)
    fresh.load_personal(device.personal_bytes())
    for arm in ("base", "global", "personal"):
        assert device.loss(texts, arm) == fresh.loss(texts, arm)
    assert report.loss_after == fresh.loss(texts, "global").per_token
    device.pick_lambda(texts)
    fresh.load_personal(device.personal_bytes())
    assert device.loss(texts, "personal") == fresh.loss(texts, "personal")


def test_a_bfloat16_base_learns_nearly_the_same_in_float32(
    device: DeviceModel, spec: AdapterSpec, config: TrainConfig, texts: Texts
) -> None:
    low = DeviceModel(load_base("mimo-nano", dtype="bfloat16"), spec)
    assert low.base.fingerprint == device.base.fingerprint
    deltas = []
    for one in (device, low):
        one.train_personal(texts, config=config, seed=1)
        delta = one.train_global(texts, rank=8, config=config, seed=1).delta
        assert {factor.dtype for factor in delta.values()} == {np.dtype(np.float32)}
        deltas.append(np.concatenate([delta[part.name].ravel() for part in spec.parts("B")]))
    full, short = deltas
    assert full @ short / np.linalg.norm(full) / np.linalg.norm(short) > 0.9
