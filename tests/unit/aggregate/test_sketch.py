import numpy as np
import pytest
from numpy.typing import NDArray

from mimo_fed.adapter import AdapterSpec, Module
from mimo_fed.aggregate import sketch
from mimo_fed.config import AdapterConfig
from mimo_fed.errors import ConfigError, SpecMismatch
from tests.unit.aggregate.shapes import product

F64 = NDArray[np.float64]
Product = dict[str, tuple[F64, F64]]


def make(rank: int) -> AdapterSpec:
    return AdapterSpec(
        base_fingerprint="ab" * 32,
        modules=(Module("model.layers.0.x", 40, 28), Module("model.layers.1.x", 24, 36)),
        config=AdapterConfig(rank=rank, shells=(2, rank)),
    )


def devices(spec: AdapterSpec, ranks: tuple[int, ...]) -> list[Product]:
    rng = np.random.default_rng(sum(ranks))
    return [
        {m.name: (rng.normal(size=(m.out, r)), rng.normal(size=(r, m.inp))) for m in spec.modules}
        for r in ranks
    ]


def add(uploads: list[dict[str, F64]], weights: tuple[int, ...]) -> dict[str, F64]:
    return {
        n: np.tensordot(np.asarray(weights, np.float64), np.stack([up[n] for up in uploads]), 1)
        for n in uploads[0]
    }


def run(spec: AdapterSpec, ranks: tuple[int, ...], weights: tuple[int, ...], width: int) -> float:
    """Both sums of a round; returns the relative error of the mean."""
    held = devices(spec, ranks)
    names = [m.name for m in spec.modules]
    basis = sketch.basis_of(add([sketch.first_upload(spec, one, width, seed=9) for one in held], weights))
    total = add([sketch.second_upload(spec, one, basis) for one in held], weights)
    adapter = sketch.join(spec, basis, total, weight=sum(weights), epoch=4)
    assert adapter.epoch == 4
    means = [sum(w * one[n][0] @ one[n][1] for w, one in zip(weights, held, strict=True)) for n in names]
    wanted = np.concatenate([np.ravel(mean) for mean in means]) / sum(weights)
    return float(np.linalg.norm(product(adapter) - wanted) / np.linalg.norm(wanted))


def test_a_sketch_as_wide_as_the_rank_of_the_mean_is_exact() -> None:
    assert run(make(9), ranks=(2, 3, 4), weights=(1, 5, 2), width=9) < 1e-6


def test_one_column_less_is_not() -> None:
    assert run(make(8), ranks=(2, 3, 4), weights=(1, 5, 2), width=8) > 1e-3


def test_a_wider_sketch_comes_nearer_to_the_best_of_that_rank() -> None:
    errors = [run(make(4), (3, 3, 3), (1, 1, 1), width) for width in (4, 6, 9)]
    assert errors[0] > errors[1] > errors[2] > 0.1  # rank 4 cannot hold a mean of rank 9


def test_the_uploads_are_as_large_as_said() -> None:
    spec = make(4)
    one = devices(spec, (2,))[0]
    first = sketch.first_upload(spec, one, 6, seed=1)
    second = sketch.second_upload(spec, one, sketch.basis_of(first))
    assert sketch.num_floats(spec, 6) == sum(part.size for part in [*first.values(), *second.values()])


def test_every_party_derives_the_same_signs_and_another_seed_others() -> None:
    module = make(4).modules[0]
    signs = sketch.signs(module, 5, seed=1)
    np.testing.assert_array_equal(signs, sketch.signs(module, 5, seed=1))
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert (signs != sketch.signs(module, 5, seed=2)).any()


def test_what_does_not_fit_is_refused() -> None:
    spec = make(4)
    one = devices(spec, (2,))[0]
    name = spec.modules[0].name
    with pytest.raises(ConfigError):
        sketch.first_upload(spec, one, 0, seed=1)
    with pytest.raises(SpecMismatch):
        sketch.first_upload(spec, {name: one[name]}, 4, seed=1)
    with pytest.raises(SpecMismatch):
        sketch.first_upload(spec, one | {name: (one[name][0], one[name][1].T)}, 4, seed=1)
    with pytest.raises(SpecMismatch, match="basis"):
        sketch.basis_of({name: np.zeros((3, 4))})
    basis = sketch.basis_of(sketch.first_upload(spec, one, 3, seed=1))
    second = sketch.second_upload(spec, one, basis)
    with pytest.raises(SpecMismatch, match="width 3"):
        sketch.join(spec, basis, second, weight=1, epoch=0)
    with pytest.raises(SpecMismatch, match="weight"):
        sketch.join(spec, basis, second, weight=0, epoch=0)
