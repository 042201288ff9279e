"""The vectors of the shells, in every phase.

Shapes: R rank of the adapter.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from mimo_fed.adapter import (
    FACTORS,
    AdapterSpec,
    Module,
    Part,
    delta_to_shells,
    prefix,
    shells_mask,
    shells_to_delta,
)
from mimo_fed.config import Phase
from mimo_fed.errors import SpecMismatch
from tests.unit.adapter.test_spec import UP, Q, make

TINY = make((Module("a", 3, 4), Module("b", 3, 3)), rank=3, shells=(1, 3))


def whole(spec: AdapterSpec, phase: Phase) -> dict[str, NDArray[np.float32]]:
    """Every entry of every part another number."""
    rng = np.random.default_rng(1)
    return {p.name: rng.normal(size=(p.rows, p.cols)).astype(np.float32) for p in spec.parts(phase)}


def cut(spec: AdapterSpec, phase: Phase, rank: int) -> dict[str, NDArray[np.float32]]:
    delta = whole(spec, phase)
    return {part.name: prefix(part, delta[part.name], rank) for part in spec.parts(phase)}


def counted(part: Part, start: int) -> NDArray[np.float32]:
    return np.arange(start, start + part.rows * part.cols, dtype=np.float32).reshape(part.rows, part.cols)


LAYOUTS: dict[Phase, dict[str, list[int]]] = {
    "B": {"r1-1": [0, 3, 6, 100, 103, 106], "r2-3": [1, 2, 4, 5, 7, 8, 101, 102, 104, 105, 107, 108]},
    "A": {
        "r1-1": [0, 1, 2, 3, 100, 101, 102],
        "r2-3": [4, 5, 6, 7, 8, 9, 10, 11, 103, 104, 105, 106, 107, 108],
    },
    "M": {"r1-1": [0, 100], "r2-3": [1, 2, 3, 4, 5, 6, 7, 8, *range(101, 109)]},
    "AB": {
        "r1-1": [0, 3, 6, 100, 103, 106, 200, 201, 202, 203, 300, 301, 302],
        "r2-3": [
            *(1, 2, 4, 5, 7, 8, 101, 102, 104, 105, 107, 108),
            *(*range(204, 212), *range(303, 309)),
        ],
    },
}


@pytest.mark.parametrize("phase", FACTORS)
def test_the_layout_is_part_by_part_and_row_by_row(phase: Phase) -> None:
    delta = {part.name: counted(part, 100 * i) for i, part in enumerate(TINY.parts(phase))}
    backwards = dict(reversed(list(delta.items())))
    vectors = delta_to_shells(TINY, phase, backwards, 3)
    assert {name: vector.tolist() for name, vector in vectors.items()} == LAYOUTS[phase]


def test_a_shell_of_phase_m_is_an_l() -> None:
    mask = shells_mask(make((Q,), rank=5, shells=(1, 3, 5)), "M", ["r2-3"])[f"{Q.name}.M"]
    drawn = ["".join(".#"[int(x)] for x in row) for row in mask]
    assert drawn == [".##..", "###..", "###..", ".....", "....."]


@pytest.mark.parametrize("phase", FACTORS)
def test_the_shells_cover_every_entry_once(phase: Phase) -> None:
    spec = make()
    masks = [shells_mask(spec, phase, [shell.name]) for shell in spec.shells]
    together = shells_mask(spec, phase, [shell.name for shell in spec.shells])
    for part in spec.parts(phase):
        assert (np.sum([mask[part.name] for mask in masks], axis=0) == 1).all()
        assert together[part.name].all()
    for shell, mask in zip(spec.shells, masks, strict=True):
        assert sum(int(m.sum()) for m in mask.values()) == spec.dim(shell, phase)
    assert not any(m.any() for m in shells_mask(spec, phase, []).values())


@pytest.mark.parametrize("rank", [4, 8, 16])
@pytest.mark.parametrize("phase", FACTORS)
def test_what_a_device_sends_goes_back_to_its_prefix(phase: Phase, rank: int) -> None:
    spec = make()
    sent = cut(spec, phase, rank)
    vectors = delta_to_shells(spec, phase, sent, rank)
    assert list(vectors) == [shell.name for shell in spec.shells_of(rank)]
    for shell in spec.shells_of(rank):
        assert vectors[shell.name].shape == (spec.dim(shell, phase),)
        assert vectors[shell.name].dtype == np.float32
    back = shells_to_delta(spec, phase, vectors)
    for part in spec.parts(phase):
        expected = np.zeros((part.rows, part.cols))
        prefix(part, expected, rank)[...] = sent[part.name]
        np.testing.assert_array_equal(back[part.name], expected)
        assert back[part.name].dtype == np.float64


@pytest.mark.parametrize("phase", FACTORS)
def test_a_shell_that_was_not_given_is_zero_and_not_in_the_mask(phase: Phase) -> None:
    spec = make()
    full = whole(spec, phase)
    vectors = delta_to_shells(spec, phase, full, 16)
    back = shells_to_delta(spec, phase, {"r5-8": vectors["r5-8"]})
    mask = shells_mask(spec, phase, ["r5-8"])
    for name, values in full.items():
        np.testing.assert_array_equal(back[name], np.where(mask[name], values, 0))


def test_a_prefix_is_a_view_of_the_rank_a_device_has() -> None:
    shapes = {
        part.factor: prefix(part, counted(part, 0), 2) for part in (*TINY.parts("AB"), *TINY.parts("M"))
    }
    assert {factor: view.shape for factor, view in shapes.items()} == {"B": (3, 2), "A": (2, 3), "M": (2, 2)}
    part = TINY.parts("M")[0]
    values = np.zeros((3, 3))
    prefix(part, values, 2)[...] = 1
    assert values.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("phase", FACTORS)
def test_a_delta_of_another_shape_is_refused(phase: Phase) -> None:
    good = cut(make(), phase, 8)
    one = next(iter(good))
    without = {name: values for name, values in good.items() if name != one}
    turned = good | {one: np.zeros((3, 3), np.float32)}
    for bad, rank in ((good, 4), (good, 7), (without, 8), (good | {"x": good[one]}, 8), (turned, 8)):
        with pytest.raises(SpecMismatch):
            delta_to_shells(make(), phase, bad, rank)


def test_a_delta_of_another_phase_is_refused() -> None:
    with pytest.raises(SpecMismatch, match="phase A"):
        delta_to_shells(make(), "A", cut(make(), "B", 8), 8)


@pytest.mark.parametrize("phase", FACTORS)
def test_a_vector_of_another_shell_is_refused(phase: Phase) -> None:
    spec = make()
    right = spec.dim(spec.shells[0], phase)
    for length in (0, right - 1, right + 1):
        with pytest.raises(SpecMismatch, match="r1-4"):
            shells_to_delta(spec, phase, {"r1-4": np.zeros(length)})
    with pytest.raises(SpecMismatch, match="r1-5"):
        shells_to_delta(spec, phase, {"r1-5": np.zeros(right)})
    with pytest.raises(SpecMismatch, match="r1-5"):
        shells_mask(spec, phase, ["r1-5"])


def test_the_order_of_modules_is_the_specs() -> None:
    one, other = make((Q, UP)), make((UP, Q))
    delta = whole(one, "B")
    ours, theirs = (delta_to_shells(spec, "B", delta, 16)["r1-4"] for spec in (one, other))
    np.testing.assert_array_equal(np.roll(ours, 4 * UP.out), theirs)
