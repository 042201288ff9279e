from itertools import product as pairs

import numpy as np
import pytest
from numpy.typing import NDArray

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.aggregate import ServerState, advance, project
from mimo_fed.config import Phase, ServerConfig
from tests.unit.aggregate.shapes import SPEC, filled

PHASES: tuple[Phase, ...] = ("B", "A", "M")
Moments = dict[str, NDArray[np.float64]]


def random_moments(phase: Phase, seed: int = 4) -> Moments:
    rng = np.random.default_rng(seed)
    return {part.name: rng.normal(size=(part.rows, part.cols)) for part in SPEC.parts(phase)}


def direction(moments: Moments, adapter: GlobalAdapter, phase: Phase, module: str) -> NDArray[np.float64]:
    """The out x inp direction that the code never forms."""
    moment, left, right = moments[f"{module}.{phase}"], adapter.left[module], adapter.right[module]
    if phase == "B":
        return moment @ right
    return left @ moment if phase == "A" else left @ moment @ right


@pytest.mark.parametrize(("old_phase", "phase"), list(pairs(PHASES, PHASES)))
def test_a_moment_becomes_the_nearest_that_the_next_phase_can_say(old_phase: Phase, phase: Phase) -> None:
    old = filled()
    new = old.canonical()
    given = random_moments(old_phase)
    got = project(given, old, old_phase, new, phase)
    assert {name: m.shape for name, m in got.items()} == {
        part.name: (part.rows, part.cols) for part in SPEC.parts(phase)
    }
    for module in old.left:
        wanted = direction(given, old, old_phase, module)
        left = new.left[module] @ new.left[module].T if phase in "AM" else np.eye(len(wanted))
        right = new.right[module].T @ new.right[module] if phase in "BM" else np.eye(wanted.shape[1])
        np.testing.assert_allclose(direction(got, new, phase, module), left @ wanted @ right, atol=1e-5)


def test_a_direction_that_the_next_phase_can_say_is_kept_whole() -> None:
    old = filled()
    new = old.canonical()
    given = random_moments("M")
    for phase in PHASES:
        got = project(given, old, "M", new, phase)
        for module in old.left:
            there, here = direction(got, new, phase, module), direction(given, old, "M", module)
            np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-4)


def test_nothing_is_carried_to_or_from_fedit() -> None:
    new = filled().canonical()
    assert project(random_moments("AB"), filled(), "AB", new, "M") == {}
    assert project(random_moments("M"), filled(), "M", new, "AB") == {}


def test_a_missing_moment_stays_missing() -> None:
    given = random_moments("B")
    first = next(iter(given))
    got = project({first: given[first]}, filled(), "B", filled().canonical(), "A")
    assert list(got) == [SPEC.parts("A")[0].name]


def test_momentum_goes_on_in_the_next_phase_and_squares_begin_anew() -> None:
    config = ServerConfig(optimizer="fedadam")
    rng = np.random.default_rng(0)
    given = {shell.name: rng.normal(size=SPEC.dim(shell, "B")) for shell in SPEC.shells}
    empty = ServerState.empty("B")
    stayed = advance(filled(), "B", given, state=empty, config=config, next_phase="B")
    moved = advance(filled(), "B", given, state=empty, config=config, next_phase="A")
    assert stayed.state.second
    assert not moved.state.second
    wanted = project(stayed.state.first, stayed.adapter, "B", moved.adapter, "A")
    for name, moment in moved.state.first.items():
        np.testing.assert_array_equal(moment, wanted[name])


def test_moments_of_another_phase_are_projected_before_the_step() -> None:
    """The schedule was changed between two rounds."""
    adapter = filled().canonical()
    state = ServerState(phase="M", first=random_moments("M"), second={}, num_steps=5)
    config = ServerConfig(optimizer="fedavgm", momentum=0.5)
    given = {shell.name: np.zeros(SPEC.dim(shell, "B")) for shell in SPEC.shells}
    after = advance(adapter, "B", given, state=state, config=config, next_phase="B")
    for module in adapter.left:
        before = adapter.values("B")[f"{module}.B"] @ adapter.right[module]
        moved = after.adapter.values("B")[f"{module}.B"] @ after.adapter.right[module]
        wanted = 0.5 * direction(random_moments("M"), adapter, "M", module)
        np.testing.assert_allclose(moved - before, wanted, atol=1e-4)
