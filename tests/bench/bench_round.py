"""What one device-round costs at the demo's size, as ratios in one run: `make bench`.

The machine's own speed is measured beside it: adding the same vectors with numpy, and hashing them.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mimo_fed.privacy import VectorEncoding
from mimo_fed.secagg import Coordinator, MemorySpool
from tests.unit.secagg.rig import Rig

DIM = 1217 * 2048
"""2.49 M parameters: rank 16 on every linear of mimo-smol"""


@pytest.fixture(scope="module")
def update_D() -> np.ndarray:
    update = np.random.default_rng(1).normal(0, 1, DIM).astype(np.float32)
    return (update / np.linalg.norm(update) * 10).astype(np.float32)


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig(8, {"vector": DIM})


def test_numpy_adds_eight_vectors(benchmark: BenchmarkFixture) -> None:
    vectors = np.ones((8, DIM), dtype=np.uint32)
    benchmark(lambda: vectors.sum(axis=0, dtype=np.uint32))


def test_sha256_of_one_upload(benchmark: BenchmarkFixture) -> None:
    data = bytes(2 * DIM)
    benchmark(lambda: hashlib.sha256(data).digest())


def test_encode_an_update(benchmark: BenchmarkFixture, update_D: np.ndarray) -> None:
    encoding = VectorEncoding(dim=DIM, seed=b"bench", clip_norm=12.0, n_max=8, weight_max=4)
    benchmark(lambda: encoding.encode(update_D, 2))


def test_seal_an_update(benchmark: BenchmarkFixture, rig: Rig) -> None:
    inputs = rig.random_inputs(1)["device-00"]
    benchmark(lambda: rig.m2("device-00", inputs))


def test_coordinator_adds_one(benchmark: BenchmarkFixture, rig: Rig) -> None:
    m2 = rig.m2("device-01", rig.random_inputs(1)["device-01"])

    def fresh() -> tuple[tuple[Coordinator], dict[str, object]]:
        return (Coordinator(rig.signed, rig.anchors, MemorySpool()),), {}

    benchmark.pedantic(lambda session: session.add(m2), setup=fresh, rounds=10)
