import numpy as np
import pytest

from mimo_fed.adapter import Module, delta_to_shells, shell_to_delta
from mimo_fed.errors import SpecMismatch
from tests.unit.adapter.test_spec import UP, Q, make

TINY = make((Module("a", 2, 5), Module("b", 1, 5)), rank=3, shells=(1, 3))


def test_the_layout_is_module_by_module_and_row_by_row() -> None:
    delta = {
        "b": np.array([[70, 80, 90]], np.float32),
        "a": np.array([[1, 2, 3], [4, 5, 6]], np.float32),
    }
    vectors = delta_to_shells(TINY, delta, 3)
    assert vectors["r1-1"].tolist() == [1, 4, 70]
    assert vectors["r2-3"].tolist() == [2, 3, 5, 6, 80, 90]


def test_a_small_device_sends_only_its_shells() -> None:
    vectors = delta_to_shells(make(), {m.name: np.ones((m.out, 4), np.float32) for m in (Q, UP)}, 4)
    assert list(vectors) == ["r1-4"]
    assert vectors["r1-4"].dtype == np.float32


def test_a_shell_goes_back_to_matrices() -> None:
    rng = np.random.default_rng(1)
    delta = {m.name: rng.normal(size=(m.out, 16)).astype(np.float32) for m in (Q, UP)}
    spec = make()
    vectors = delta_to_shells(spec, delta, 16)
    for shell in spec.shells:
        for name, block in shell_to_delta(spec, shell.name, vectors[shell.name]).items():
            np.testing.assert_array_equal(block, delta[name][:, shell.low : shell.high])


def test_a_delta_of_another_shape_is_refused() -> None:
    good = {m.name: np.zeros((m.out, 8), np.float32) for m in (Q, UP)}
    for bad, rank in ((good, 4), (good, 7), ({Q.name: good[Q.name]}, 8), (good | {"x": good[Q.name]}, 8)):
        with pytest.raises(SpecMismatch):
            delta_to_shells(make(), bad, rank)


def test_a_vector_of_another_shell_is_refused() -> None:
    with pytest.raises(SpecMismatch):
        shell_to_delta(make(), "r1-4", np.zeros(5))
    with pytest.raises(SpecMismatch, match="r1-5"):
        shell_to_delta(make(), "r1-5", np.zeros(256))
