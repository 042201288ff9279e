import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from mimo_fed.aggregate import ServerState, advance
from mimo_fed.aggregate.server import check_config, move
from mimo_fed.config import ServerConfig
from mimo_fed.errors import ConfigError, DigestMismatch, SpecMismatch
from tests.unit.aggregate.shapes import SPEC, filled

Optimizer = Literal["fedavg", "fedavgm", "fedadam", "fedyogi"]
OPTIMIZERS: tuple[Optimizer, ...] = ("fedavg", "fedavgm", "fedadam", "fedyogi")
OPEN = np.array([[True, True], [True, False]])
D1 = np.array([[0.5, -2.0], [0.25, 0.0]])
D2 = np.array([[1.0, 1.0], [-0.5, 0.0]])


def two_moves(config: ServerConfig) -> list[NDArray[np.float64]]:
    one = move(D1, OPEN, None, None, config)
    two = move(D2, OPEN, one.first, one.second, config)
    return [one.change, two.change]


def test_fedavg_adds_the_mean() -> None:
    one, two = two_moves(ServerConfig(learning_rate=0.5))
    np.testing.assert_array_equal(one, 0.5 * D1)
    np.testing.assert_array_equal(two, 0.5 * D2)


def test_fedavgm_adds_a_decaying_sum() -> None:
    one, two = two_moves(ServerConfig(optimizer="fedavgm", momentum=0.8, learning_rate=2.0))
    np.testing.assert_allclose(one, 2 * D1)
    np.testing.assert_allclose(two, 2 * (0.8 * D1 + D2))


def test_fedadam_divides_by_the_root_of_the_mean_square() -> None:
    _, two = two_moves(
        ServerConfig(
            optimizer="fedadam", momentum=0.5, second_momentum=0.75, adaptivity=0.1, learning_rate=3.0
        )
    )
    m = 0.5 * 0.5 * D1 + 0.5 * D2
    v = 0.75 * (0.75 * 0.01 + 0.25 * D1**2) + 0.25 * D2**2
    np.testing.assert_allclose(two, np.where(OPEN, 3 * m / (np.sqrt(v) + 0.1), 0))


def test_fedyogi_moves_the_mean_square_by_its_sign_alone() -> None:
    config = ServerConfig(optimizer="fedyogi", second_momentum=0.75, adaptivity=0.1)
    step = move(D1, OPEN, None, np.full((2, 2), 1.0), config)
    assert step.second is not None
    # 0.25 and 0.0625 lie below v = 1: it shrinks by a quarter of them; 4 lies above: it grows by a quarter
    np.testing.assert_allclose(step.second, [[1 - 0.0625, 1 + 1.0], [1 - 0.015625, 1.0]])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_closed_entry_keeps_its_value_and_its_moments(optimizer: Optimizer) -> None:
    config = ServerConfig(optimizer=optimizer)
    first, second = np.full((2, 2), 3.0), np.full((2, 2), 2.0)
    step = move(D1, OPEN, first, second, config)
    assert step.change[1, 1] == 0
    assert step.first is None or (step.first[1, 1] == 3 and step.first[0, 0] != 3)
    assert step.second is None or (step.second[1, 1] == 2 and step.second[0, 1] != 2)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_state_survives_its_bytes_and_goes_on_alike(optimizer: Optimizer) -> None:
    config = ServerConfig(optimizer=optimizer)
    rng = np.random.default_rng(0)
    given = {shell.name: rng.normal(size=SPEC.dim(shell, "A")) for shell in SPEC.shells}
    one = advance(filled(), "A", given, state=ServerState.empty("A"), config=config, next_phase="A")
    again = ServerState.from_bytes(one.state.to_bytes())
    assert again.to_bytes() == one.state.to_bytes()
    assert (again.phase, again.num_steps) == ("A", 1)
    ends = [
        advance(one.adapter, "A", given, state=state, config=config, next_phase="A").adapter.digest()
        for state in (one.state, again, ServerState.empty("A"))
    ]
    assert ends[0] == ends[1]
    assert (ends[0] == ends[2]) == (optimizer == "fedavg")


def test_bytes_of_something_else_are_refused() -> None:
    good = ServerState(phase="B", first={"x": np.zeros((2, 2))}, second={}, num_steps=3).to_bytes()
    for bad in (b"", good[:-3], good.replace(b"first/x", b"third/x"), good.replace(b'"B', b'"Q')):
        with pytest.raises(DigestMismatch):
            ServerState.from_bytes(bad)


def test_moments_of_another_adapter_are_refused() -> None:
    part = SPEC.parts("B")[0]
    good = ServerState(phase="B", first={part.name: np.zeros((part.rows, part.cols))}, second={}, num_steps=1)
    good.check(SPEC)
    for first in ({part.name: np.zeros((2, 2))}, {"nobody.B": np.zeros((2, 2))}):
        with pytest.raises(SpecMismatch):
            replace(good, first=first).check(SPEC)
    with pytest.raises(SpecMismatch, match="finite"):
        replace(good, second={part.name: np.full((part.rows, part.cols), math.nan)}).check(SPEC)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd"},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"momentum": 1.0},
        {"second_momentum": -0.1},
        {"adaptivity": 0.0},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        check_config(replace(ServerConfig(), **settings))
