"""What is written in integers, added and read again is what was meant, and clipping bounds it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimo_fed.privacy import MODULUS, StatisticsEncoding, VectorEncoding, clip, flatten

F64 = NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)


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
