import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mimo_fed.adapter import shells_mask
from mimo_fed.aggregate import ServerState, advance, fed_nova_scale
from mimo_fed.config import Phase, ServerConfig
from mimo_fed.errors import ConfigError, SpecMismatch
from tests.unit.aggregate.shapes import SPEC, filled, product

PHASES: tuple[Phase, ...] = ("B", "A", "M", "AB")


def means(phase: Phase, *shells: str, seed: int = 1) -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=SPEC.dim(SPEC.shell(name), phase)) for name in shells}


def step(phase: Phase, given: dict[str, NDArray[np.float64]], **settings: Any) -> Any:
    options: dict[str, Any] = {
        "state": ServerState.empty(phase),
        "config": ServerConfig(),
        "next_phase": phase,
    }
    return advance(filled(), phase, given, **(options | settings))


@pytest.mark.parametrize("phase", PHASES)
def test_a_closed_shell_keeps_its_value_and_an_open_one_moves(phase: Phase) -> None:
    after = step(phase, means(phase, "r3-6")).adapter.values(phase)
    opened = shells_mask(SPEC, phase, ["r3-6"])
    for name, before in filled().values(phase).items():
        np.testing.assert_array_equal(after[name][~opened[name]], before[~opened[name]])
        assert (after[name][opened[name]] != before[opened[name]]).all()


@pytest.mark.parametrize("phase", PHASES)
def test_no_open_shell_gives_the_same_adapter(phase: Phase) -> None:
    assert step(phase, {}).adapter.digest() == filled().digest()


@pytest.mark.parametrize("phase", ["B", "A", "M"])
def test_the_rate_and_the_scale_multiply_the_step(phase: Phase) -> None:
    before = product(filled())
    given = means(phase, "r1-2", "r3-6")
    whole = product(step(phase, given).adapter) - before
    part = product(step(phase, given, config=ServerConfig(learning_rate=0.5), scale=0.25).adapter) - before
    np.testing.assert_allclose(part, whole / 8, atol=1e-5)


@pytest.mark.parametrize("phase", PHASES)
def test_another_phase_begins_on_the_basis_of_the_singular_vectors(phase: Phase) -> None:
    other: Phase = "M" if phase != "M" else "B"
    stayed = step(phase, means(phase, "r1-2")).adapter
    moved = step(phase, means(phase, "r1-2"), next_phase=other)
    assert (stayed.epoch, moved.adapter.epoch, moved.state.phase) == (2, 3, other)
    np.testing.assert_allclose(product(moved.adapter), product(stayed), atol=1e-5)
    for factor in moved.adapter.left.values():
        np.testing.assert_allclose(factor.T @ factor, np.eye(6), atol=1e-5)


def test_the_adapter_given_is_left_as_it_is() -> None:
    before = filled()
    digest = before.digest()
    advance(
        before,
        "A",
        means("A", "r1-2"),
        state=ServerState.empty("A"),
        config=ServerConfig(),
        next_phase="M",
    )
    assert before.digest() == digest


def test_the_order_of_the_shells_does_not_matter() -> None:
    given = means("M", "r1-2", "r3-6")
    backwards = dict(reversed(list(given.items())))
    assert step("M", given).adapter.digest() == step("M", backwards).adapter.digest()


def test_what_does_not_fit_is_refused() -> None:
    size = SPEC.dim(SPEC.shell("r1-2"), "B")
    for given in (
        {"r1-5": np.zeros(4)},
        {"r1-2": np.zeros(4)},
        {"r1-2": np.full(size, math.nan)},
        means("A", "r1-2"),
    ):
        with pytest.raises(SpecMismatch):
            step("B", given)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_must_be_positive(scale: float) -> None:
    with pytest.raises(ConfigError):
        step("B", {}, scale=scale)


def test_a_shell_is_scaled_to_the_steps_taken_on_average() -> None:
    # two devices: weight 3 took 2 steps, weight 1 took 8; the round asks for 8
    assert fed_nova_scale(3 * 2 + 1 * 8, 4, 8) == pytest.approx(14 / 4 / 8)
    assert fed_nova_scale(5 * 8, 5, 8) == 1.0


@pytest.mark.parametrize("numbers", [(0.0, 1.0, 4), (1.0, 0.0, 4), (1.0, 1.0, 0), (math.nan, 1.0, 4)])
def test_steps_and_weights_must_be_positive(numbers: tuple[float, float, int]) -> None:
    with pytest.raises(ConfigError):
        fed_nova_scale(*numbers)


def test_normalised_steps_pull_as_far_as_whole_ones() -> None:
    """One device that takes a fourth of the steps: scaled up before the mean, scaled back after it."""
    num_steps, per_step = 8, np.array([1.0, -2.0])
    taken, weights = np.array([2, 8]), np.array([3.0, 1.0])
    sent = [per_step * tau * (num_steps / tau) for tau in taken]
    mean = np.average(sent, axis=0, weights=weights) * fed_nova_scale(
        weights @ taken, weights.sum(), num_steps
    )
    np.testing.assert_allclose(mean, per_step * (weights @ taken) / weights.sum())
