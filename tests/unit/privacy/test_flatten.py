import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from mimo_fed.privacy import flatten, padded_length, unflatten

SIGNS_SHA256 = "a6c8eba6bb9d35e9d868ed13ff4e3183bbafe3b9b2c76c5801784c3ad0b8bd79"


@pytest.mark.parametrize(
    ("dim", "length"), [(1, 2048), (2048, 2048), (2049, 6144), (6144, 6144), (6145, 10240)]
)
def test_lengths_are_odd_multiples_of_2048(dim: int, length: int) -> None:
    assert padded_length(dim) == length


def test_each_transform_takes_every_lth_entry() -> None:
    update = np.zeros(3 * 2048)
    update[4] = 1.0
    flat = flatten(update, b"seed")
    touched = np.flatnonzero(flat)
    assert touched.size == 2048
    assert set(touched % 3) == {4 % 3}
    np.testing.assert_allclose(np.abs(flat[touched]), 1 / np.sqrt(2048), rtol=1e-12)


def test_the_map_is_orthonormal_and_has_its_inverse() -> None:
    update = np.random.default_rng(0).normal(size=5000)
    flat = flatten(update, b"seed")
    assert np.linalg.norm(flat) == pytest.approx(np.linalg.norm(update), rel=1e-12)
    np.testing.assert_allclose(unflatten(flat, 5000, b"seed"), update, atol=1e-12)


def test_the_rotation_is_the_walsh_hadamard_matrix_in_natural_order() -> None:
    update = np.random.default_rng(1).normal(size=2048)
    np.testing.assert_allclose(flatten(update, b"s"), hadamard() @ (update * signs_of(b"s")), atol=1e-11)


def test_the_signs_are_those_of_the_documented_stream() -> None:
    seed = b"round/r1-4"
    key = int.from_bytes(hashlib.sha256(seed).digest()[:16], "little")
    first = int(np.random.Philox(key=key).random_raw(1)[0])
    assert signs_of(seed)[:64].tolist() == [1 - 2 * (first >> i & 1) for i in range(64)]
    assert hashlib.sha256(signs_of(seed).tobytes()).hexdigest() == SIGNS_SHA256


def test_another_seed_gives_other_signs() -> None:
    assert 0.4 < (signs_of(b"a") == signs_of(b"b")).mean() < 0.6


def hadamard() -> NDArray[np.float64]:
    """The matrix from its definition: (-1) to the number of ones that row and column index share."""
    index = np.arange(2048)
    odd = np.bitwise_count(index[:, None] & index) % 2
    return np.asarray((1.0 - 2.0 * odd) / np.sqrt(2048), dtype=np.float64)


def signs_of(seed: bytes) -> NDArray[np.int8]:
    """Read the signs off a flattened row of ones."""
    return np.rint(hadamard() @ flatten(np.ones(2048), seed)).astype(np.int8)
