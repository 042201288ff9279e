import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mimo_fed.errors import HeadroomError, PrivacyError
from mimo_fed.privacy import MODULUS, VectorEncoding, unflatten


def make(dim: int = 5000, **settings: Any) -> VectorEncoding:
    usual: dict[str, Any] = {"dim": dim, "seed": b"r/1", "clip_norm": 1.0, "n_max": 8, "weight_max": 16}
    return VectorEncoding(**usual | settings)


def update_of(dim: int = 5000, norm: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    raw = np.random.default_rng(seed).normal(size=dim)
    return (raw / np.linalg.norm(raw) * norm * (1 - 1e-6)).astype(np.float32)


def centred(total: NDArray[Any]) -> NDArray[np.float64]:
    residues = total.astype(np.int64) % MODULUS
    return np.where(residues > MODULUS // 2, residues - MODULUS, residues).astype(np.float64)


def test_the_modulus_is_the_one_the_ring_needs() -> None:
    assert MODULUS == 2**31 - 2**17 + 1
    assert (MODULUS - 1) % 4096 == 0
    assert all(MODULUS % divisor for divisor in range(2, math.isqrt(MODULUS) + 1))


def test_one_update_comes_back_times_its_weight() -> None:
    encoding, update = make(), update_of()
    written = encoding.encode(update, 7)
    assert written.dtype == np.uint32
    assert written.shape == (encoding.length,)
    assert written.max() < MODULUS
    decoded = encoding.decode(centred(written))
    np.testing.assert_allclose(decoded, 7 * update.astype(np.float64), atol=1e-6)


def test_encoding_is_deterministic() -> None:
    assert make().encode(update_of(), 3).tobytes() == make().encode(update_of(), 3).tobytes()


def test_the_loudest_possible_sum_does_not_wrap() -> None:
    encoding = make(dim=2048, n_max=1000)
    spike = np.zeros(2048, np.float32)
    spike[9] = 1 - 1e-6
    written = encoding.encode(unflatten(spike, 2048, b"r/1"), 16)
    worst = round(encoding.c_inf * 16 * encoding.scale)
    assert 1000 * worst < MODULUS // 2
    assert np.abs(centred(written)).max() == worst


def test_the_room_is_used() -> None:
    encoding = make()
    assert 8 * 16 * encoding.c_inf * encoding.scale == pytest.approx(MODULUS / 2 / 1.001)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    update = update_of()
    update[17] = bad
    with pytest.raises(PrivacyError, match="finite"):
        make().encode(update, 1)


def test_an_update_that_was_not_clipped_is_refused() -> None:
    with pytest.raises(PrivacyError, match="clipped"):
        make().encode(update_of(norm=1.01), 1)


@pytest.mark.parametrize("weight", [0, -1, 17, 1.5, True, math.nan])
def test_a_weight_out_of_range_is_refused(weight: Any) -> None:
    with pytest.raises(PrivacyError, match="weight"):
        make().encode(update_of(), weight)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(PrivacyError, match="shape"):
        make().encode(update_of(4999), 1)
    with pytest.raises(PrivacyError, match="shape"):
        make().decode(np.zeros(5000))
    with pytest.raises(PrivacyError, match="finite"):
        make().decode(np.full(make().length, np.nan))


@pytest.mark.parametrize(
    "settings", [{"dim": 0}, {"n_max": 0}, {"weight_max": 0}, {"clip_norm": 0.0}, {"clip_norm": math.nan}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(PrivacyError):
        make(**settings)


def test_more_devices_than_the_modulus_holds_are_refused() -> None:
    make(n_max=1_000_000)
    with pytest.raises(HeadroomError, match="10000000"):
        make(n_max=10_000_000)


def test_the_stated_tolerance_is_the_error_of_shortened_words() -> None:
    num, bits = 6, 16
    encoding = make(n_max=num)
    rng = np.random.default_rng(5)
    last_bit = MODULUS / 2**bits
    true = np.zeros(5000)
    total = np.zeros(encoding.length)
    for i in range(num):
        update = update_of(norm=0.5, seed=i)
        true += 3 * update.astype(np.float64)
        pad = rng.uniform(0, MODULUS, encoding.length)
        word = np.rint((encoding.encode(update, 3) + pad) / last_bit)
        total += word * last_bit - pad
    total = np.rint(total / last_bit + rng.uniform(-0.5, 0.5, encoding.length)) * last_bit
    total = (total + MODULUS / 2) % MODULUS - MODULUS / 2
    error = np.std(encoding.decode(total) - true)
    stated = encoding.tolerance(num, bits)
    assert error <= 1.15 * stated
    assert error >= 0.85 * stated


def test_wider_words_are_finer_until_the_pads_noise_is_left() -> None:
    encoding = make()
    assert encoding.tolerance(8, 16) == pytest.approx(
        math.sqrt(9 / 12) * MODULUS / 2**16 / encoding.scale, rel=1e-3
    )
    assert encoding.tolerance(8, 24) < encoding.tolerance(8, 16) / 200
    assert encoding.tolerance(8, 32) == pytest.approx(4 * math.sqrt(8) / encoding.scale, rel=0.01)
