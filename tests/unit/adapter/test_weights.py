"""The values of an adapter: phases, the change of basis, and what stays the same under both.

Shapes: R rank of the adapter.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mimo_fed.adapter import FACTORS, AdapterSpec, GlobalAdapter, Module, basis, left_basis
from mimo_fed.adapter.weights import MAX_EPOCH
from mimo_fed.config import Phase
from mimo_fed.errors import SpecMismatch
from tests.unit.adapter.test_spec import UP, Q, make

SPEC = make()
EXACT: tuple[Phase, ...] = ("B", "A", "M")


def moved(adapter: GlobalAdapter, phase: Phase, seed: int = 3) -> GlobalAdapter:
    """The adapter after a phase that changed every entry."""
    rng = np.random.default_rng(seed)
    values = {
        name: x + rng.normal(size=x.shape).astype(np.float32) for name, x in adapter.values(phase).items()
    }
    return adapter.with_values(phase, values)


def filled(spec: AdapterSpec = SPEC) -> GlobalAdapter:
    """An adapter after one round of phase B."""
    return moved(GlobalAdapter.zero(spec), "B")


def change(adapter: GlobalAdapter, module: str) -> NDArray[np.float64]:
    """dW of a module."""
    left, core, right = (getattr(adapter, side)[module].astype(float) for side in ("left", "core", "right"))
    product: NDArray[np.float64] = left @ core @ right
    return product


def assert_same_change(one: GlobalAdapter, other: GlobalAdapter) -> None:
    for module in one.spec.modules:
        ours, theirs = change(one, module.name), change(other, module.name)
        assert np.linalg.norm(ours - theirs) <= 1e-6 * np.linalg.norm(theirs)


def assert_canonical(adapter: GlobalAdapter) -> None:
    one = np.eye(adapter.spec.config.rank)
    for module in adapter.spec.modules:
        left, right = adapter.left[module.name].astype(float), adapter.right[module.name].astype(float)
        assert np.abs(left.T @ left - one).max() < 1e-6
        assert np.abs(right @ right.T - one).max() < 1e-6
        core = adapter.core[module.name]
        singular = np.diag(core)
        assert not (core - np.diag(singular)).any()
        assert (np.diff(singular) <= 0).all()
        assert (singular >= 0).all()


def test_zero_changes_nothing_and_begins_on_the_factors_of_the_seed() -> None:
    zero = GlobalAdapter.zero(SPEC)
    assert zero.epoch == 0
    assert not any(change(zero, module.name).any() for module in SPEC.modules)
    assert not any(lora_b.any() for lora_b, _ in zero.lora().values())
    np.testing.assert_array_equal(zero.left[Q.name], left_basis(SPEC)[Q.name])
    np.testing.assert_array_equal(zero.right[Q.name], basis(SPEC)[Q.name])


@pytest.mark.parametrize("phase", FACTORS)
def test_a_phase_trains_what_its_name_says(phase: Phase) -> None:
    adapter = moved(filled().canonical(), "M")
    left, core, right = adapter.left[UP.name], adapter.core[UP.name], adapter.right[UP.name]
    expected = {"B": left @ core, "A": right if phase == "AB" else core @ right, "M": core}
    values = adapter.values(phase)
    assert set(values) == {part.name for part in SPEC.parts(phase)}
    for part in SPEC.parts(phase):
        assert values[part.name].shape == (part.rows, part.cols)
        assert values[part.name].dtype == np.float32
        if part.module == UP.name:
            np.testing.assert_allclose(values[part.name], expected[part.factor], atol=1e-5)


@pytest.mark.parametrize("phase", FACTORS)
def test_the_same_values_are_the_same_adapter(phase: Phase) -> None:
    adapter = moved(filled().canonical(), "M")
    again = adapter.with_values(phase, adapter.values(phase))
    assert again.epoch == adapter.epoch
    assert_same_change(again, adapter)


@pytest.mark.parametrize("phase", FACTORS)
def test_new_values_are_read_back_bit_for_bit(phase: Phase) -> None:
    adapter = moved(filled().canonical(), phase)
    values = adapter.values(phase)
    again = adapter.with_values(phase, values).values(phase)
    for name, value in values.items():
        np.testing.assert_array_equal(again[name], value)


def test_a_phase_leaves_the_frozen_factors_alone_bit_for_bit() -> None:
    start = filled().canonical()
    frozen: dict[Phase, tuple[str, ...]] = {"B": ("right",), "A": ("left",), "M": ("left", "right")}
    for phase, sides in frozen.items():
        after = moved(start, phase)
        for side in sides:
            for module in SPEC.modules:
                np.testing.assert_array_equal(
                    getattr(after, side)[module.name], getattr(start, side)[module.name]
                )


@pytest.mark.parametrize("phase", EXACT)
def test_a_step_in_any_phase_is_as_long_as_the_change_of_the_weights(phase: Phase) -> None:
    start = filled().canonical()
    after = moved(start, phase)
    before = start.values(phase)
    for module in SPEC.modules:
        name = f"{module.name}.{phase}"
        step = np.linalg.norm(after.values(phase)[name].astype(float) - before[name])
        length = np.linalg.norm(change(after, module.name) - change(start, module.name))
        assert length == pytest.approx(step, rel=1e-5)


@pytest.mark.parametrize("phase", EXACT)
def test_the_mean_of_values_is_the_mean_of_the_changes_of_the_weights(phase: Phase) -> None:
    start = filled().canonical()
    one, other = moved(start, phase, 4), moved(start, phase, 5)
    middle = {n: (x.astype(float) + other.values(phase)[n]) / 2 for n, x in one.values(phase).items()}
    mean = start.with_values(phase, middle)
    for module in SPEC.modules:
        expected = (change(one, module.name) + change(other, module.name)) / 2
        assert np.linalg.norm(change(mean, module.name) - expected) < 1e-6 * np.linalg.norm(expected)


def test_phase_ab_averages_inexactly() -> None:
    start = filled()
    one, other = moved(start, "AB", 4), moved(start, "AB", 5)
    mean = start.with_values("AB", {n: (x + other.values("AB")[n]) / 2 for n, x in one.values("AB").items()})
    expected = (change(one, UP.name) + change(other, UP.name)) / 2
    assert np.linalg.norm(change(mean, UP.name) - expected) > 0.1 * np.linalg.norm(expected)


@pytest.mark.parametrize("phase", FACTORS)
def test_the_canonical_form_is_the_same_change_on_an_orthonormal_basis(phase: Phase) -> None:
    adapter = moved(filled(), phase)
    canonical = adapter.canonical()
    assert canonical.epoch == adapter.epoch + 1
    assert_canonical(canonical)
    assert_same_change(canonical, adapter)
    for module in SPEC.modules:
        singular = np.linalg.svd(change(adapter, module.name), compute_uv=False)[:16]
        np.testing.assert_allclose(np.diag(canonical.core[module.name]), singular, rtol=1e-5)


def test_directions_that_no_device_trained_are_orthonormal_too() -> None:
    values = {name: value.copy() for name, value in filled().values("B").items()}
    for value in values.values():
        value[:, 4:] = 0
    adapter = GlobalAdapter.zero(SPEC).with_values("B", values)
    canonical = adapter.canonical()
    assert_canonical(canonical)
    assert_same_change(canonical, adapter)
    for core in canonical.core.values():
        assert (np.diag(core)[:4] > 0.1).all()
        assert np.diag(core)[4:].max() < 1e-6


def test_the_canonical_form_of_nothing_is_nothing() -> None:
    canonical = GlobalAdapter.zero(SPEC).canonical()
    assert_canonical(canonical)
    assert not any(core.any() for core in canonical.core.values())


def test_a_module_may_be_as_small_as_the_rank() -> None:
    spec = make((Module("small", 16, 16),))
    adapter = moved(filled(spec), "M")
    assert_canonical(adapter.canonical())
    assert_same_change(adapter.canonical(), adapter)


def test_what_is_mounted_is_the_change_of_the_weights() -> None:
    adapter = moved(filled().canonical(), "M")
    for module, (lora_b, lora_a) in adapter.lora().items():
        expected = change(adapter, module)
        assert np.linalg.norm(lora_b.astype(float) @ lora_a - expected) < 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("epoch", [-1, MAX_EPOCH + 1])
def test_an_epoch_out_of_range_is_refused(epoch: int) -> None:
    with pytest.raises(SpecMismatch, match=str(epoch)):
        replace(filled(), epoch=epoch)


def test_there_is_no_epoch_after_the_last() -> None:
    with pytest.raises(SpecMismatch, match="epoch"):
        replace(filled(), epoch=MAX_EPOCH).canonical()


def with_sides(sides: dict[str, Any]) -> GlobalAdapter:
    return replace(filled(), **sides)


@pytest.mark.parametrize("side", ["left", "core", "right"])
def test_factors_are_checked_when_an_adapter_is_made(side: str) -> None:
    good: dict[str, NDArray[Any]] = getattr(filled(), side)
    one = good[Q.name]
    spoilt = one.copy()
    spoilt[3, 3] = np.nan
    bad = (
        {},
        good | {"x": one},
        *(good | {Q.name: o} for o in (one.astype(float), one[:-1], one.T[:5], spoilt)),
    )
    for factors in bad:
        with pytest.raises(SpecMismatch):
            with_sides({side: factors})


@pytest.mark.parametrize("phase", FACTORS)
def test_values_of_another_phase_or_shape_are_refused(phase: Phase) -> None:
    adapter = filled()
    good = adapter.values(phase)
    one = next(iter(good))
    other = adapter.values("A" if phase == "M" else "M")
    without = {name: value for name, value in good.items() if name != one}
    endless = good | {one: np.full_like(good[one], np.inf)}
    for bad in (other, without, good | {"x": good[one]}, good | {one: good[one][:3]}, endless):
        with pytest.raises(SpecMismatch):
            adapter.with_values(phase, bad)
