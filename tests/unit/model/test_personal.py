from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

from mimo_fed.adapter import AdapterSpec
from mimo_fed.config import TrainConfig
from mimo_fed.errors import SpecMismatch
from mimo_fed.model import LAMBDAS, DeviceModel
from mimo_fed.model.personal import walk_downhill


@pytest.mark.parametrize("start", [-1.0, 0.0, 0.6, 1.25, 7.0])
@pytest.mark.parametrize("lowest", [-0.4, 0.0, 0.3, 0.49, 0.8, 1.3])
def test_the_walk_finds_the_best_of_a_convex_cost(lowest: float, start: float) -> None:
    asked: list[float] = []

    def cost(scale: float) -> float:
        asked.append(scale)
        return (scale - lowest) ** 2

    found = walk_downhill(LAMBDAS, cost, start=start)
    assert found == min(LAMBDAS, key=lambda scale: (scale - lowest) ** 2)
    assert 0.0 in asked
    assert len(asked) == len(set(asked))


def test_zero_wins_where_the_walk_is_led_astray_and_where_all_is_equal() -> None:
    bumpy = dict(zip(LAMBDAS, (1.0, 9.0, 5.0, 4.0, 3.0, 2.0), strict=True))
    assert walk_downhill(LAMBDAS, bumpy.__getitem__, start=1.0) == 0.0
    assert walk_downhill(LAMBDAS, lambda scale: 1.0, start=1.0) == 0.0


def test_a_share_of_no_cost_at_all_is_never_taken() -> None:
    nan = float("nan")
    assert walk_downhill(LAMBDAS, lambda scale: nan if scale else 3.0, start=1.0) == 0.0
    assert walk_downhill(LAMBDAS, lambda scale: nan, start=1.0) == 0.0


def test_training_that_comes_to_no_number_leaves_the_personal_adapter_as_it_was(
    device: DeviceModel, config: TrainConfig, texts: tuple[str, ...]
) -> None:
    before = trained(device, config, texts)
    wild = replace(config, personal_learning_rate=1e30)
    with pytest.raises(SpecMismatch, match="not finite"):
        device.train_personal(texts, config=wild, seed=2, num_steps=3)
    assert device.personal_bytes() == before


def trained(device: DeviceModel, config: TrainConfig, texts: tuple[str, ...]) -> bytes:
    device.train_personal(texts, config=config, seed=2, num_steps=3)
    device.pick_lambda(texts[:4])
    return device.personal_bytes()


def test_the_personal_adapter_survives_a_restart(
    nano: object, spec: AdapterSpec, device: DeviceModel, config: TrainConfig, texts: tuple[str, ...]
) -> None:
    data = trained(device, config, texts)
    other = DeviceModel(device.base, spec)
    other.load_personal(data)
    assert other.personal_scale == device.personal_scale > 0
    assert other.loss(texts, "personal") == device.loss(texts, "personal")
    assert other.loss(texts, "personal").nats < other.loss(texts, "global").nats
    assert other.personal_bytes() == data


def test_no_personal_adapter_is_a_state_that_can_be_stored(
    spec: AdapterSpec, device: DeviceModel, config: TrainConfig, texts: tuple[str, ...]
) -> None:
    empty = device.personal_bytes()
    before = device.loss(texts, "global")
    trained(device, config, texts)
    device.load_personal(empty)
    assert device.personal_scale == 0
    assert device.loss(texts, "personal") == before
    assert device.pick_lambda(texts) == 0


@pytest.mark.parametrize("lie", ["garbage", "cut", "base", "shape", "nan", "name", "note"])
def test_a_damaged_personal_adapter_changes_nothing(
    spec: AdapterSpec, device: DeviceModel, config: TrainConfig, texts: tuple[str, ...], lie: str
) -> None:
    data = trained(device, config, texts)
    before = device.loss(texts, "personal")
    tensors = load(data)
    note = {"base_fingerprint": spec.base_fingerprint, "rank": config.personal_rank, "scale": 1.0}
    name = next(iter(tensors))
    match lie:
        case "base":
            note["base_fingerprint"] = "0" * 64
        case "shape":
            tensors[name] = torch.zeros(3, 3)
        case "nan":
            tensors[name] = tensors[name] * float("nan")
        case "name":
            tensors["extra"] = torch.zeros(1)
        case "note":
            del note["rank"]
    bad = save(tensors, metadata={"mimo_fed_personal": json.dumps(note)})
    bad = {"garbage": b"garbage", "cut": data[:-4]}.get(lie, bad)
    with pytest.raises(SpecMismatch):
        device.load_personal(bad)
    assert device.loss(texts, "personal") == before
