from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.config import AdapterConfig, Phase, TrainConfig
from mimo_fed.errors import AdapterError, ConfigError, DataError
from mimo_fed.model import Base, DeviceModel, TrainingStopped
from mimo_fed.model.cohort import choose
from tests.unit.model.samples import NAME, assert_same, random_adapter, state

Texts = tuple[str, ...]
OTHER = tuple(f"def field_{n}(self) -> int:\n    return self.value_{n}\n" for n in range(9))


@pytest.fixture(scope="module")
def cohort_spec(nano: Base) -> AdapterSpec:
    """A cohort's adapter may have another rank and other modules than the global one."""
    targets = r"model\.layers\.\d+\.mlp\.(gate|up|down)_proj"
    config = AdapterConfig(rank=8, shells=(4, 8), seed=7, targets=targets)
    return AdapterSpec(base_fingerprint=nano.fingerprint, modules=nano.modules(targets), config=config)


@pytest.fixture
def member(nano: Base, spec: AdapterSpec, cohort_spec: AdapterSpec) -> DeviceModel:
    device = DeviceModel(nano, spec, cohort_spec=cohort_spec)
    device.install(random_adapter(spec, 1).canonical().to_safetensors())
    device.install_cohort(random_adapter(cohort_spec, 2).canonical().to_safetensors())
    return device


@pytest.mark.parametrize(
    ("losses", "current", "chosen"),
    [
        ({"it": 2.0, "fr": 1.0}, None, "fr"),
        ({"it": 2.0, "fr": 1.0}, "it", "fr"),
        ({"it": 1.0, "fr": 0.995}, "it", "it"),
        ({"it": 1.0, "fr": 0.99}, "it", "it"),
        ({"it": 1.0, "fr": 0.9899}, "it", "fr"),
        ({"it": 1.0, "fr": 0.995}, "de", "fr"),
        ({"it": 1.0, "fr": 1.0}, None, "fr"),
        ({"it": math.nan, "fr": 9.0}, "it", "fr"),
        ({"it": math.nan, "fr": math.inf}, "it", "it"),
    ],
)
def test_another_cohort_must_be_better_by_the_margin(
    losses: dict[str, float], current: str | None, chosen: str
) -> None:
    assert choose(losses, current=current, hysteresis=0.01) == chosen
    backwards = dict(reversed(losses.items()))
    assert choose(backwards, current=current, hysteresis=0.01) == chosen


def test_a_choice_needs_cohorts_and_a_margin_that_makes_sense() -> None:
    with pytest.raises(ConfigError, match="no cohort"):
        choose({}, current="it")
    for wrong in (-0.1, math.nan):
        with pytest.raises(ConfigError, match="margin"):
            choose({"it": 1.0}, current=None, hysteresis=wrong)


def test_the_cohort_is_added_to_the_global_adapter_and_taken_away(
    member: DeviceModel, nano: Base, spec: AdapterSpec, cohort_spec: AdapterSpec, texts: Texts
) -> None:
    plain, oracle = DeviceModel(nano, spec), DeviceModel(nano, spec)
    shared, cohort = random_adapter(spec, 1), random_adapter(cohort_spec, 2)
    layers: Any = dict(oracle._branches.model.named_modules())
    for name, factors in [*shared.lora().items(), *cohort.lora().items()]:
        linear = layers[name].base_layer
        weight = linear.weight + torch.from_numpy(np.matmul(*factors))
        linear.weight = torch.nn.Parameter(weight, requires_grad=False)
    assert member.loss(texts, "cohort").nats == pytest.approx(oracle.loss(texts, "base").nats, rel=1e-5)
    assert member.loss(texts, "personal") == member.loss(texts, "cohort")
    assert member.loss(texts, "cohort").nats != pytest.approx(member.loss(texts, "global").nats, rel=1e-4)
    plain.install(shared.canonical().to_safetensors())
    assert member.loss(texts, "global") == plain.loss(texts, "global")
    member.install_cohort(None)
    assert member.cohort_digest is None
    for arm in ("global", "cohort", "personal"):
        assert member.loss(texts, arm) == plain.loss(texts, "global")


@pytest.mark.parametrize("phase", get_args(Phase))
def test_cohort_training_moves_the_cohort_alone_and_moves_back(
    member: DeviceModel, cohort_spec: AdapterSpec, config: TrainConfig, texts: Texts, phase: Phase
) -> None:
    member.train_personal(texts, config=config, seed=1, num_steps=2)
    before = state(member)

    def watch(done: int, total: int, loss: float) -> None:
        now = state(member)
        assert {n.split(".")[-2] for n in now if not (now[n] == before[n]).all()} == {"cohort"}

    settings = replace(config, phase=phase)
    adapter = GlobalAdapter.from_safetensors(
        random_adapter(cohort_spec, 2).canonical().to_safetensors(), cohort_spec
    )
    trained = member.train_cohort(texts, rank=4, config=settings, seed=3, held_out=texts[:4], progress=watch)
    assert_same(state(member), before)
    assert trained.loss_before == pytest.approx(member.loss(texts[:4], "cohort").per_token)
    assert trained.loss_after < trained.loss_before
    values = {name: value.copy() for name, value in adapter.values(phase).items()}
    for part in cohort_spec.parts(phase):
        rows, cols = trained.delta[part.name].shape
        values[part.name][:rows, :cols] += trained.delta[part.name]
    member.install_cohort(adapter.with_values(phase, values).to_safetensors())
    assert member.loss(texts[:4], "cohort").per_token == pytest.approx(trained.loss_after, rel=1e-5)


