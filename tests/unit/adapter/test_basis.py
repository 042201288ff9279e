import hashlib
import math

import numpy as np
import pytest

from mimo_fed.adapter import Module, basis, left_basis
from tests.unit.adapter.test_spec import UP, Q, make

SHA256 = {
    Q.name: "1aade86d06725bd51b40f14160644f425032625ed72a109912a8c178482078cb",
    UP.name: "4b6ab736e88d09ff06295b51c7408702da9343b7a1625af0b7fca7253dcb4bfa",
}


def test_the_basis_is_bit_identical_to_what_was_stored() -> None:
    factors = basis(make())
    digests = {n: hashlib.sha256(v.astype("<f4").tobytes()).hexdigest() for n, v in factors.items()}
    assert digests == SHA256


def test_the_basis_follows_its_written_description() -> None:
    stream = hashlib.shake_256(f"mimo-fed/basis/v1\n20261123\n{Q.name}\n9".encode()).digest(5)
    bits = [stream[i // 8] >> (i % 8) & 1 for i in range(33)]
    expected = [(-1 if bit else 1) * np.float32(1 / math.sqrt(33)) for bit in bits]
    assert basis(make())[Q.name][9].tolist() == [float(x) for x in expected]


def test_the_left_factor_follows_its_written_description() -> None:
    stream = hashlib.shake_256(f"mimo-fed/basis/left/v1\n20261123\n{Q.name}\n9".encode()).digest(3)
    bits = [stream[i // 8] >> (i % 8) & 1 for i in range(24)]
    expected = [(-1 if bit else 1) * np.float32(1 / math.sqrt(24)) for bit in bits]
    factor = left_basis(make())[Q.name]
    assert factor.shape == (24, 16)
    assert factor[:, 9].tolist() == [float(x) for x in expected]


def test_left_and_right_of_a_square_module_have_signs_of_their_own() -> None:
    square = Module("model.layers.0.self_attn.o_proj", 64, 64)
    spec = make((square,))
    assert not np.array_equal(left_basis(spec)[square.name].T, basis(spec)[square.name])


def test_nobody_can_write_into_a_basis_that_others_read() -> None:
    for factor in (basis(make())[Q.name], left_basis(make())[Q.name]):
        with pytest.raises(ValueError, match="read-only"):
            factor[0, 0] = 0


def test_rows_have_norm_one_and_are_nearly_orthogonal() -> None:
    factor = basis(make())[UP.name].astype(np.float64)
    assert factor.shape == (16, 576)
    gram = factor @ factor.T
    np.testing.assert_allclose(np.diag(gram), 1.0, rtol=1e-6)
    singular = np.linalg.svd(factor, compute_uv=False)
    assert 0.8 < singular.min() < 0.95
    assert 1.05 < singular.max() < 1.2


def test_a_smaller_rank_is_a_prefix() -> None:
    small = basis(make(rank=4, shells=(4,)))
    np.testing.assert_array_equal(small[Q.name], basis(make())[Q.name][:4])
    narrow = left_basis(make(rank=4, shells=(4,)))
    np.testing.assert_array_equal(narrow[Q.name], left_basis(make())[Q.name][:, :4])


def test_seed_module_and_row_each_change_the_signs() -> None:
    ours, other = basis(make())[UP.name], basis(make(seed=1))[UP.name]
    renamed = basis(make((UP._replace(name="model.layers.1.mlp.up_proj"),)))["model.layers.1.mlp.up_proj"]
    rows = np.concatenate([ours, other, renamed])
    assert len(np.unique(rows, axis=0)) == len(rows)
