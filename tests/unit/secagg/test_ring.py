"""The masks, against schoolbook arithmetic in Python integers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from mimo_fed.privacy import quantize
from mimo_fed.secagg import MODULUS, RING, modular
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.ring import LANES, Expander, binomial, public_key, uniform

KEY = public_key(b"h" * 32, "sum")


def secret(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, MODULUS, RING).astype(np.uint64)


def expand(s: np.ndarray, length: int) -> np.ndarray:
    parts = [modular.to_residues(mask.copy()) for _, mask in Expander(KEY, s).blocks(length)]
    return np.concatenate(parts)


def evaluate(coefficients: np.ndarray, point: int) -> int:
    value = 0
    for c in reversed(coefficients.tolist()):
        value = (value * point + c) % MODULUS
    return value


def test_there_is_one_modulus() -> None:
    assert MODULUS == quantize.MODULUS == 2**31 - 2**17 + 1


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_mask_is_the_product_of_the_public_polynomial_and_the_secret(lanes: int) -> None:
    s = secret(1)
    mask = expand(s, RING * lanes).reshape(RING, lanes)
    public = uniform(Keystream(KEY, 0), RING * lanes).reshape(64, 32, lanes)
    psi = next(
        p for b in range(2, 99) if pow(p := pow(b, (MODULUS - 1) // 4096, MODULUS), 2048, MODULUS) != 1
    )
    for j in (0, 1, 63, 64, 1000, 2047):
        point = pow(psi, 2 * j + 1, MODULUS)
        for lane in range(lanes):
            expected = int(public[j % 64, j // 64, lane]) * evaluate(s, point) % MODULUS
            assert evaluate(mask[:, lane], point) == expected


def test_masks_add_as_secrets_do() -> None:
    a, b = secret(1), secret(2)
    length = RING * (LANES + 2) + 77
    together = expand((a + b) % MODULUS, length)
    assert np.array_equal((expand(a, length) + expand(b, length)) % MODULUS, together)


def test_blocks_cover_a_vector_once() -> None:
    length = RING * LANES * 2 + 5000
    where = [w for w, _ in Expander(KEY, secret(1)).blocks(length)]
    assert where[0].start == 0
    assert where[-1].stop == length
    assert all(left.stop == right.start for left, right in pairwise(where))


def test_a_secret_is_not_shown() -> None:
    assert repr(Expander(KEY, secret(1))) == "Expander(...)"


def test_refused_words_are_replaced_in_order() -> None:
    class Words:
        """A stream of chosen words."""

        def __init__(self, words: list[int]) -> None:
            self._data = np.array(words, "<u4").tobytes()

        def take(self, length: int) -> bytearray:
            part, self._data = self._data[:length], self._data[length:]
            return bytearray(part)

    top = 1 << 31
    stream = Words([5, MODULUS, 2**31 - 1, top + 7, MODULUS + 1, 11, MODULUS - 1, 13])
    assert uniform(stream, 4).tolist() == [5, 11, MODULUS - 1, 7]  # type: ignore[arg-type]


def test_errors_have_the_variance_of_the_rule() -> None:
    errors = binomial(Keystream(b"e" * 32), 200_000).astype(float)
    assert abs(errors.mean()) < 0.05
    assert errors.var() == pytest.approx(16, rel=0.02)
    assert np.abs(errors).max() <= 32


def test_products_are_exact_at_the_extremes() -> None:
    worst = np.full((64, 64), MODULUS // 2, np.uint64)
    values = np.full((64, 3), MODULUS - 1, np.uint64)
    expected = 64 * (MODULUS // 2) * (MODULUS - 1) % MODULUS
    assert (modular.multiply(modular.operator(worst), values) == expected).all()
    rng = np.random.default_rng(3)
    left, right = rng.integers(0, MODULUS, (5, 64)), rng.integers(0, MODULUS, (64, 2))
    exact = left.astype(object) @ right.astype(object) % MODULUS
    got = modular.multiply(modular.operator(left.astype(np.uint64)), right.astype(np.uint64))
    assert (got == exact.astype(np.uint64)).all()


def test_a_product_that_could_be_inexact_is_refused() -> None:
    with pytest.raises(ValueError, match="65"):
        modular.operator(np.zeros((1, 65), np.uint64))
