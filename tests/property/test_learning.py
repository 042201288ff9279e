"""From trained deltas to the next adapter: what a sum says is what its contributors said."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, Module, basis, delta_to_shells, shell_to_delta
from mimo_fed.aggregate import step
from mimo_fed.config import AdapterConfig
from mimo_fed.privacy import MODULUS, StatisticsEncoding, VectorEncoding, clip, flatten

F64 = NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def specs(draw: st.DrawFn) -> AdapterSpec:
    """Small adapters: one to four modules, one to three shells."""
    sizes = draw(st.lists(st.tuples(st.integers(1, 70), st.integers(1, 40)), min_size=1, max_size=4))
    shells = tuple(sorted(draw(st.sets(st.integers(1, 16), min_size=1, max_size=3))))
    return AdapterSpec(
        base_fingerprint="ab" * 32,
        modules=tuple(Module(f"model.layers.{i}.x", out, inp) for i, (out, inp) in enumerate(sizes)),
        config=AdapterConfig(rank=shells[-1], shells=shells, seed=draw(st.integers(0, 2**40))),
    )


def random_delta(spec: AdapterSpec, rank: int, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """A delta whose modules differ a hundredfold in size."""
    return {
        m.name: (rng.normal(size=(m.out, rank)) * 10 ** rng.uniform(-2, 0)).astype(np.float32)
        for m in spec.modules
    }


def centred(total: NDArray[np.int64]) -> F64:
    residues = total % MODULUS
    return np.where(residues > MODULUS // 2, residues - MODULUS, residues).astype(np.float64)


@settings(max_examples=25, deadline=None)
@given(
    dim=st.integers(1, 9000),
    weights=st.lists(st.integers(1, 16), min_size=1, max_size=8),
    norm=st.floats(1e-6, 1.0),
    clip_norm=st.floats(0.1, 4.0),
    seed=SEEDS,
)
def test_an_encoded_sum_is_the_weighted_sum(
    dim: int, weights: list[int], norm: float, clip_norm: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    encoding = VectorEncoding(
        dim=dim, seed=seed.to_bytes(4, "big"), clip_norm=clip_norm, n_max=len(weights), weight_max=16
    )
    total = np.zeros(encoding.length, np.int64)
    lost = np.zeros(encoding.length)
    expected = np.zeros(dim)
    for weight in weights:
        raw = rng.normal(size=dim)
        update = (raw / np.linalg.norm(raw) * norm * clip_norm).astype(np.float32)
        total += encoding.encode(update, weight)
        expected += weight * update.astype(np.float64)
        flat = flatten(update.astype(np.float64), encoding.seed)
        lost += weight * np.maximum(np.abs(flat) - encoding.c_inf, 0)
    error = np.linalg.norm(encoding.decode(centred(total)) - expected)
    rounding = encoding.tolerance(len(weights), 32) * math.sqrt(encoding.length)
    assert error <= np.linalg.norm(lost) + rounding + 1e-5 * sum(weights) * clip_norm


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.tuples(st.floats(-20, 20), st.floats(-300, 300)), min_size=1, max_size=40),
    spare=st.integers(0, 30),
)
def test_statistics_are_the_sums_of_what_is_within_bounds(
    rows: list[tuple[float, float]], spare: int
) -> None:
    bounds = (16.0, 256.0)
    encoding = StatisticsEncoding(names=("weight", "loss"), bounds=bounds, n_max=len(rows) + spare)
    encoded = [encoding.encode({"weight": a, "loss": b}).astype(np.int64) for a, b in rows]
    sums = encoding.decode(centred(np.sum(encoded, axis=0)))
    inside = np.clip(np.array(rows), [-16, -256], [16, 256]).sum(axis=0)
    unit = np.array(bounds) * len(rows) * (len(rows) + spare) / MODULUS * 2
    assert abs(sums["weight"] - inside[0]) <= unit[0] + 1e-9
    assert abs(sums["loss"] - inside[1]) <= unit[1] + 1e-9


@settings(max_examples=30, deadline=None)
@given(spec=specs(), data=st.data(), seed=SEEDS, server_lr=st.floats(0.1, 2.0))
def test_mixed_ranks_move_each_shell_by_the_mean_over_those_who_fill_it(
    spec: AdapterSpec, data: st.DataObject, seed: int, server_lr: float
) -> None:
    rng = np.random.default_rng(seed)
    devices = data.draw(
        st.lists(st.tuples(st.sampled_from(spec.config.shells), st.integers(1, 16)), min_size=1, max_size=6)
    )
    deltas = [(rank, weight, random_delta(spec, rank, rng)) for rank, weight in devices]
    sums: dict[str, F64] = {}
    for rank, weight, delta in deltas:
        for name, vector in delta_to_shells(spec, delta, rank).items():
            sums[name] = sums.get(name, np.zeros(vector.size)) + weight * vector.astype(np.float64)
    filled = {shell.name: sum(w for r, w, _ in deltas if r >= shell.high) for shell in spec.shells}
    start = GlobalAdapter(spec=spec, factors=random_delta(spec, spec.config.rank, rng))
    after = step(start, {name: total / filled[name] for name, total in sums.items()}, server_lr)
    for module in spec.modules:
        for column in range(spec.config.rank):
            mine = [(w, d[module.name][:, column]) for r, w, d in deltas if r > column]
            mean = sum(w * c.astype(np.float64) for w, c in mine) / max(1, sum(w for w, _ in mine))
            expected = start.factors[module.name][:, column] + server_lr * mean
            np.testing.assert_allclose(after.factors[module.name][:, column], expected, rtol=1e-6, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(spec=specs(), data=st.data(), seed=SEEDS)
def test_a_whole_round_without_secrecy_lands_within_the_stated_tolerance(
    spec: AdapterSpec, data: st.DataObject, seed: int
) -> None:
    """Clip, encode, add, decode, step: against plain floats on the same clipped updates."""
    rng = np.random.default_rng(seed)
    ranks = data.draw(st.lists(st.sampled_from(spec.config.shells), min_size=2, max_size=5))
    weights = [int(w) for w in rng.integers(1, 17, len(ranks))]
    plain: dict[str, F64] = {}
    totals: dict[str, NDArray[np.int64]] = {}
    filled = {s.name: sum(w for r, w in zip(ranks, weights, strict=True) if r >= s.high) for s in spec.shells}
    encodings = {
        s.name: VectorEncoding(
            dim=spec.dim(s), seed=s.name.encode(), clip_norm=1.0, n_max=len(ranks), weight_max=16
        )
        for s in spec.shells
    }
    for rank, weight in zip(ranks, weights, strict=True):
        clipped, _, _ = clip(delta_to_shells(spec, random_delta(spec, rank, rng), rank), 1.0)
        for name, vector in clipped.items():
            plain[name] = plain.get(name, np.zeros(vector.size)) + weight * vector.astype(np.float64)
            zero = np.zeros(encodings[name].length, np.int64)
            totals[name] = totals.get(name, zero) + encodings[name].encode(vector, weight)
    for name, total in totals.items():
        decoded = encodings[name].decode(centred(total))
        error = np.linalg.norm(decoded - plain[name]) / filled[name]
        assert error <= 0.01  # of the clip norm: what the coordinate clip may take
        step(GlobalAdapter.zero(spec), {name: decoded / filled[name]}, 1.0)


@settings(max_examples=30, deadline=None)
@given(spec=specs(), seed=SEEDS)
def test_released_bytes_round_trip(spec: AdapterSpec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    adapter = GlobalAdapter(spec=spec, factors=random_delta(spec, spec.config.rank, rng))
    again = GlobalAdapter.from_safetensors(adapter.to_safetensors(), AdapterSpec.from_json(spec.to_json()))
    assert again.to_safetensors() == adapter.to_safetensors()
    assert all(basis(spec)[m.name].shape == (spec.config.rank, m.inp) for m in spec.modules)


@settings(max_examples=30, deadline=None)
@given(spec=specs(), data=st.data(), seed=SEEDS)
def test_cutting_into_shells_loses_nothing(spec: AdapterSpec, data: st.DataObject, seed: int) -> None:
    rank = data.draw(st.sampled_from(spec.config.shells))
    delta = random_delta(spec, rank, np.random.default_rng(seed))
    vectors = delta_to_shells(spec, delta, rank)
    blocks = [shell_to_delta(spec, s.name, vectors[s.name]) for s in spec.shells_of(rank)]
    for name, matrix in delta.items():
        np.testing.assert_array_equal(np.concatenate([b[name] for b in blocks], axis=1), matrix)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, scale=st.floats(1e-3, 1e3), clip_norm=st.floats(0.01, 10.0))
def test_clipping_bounds_the_norm_and_keeps_the_direction(seed: int, scale: float, clip_norm: float) -> None:
    rng = np.random.default_rng(seed)
    shells = {name: (rng.normal(size=50) * scale).astype(np.float32) for name in "ab"}
    clipped, norm, was_clipped = clip(shells, clip_norm)
    before, after = (np.concatenate([s["a"], s["b"]]).astype(np.float64) for s in (shells, clipped))
    assert norm == pytest.approx(np.linalg.norm(before))
    assert was_clipped == (norm > clip_norm)
    assert np.linalg.norm(after) <= clip_norm * (1 + 1e-6)
    np.testing.assert_allclose(after * norm, before * min(norm, clip_norm), rtol=1e-5, atol=1e-30)


def skewed(kind: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """An update of norm 1 over 40 layers of 4608 entries, most of its energy in few of them."""
    layers = rng.normal(size=(40, 1152, 4))
    if kind == "one loud layer":
        layers[7] *= 100
    elif kind == "layers of a thousandfold range":
        layers *= np.logspace(-3, 0, 40)[:, None, None]
    elif kind == "one loud rank column":
        layers[:, :, 1] *= 100
    flat = layers.ravel()
    return (flat / np.linalg.norm(flat) * (1 - 1e-6)).astype(np.float32)


KINDS = ["one loud layer", "layers of a thousandfold range", "one loud rank column"]


@pytest.mark.parametrize("kind", KINDS)
def test_skewed_layers_lose_less_than_one_percent_to_the_coordinate_clip(kind: str) -> None:
    update = skewed(kind, np.random.default_rng(11))
    encoding = VectorEncoding(dim=update.size, seed=b"skew", clip_norm=1.0, n_max=3, weight_max=1)
    decoded = encoding.decode(centred(encoding.encode(update, 1).astype(np.int64)))
    assert np.linalg.norm(decoded - update) < 0.01


@pytest.mark.parametrize("kind", KINDS[:2])
def test_mixing_contiguous_blocks_instead_would_lose_a_tenth_and_more(kind: str) -> None:
    update = skewed(kind, np.random.default_rng(11))
    c_inf = VectorEncoding(dim=update.size, seed=b"skew", clip_norm=1.0, n_max=3, weight_max=1).c_inf
    blocks = update.reshape(-1, 2048)
    flat = np.stack([flatten(block, b"skew") for block in blocks])
    assert np.linalg.norm(flat - np.clip(flat, -c_inf, c_inf)) > 0.1