def test_the_cohort_takes_part_in_half_of_the_global_steps(
    member: DeviceModel, config: TrainConfig, texts: Texts
) -> None:
    found = {
        p: member.train_global(texts, rank=8, config=replace(config, branch_dropout=p), seed=1).delta[
            f"{NAME}.B"
        ]
        for p in (0.0, 0.5, 1.0)
    }
    member.install_cohort(None)
    alone = member.train_global(texts, rank=8, config=config, seed=1).delta[f"{NAME}.B"]
    assert np.array_equal(found[1.0], alone)
    assert not np.array_equal(found[0.0], alone)
    assert not np.array_equal(found[0.5], alone)
    assert not np.array_equal(found[0.5], found[0.0])


def test_the_personal_adapter_acts_on_top_of_the_cohort(
    member: DeviceModel, config: TrainConfig, texts: Texts
) -> None:
    cost = member.loss(texts, "cohort")
    report = member.train_personal(texts, config=config, seed=1, held_out=texts)
    assert report.loss_before == pytest.approx(cost.per_token)
    assert member.pick_lambda(texts) > 0
    assert member.loss(texts, "personal").nats < cost.nats
    assert member.loss(texts, "cohort") == cost


def test_a_device_finds_the_cohort_that_speaks_as_it_does(
    member: DeviceModel, cohort_spec: AdapterSpec, config: TrainConfig, texts: Texts
) -> None:
    zero = GlobalAdapter.zero(cohort_spec)
    candidates = {}
    for name, own in (("trams", texts), ("code", OTHER)):
        member.install_cohort(zero.to_safetensors())
        values = member.train_cohort(own[2:], rank=8, config=config, seed=1).delta
        candidates[name] = zero.with_values("B", values).to_safetensors()
    installed, digest = state(member), member.cohort_digest
    for current in (None, "trams", "code"):
        assert member.choose_cohort(candidates, texts[:2], current=current) == "trams"
        assert member.choose_cohort(candidates, OTHER[:2], current=current) == "code"
        assert (
            member.choose_cohort(candidates, OTHER[:2], current=current, hysteresis=0.9) == current or "code"
        )
    assert_same(state(member), installed)
    assert member.cohort_digest == digest
    member.install_cohort(candidates["code"])
    fresh = member.loss(OTHER, "cohort")
    member.choose_cohort(candidates, OTHER, current=None)
    assert member.loss(OTHER, "cohort") == fresh
    member.install_cohort(None)
    assert member.choose_cohort(candidates, texts[:2], current=None) == "trams"
    assert member.cohort_digest is None
    assert not [name for name in state(member) if ".cohort." in name]


def test_what_a_cohort_cannot_do(
    member: DeviceModel, device: DeviceModel, spec: AdapterSpec, config: TrainConfig, texts: Texts
) -> None:
    before = state(member)
    wrong = random_adapter(spec, 3).to_safetensors()
    with pytest.raises(AdapterError):
        member.install_cohort(wrong)
    with pytest.raises(AdapterError):
        member.choose_cohort({"it": wrong}, texts, current=None)
    with pytest.raises(DataError, match="no text"):
        member.choose_cohort({"it": wrong}, [""], current=None)
    with pytest.raises(ConfigError, match="rank"):
        member.train_cohort(texts, rank=16, config=config, seed=1)
    polls = iter([False, True])
    with pytest.raises(TrainingStopped):
        member.train_cohort(texts, rank=8, config=config, seed=1, stop=lambda: next(polls))
    assert_same(state(member), before)
    for use in (
        lambda: device.install_cohort(wrong),
        lambda: device.choose_cohort({"it": wrong}, texts, current=None),
    ):
        with pytest.raises(ConfigError, match="no cohort"):
            use()
    with pytest.raises(ConfigError, match="no cohort"):
        device.train_cohort(texts, rank=8, config=config, seed=1)


def test_a_cohorts_release_is_tried_in_its_own_branch(
    member: DeviceModel, cohort_spec: AdapterSpec, config: TrainConfig, texts: Texts
) -> None:
    before, cost = state(member), member.loss(texts, "cohort")
    bad = random_adapter(cohort_spec, 9, size=3.0).to_safetensors()
    report = member.trial(bad, texts, loss_bound=0.1, branch="cohort")
    assert not report.ok
    assert report.loss_before == pytest.approx(cost.per_token)
    assert report.loss_after > cost.per_token * 1.1
    overflow = random_adapter(cohort_spec, 9, size=1e36).to_safetensors()
    assert "finite" in member.trial(overflow, texts, loss_bound=0.1, branch="cohort").reason
    assert_same(state(member), before)
    member.install_cohort(None)
    good = random_adapter(cohort_spec, 4).to_safetensors()
    tried = member.trial(good, texts, loss_bound=9.0, branch="cohort")
    assert tried.ok
    assert not [name for name in state(member) if ".cohort." in name]
    member.install_cohort(good)
    assert member.loss(texts, "cohort").per_token == tried.loss_after
