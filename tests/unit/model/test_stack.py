"""Many devices at once get what each of them would get alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.config import Phase, TrainConfig
from mimo_fed.errors import ConfigError, DataError, SpecMismatch
from mimo_fed.model import Base, DeviceModel
from mimo_fed.model.personal import from_bytes, to_bytes
from mimo_fed.model.stack import Job, Personal, StackedModel

Texts = tuple[str, ...]
PHASES: tuple[Phase, ...] = ("B", "A", "M", "AB")


def random_adapter(spec: AdapterSpec, seed: int, size: float = 0.05) -> GlobalAdapter:
    generator = np.random.default_rng(seed)
    values = {
        part.name: generator.normal(0, size, (part.rows, part.cols)).astype(np.float32)
        for part in spec.parts("B")
    }
    return GlobalAdapter.zero(spec).with_values("B", values).canonical()


def random_personal(spec: AdapterSpec, seed: int, rank: int, scale: float) -> Personal:
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return generator.normal(0, 0.1, shape).astype(np.float32)

    factors = {m.name: (draw(m.out, rank), draw(rank, m.inp)) for m in spec.modules}
    return Personal(factors=factors, scale=scale)


@pytest.fixture(scope="module")
def small(config: TrainConfig) -> TrainConfig:
    return replace(config, num_steps=3, num_personal_steps=3, seq_len=24)


@pytest.fixture(scope="module")
def cohorts(spec: AdapterSpec) -> tuple[GlobalAdapter, GlobalAdapter]:
    shape = replace(spec, config=replace(spec.config, rank=4, shells=(2, 4)))
    return random_adapter(shape, 30), random_adapter(shape, 31)


@pytest.fixture(scope="module")
def adapter(spec: AdapterSpec) -> GlobalAdapter:
    return random_adapter(spec, 10)


@pytest.fixture(scope="module")
def jobs(spec: AdapterSpec, texts: Texts, cohorts: tuple[GlobalAdapter, GlobalAdapter]) -> list[Job]:
    return [
        Job(texts=texts[:3], seed=1, rank=4, num_steps=2, personal=None, cohort=None),
        Job(
            texts=texts[3:], seed=2, rank=16, num_steps=3,
            personal=random_personal(spec, 20, 2, 0.75), cohort=None,
        ),
        Job(texts=texts[:9], seed=3, rank=8, num_steps=1, personal=None, cohort=cohorts[0]),
        Job(
            texts=texts[5:6], seed=4, rank=16, num_steps=3,
            personal=random_personal(spec, 21, 5, 1.0), cohort=cohorts[1],
        ),
        Job(texts=texts, seed=5, rank=4, num_steps=0, personal=None, cohort=cohorts[0]),
    ]  # fmt: skip


def alone(base: Base, adapter: GlobalAdapter, job: Job) -> DeviceModel:
    """A device model that holds what the job says."""
    cohort = job.cohort
    device = DeviceModel(base, adapter.spec, cohort_spec=cohort.spec if cohort else None)
    device.install(adapter.to_safetensors())
    if cohort is not None:
        device.install_cohort(cohort.to_safetensors())
    if job.personal is not None:
        load_personal(device, job.personal)
    return device


def load_personal(device: DeviceModel, personal: Personal) -> None:
    from mimo_fed.model.personal import restore

    tensors = {}
    for name, (b, a) in personal.factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.from_numpy(a)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.from_numpy(b)
    restore(device._branches, tensors, personal.scale)


def held_personal(device: DeviceModel, spec: AdapterSpec) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    tensors, _ = from_bytes(to_bytes(device._branches, spec), spec)
    return {
        m.name: (
            tensors[f"base_model.model.{m.name}.lora_B.weight"].numpy(),
            tensors[f"base_model.model.{m.name}.lora_A.weight"].numpy(),
        )
        for m in spec.modules
    }


def assert_same_deltas(
    got: dict[str, np.ndarray], want: dict[str, np.ndarray], learning_rate: float, moved: bool = True
) -> None:
    """AdamW moves an entry by up to the learning rate, however small its gradient: compare with that."""
    assert set(got) == set(want)
    assert any(np.abs(values).max() > learning_rate / 2 for values in want.values()) is moved
    for name, values in want.items():
        assert got[name].shape == values.shape
        assert got[name].dtype == np.float32
        assert np.abs(got[name] - values).mean() < 2e-3 * learning_rate, name
        np.testing.assert_allclose(got[name], values, rtol=0, atol=0.2 * learning_rate, err_msg=name)


@pytest.mark.parametrize("phase", PHASES)
def test_shared_deltas_are_those_of_devices_alone(
    nano: Base, adapter: GlobalAdapter, jobs: list[Job], small: TrainConfig, phase: Phase
) -> None:
    config = replace(small, phase=phase)
    wanted = [
        alone(nano, adapter, job).train_global(
            job.texts, rank=job.rank, config=replace(config, num_steps=job.num_steps), seed=job.seed
        )
        for job in jobs
    ]
    for tokens_per_pass in (100, 4096):
        stack = StackedModel(nano, adapter.spec, tokens_per_pass=tokens_per_pass)
        for job, got, want in zip(jobs, stack.train_shared(adapter, jobs, config), wanted, strict=True):
            assert got.num_tokens == want.num_tokens
            assert_same_deltas(got.delta, want.delta, config.learning_rate, moved=job.num_steps > 0)


@pytest.mark.parametrize("phase", PHASES)
def test_shared_deltas_are_the_same_where_thin_products_are_added(
    nano: Base, adapter: GlobalAdapter, jobs: list[Job], small: TrainConfig, phase: Phase
) -> None:
    config = replace(small, phase=phase, batch_size=1, seq_len=12)
    trained = StackedModel(nano, adapter.spec).train_shared(adapter, jobs, config)
    for job, got in zip(jobs, trained, strict=True):
        want = alone(nano, adapter, job).train_global(
            job.texts, rank=job.rank, config=replace(config, num_steps=job.num_steps), seed=job.seed
        )
        assert_same_deltas(got.delta, want.delta, config.learning_rate, moved=job.num_steps > 0)


@pytest.mark.parametrize("phase", ["B", "M"])
def test_cohort_deltas_are_those_of_devices_alone(
    nano: Base, adapter: GlobalAdapter, jobs: list[Job], small: TrainConfig, phase: Phase
) -> None:
    config = replace(small, phase=phase)
    chosen = [replace(job, rank=rank) for job, rank in zip(jobs[2:], (2, 4, 4), strict=True)]
    chosen[0] = replace(chosen[0], personal=jobs[1].personal, num_steps=2)
    trained = StackedModel(nano, adapter.spec).train_shared(adapter, chosen, config, train="cohort")
    for job, got in zip(chosen, trained, strict=True):
        want = alone(nano, adapter, job).train_cohort(
            job.texts, rank=job.rank, config=replace(config, num_steps=job.num_steps), seed=job.seed
        )
        assert_same_deltas(got.delta, want.delta, config.learning_rate, moved=job.num_steps > 0)


def test_the_first_loss_is_that_of_the_first_batch(
    nano: Base, adapter: GlobalAdapter, jobs: list[Job], small: TrainConfig
) -> None:
    config = replace(small, branch_dropout=1.0)
    seen: list[tuple[int, int]] = []
    trained = StackedModel(nano, adapter.spec, tokens_per_pass=100).train_shared(
        adapter, jobs, config, progress=lambda done, total, nats: seen.append((done, total))
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (9, 9)
    for job, got in zip(jobs[:4], trained, strict=False):
        want = alone(nano, adapter, job).train_global(job.texts, rank=4, config=config, seed=job.seed)
        assert got.first_loss == pytest.approx(want.loss_before, rel=1e-5)
    assert trained[4].first_loss == 0


def test_personal_adapters_are_those_of_devices_alone(
    nano: Base, adapter: GlobalAdapter, jobs: list[Job], small: TrainConfig
) -> None:
    """A decay that would be missed: without it the factors differ by ten times the tolerance."""
    config = replace(small, personal_weight_decay=10.0, personal_rank=3)
    trained = StackedModel(nano, adapter.spec).train_personal(adapter, jobs, config, num_steps=3)
    for job, got in zip(jobs, trained, strict=True):
        device = alone(nano, adapter, job)
        device.train_personal(job.texts, config=config, seed=job.seed, num_steps=3)
        want = held_personal(device, adapter.spec)
        assert got.scale == device.personal_scale == 1
        for name, pair in want.items():
            for one, other in zip(got.factors[name], pair, strict=True):
                np.testing.assert_allclose(one, other, rtol=0, atol=0.2 * config.personal_learning_rate)
    assert [next(iter(got.factors.values()))[1].shape[0] for got in trained] == [3, 2, 3, 5, 3]
    untouched = random_personal(adapter.spec, 20, 2, 0.75)
    assert jobs[1].personal is not None
    for name, (b, a) in untouched.factors.items():
        assert np.array_equal(jobs[1].personal.factors[name][0], b)
        assert np.array_equal(jobs[1].personal.factors[name][1], a)


def test_products_are_what_both_factors_became(
    nano: Base, adapter: GlobalAdapter, jobs: list[Job], small: TrainConfig
) -> None:
    stack = StackedModel(nano, adapter.spec)
    products = stack.train_product(adapter, jobs, small)
    deltas = stack.train_shared(adapter, jobs, replace(small, phase="AB"))
    start = adapter.lora()
    for job, factors, trained in zip(jobs, products, deltas, strict=True):
        for name, (b, a) in factors.items():
            assert b.shape == start[name][0].shape
            assert a.shape == start[name][1].shape
            want_b, want_a = start[name][0].copy(), start[name][1].copy()
            want_b[:, : job.rank] += trained.delta[f"{name}.B"]
            want_a[: job.rank] += trained.delta[f"{name}.A"]
            np.testing.assert_allclose(b, want_b, atol=1e-6)
            np.testing.assert_allclose(a, want_a, atol=1e-6)


def test_losses_are_those_of_devices_alone(
    nano: Base, adapter: GlobalAdapter, jobs: list[Job], texts: Texts
) -> None:
    texts_per_device = [texts[:2], texts[2:7], [], [" ".join(texts)], ["é", "", texts[0]]]
    cohorts, personals = [job.cohort for job in jobs], [job.personal for job in jobs]
    wanted = [
        alone(nano, adapter, job).loss(own, "personal")
        for own, job in zip(texts_per_device, jobs, strict=True)
    ]
    start = DeviceModel(nano, adapter.spec).loss(texts[:2], "base").nats
    for tokens_per_pass in (60, 4096):
        stack = StackedModel(nano, adapter.spec, tokens_per_pass=tokens_per_pass)
        got = stack.losses(texts_per_device, adapter, cohorts, personals)
        for loss, want in zip(got, wanted, strict=True):
            assert (loss.tokens, loss.num_bytes) == (want.tokens, want.num_bytes)
            assert loss.nats == pytest.approx(want.nats, rel=1e-5)
        bare = stack.losses(texts_per_device, None, [None] * 5, [None] * 5)
        assert bare[0].nats == pytest.approx(start, rel=1e-5)
        assert bare[0].nats != pytest.approx(got[0].nats, rel=1e-3)


def test_the_base_is_left_as_it_was(
    nano: Base, adapter: GlobalAdapter, jobs: list[Job], small: TrainConfig
) -> None:
    before = {name: tensor.clone() for name, tensor in nano.model.state_dict().items()}
    stack = StackedModel(nano, adapter.spec)
    first = stack.train_shared(adapter, jobs, small)
    stack.train_personal(adapter, jobs, small, num_steps=1)
    stack.losses([["a text"]], adapter, [None], [None])
    again = stack.train_shared(adapter, jobs, small)
    for name, tensor in nano.model.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert not tensor.requires_grad
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(one.delta[name], other.delta[name]) for name in one.delta)


def test_what_does_not_fit_is_refused(
    nano: Base, adapter: GlobalAdapter, jobs: list[Job], small: TrainConfig
) -> None:
    spec = adapter.spec
    with pytest.raises(SpecMismatch, match="another base"):
        StackedModel(nano, replace(spec, base_fingerprint="0" * 64))
    half = replace(nano, model=copy.deepcopy(nano.model).to(torch.bfloat16))
    with pytest.raises(ConfigError, match="float32"):
        StackedModel(half, spec)
    stack = StackedModel(nano, replace(spec, modules=spec.modules[:3]))
    with pytest.raises(SpecMismatch, match="no branch"):
        stack.train_shared(adapter, jobs[:1], small)
    stack = StackedModel(nano, spec)
    with pytest.raises(ConfigError, match="rank"):
        stack.train_shared(adapter, [replace(jobs[0], rank=17)], small)
    with pytest.raises(ConfigError, match="no cohort"):
        stack.train_shared(adapter, jobs[:1], small, train="cohort")
    with pytest.raises(DataError, match="no text"):
        stack.train_shared(adapter, [replace(jobs[0], texts=())], small)
    assert stack.train_shared(adapter, [], small) == []
    assert stack.losses([], adapter, [], []) == []


def test_passes_deal_devices_evenly_and_the_longest_first(jobs: Sequence[Job]) -> None:
    from mimo_fed.model.stacked_jobs import passes

    dealt = list(passes(list(enumerate(jobs)), 4))
    assert [[index for index, _ in one] for one in dealt] == [[1, 3, 0], [2, 4]]
    assert list(passes([], 4)) == []
