import math
from typing import Any

import numpy as np
import pytest

from mimo_fed.errors import HeadroomError, PrivacyError
from mimo_fed.privacy import MODULUS, StatisticsEncoding
from tests.unit.privacy.test_quantize import centred

NAMES = ("weight", "loss", "improved")


def make(**settings: Any) -> StatisticsEncoding:
    usual: dict[str, Any] = {"names": NAMES, "bounds": (16.0, 256.0, 1.0), "n_max": 64}
    return StatisticsEncoding(**usual | settings)


def test_sums_come_back_by_name() -> None:
    encoding = make()
    rows = [{"weight": float(i), "loss": 3.25 * i, "improved": float(i % 2)} for i in range(1, 9)]
    total = np.sum([encoding.encode(row).astype(np.int64) for row in rows], axis=0)
    sums = encoding.decode(centred(total))
    assert list(sums) == list(NAMES)
    assert sums["weight"] == pytest.approx(36, abs=1e-4)
    assert sums["loss"] == pytest.approx(117, abs=1e-3)
    assert sums["improved"] == pytest.approx(4, abs=1e-4)


def test_each_statistic_is_written_64_times() -> None:
    written = make().encode({"weight": 1, "loss": -2, "improved": 1})
    assert make().length == written.size == 192
    assert [len(np.unique(part)) for part in np.split(written, 3)] == [1, 1, 1]
    assert written.max() < MODULUS


def test_a_value_beyond_its_bound_counts_as_the_bound() -> None:
    sums = make().decode(centred(make().encode({"weight": 99, "loss": -1e9, "improved": 2})))
    assert sums["weight"] == pytest.approx(16)
    assert sums["loss"] == pytest.approx(-256)
    assert sums["improved"] == pytest.approx(1)


def test_all_devices_at_their_bound_with_the_noise_of_short_words_do_not_wrap() -> None:
    encoding = make()
    rng = np.random.default_rng(0)
    total = 64 * centred(encoding.encode({"weight": 16, "loss": 256, "improved": 1}))
    noise = rng.normal(0, math.sqrt(65 / 12) * MODULUS / 2**16, total.shape)
    sums = encoding.decode((total + noise + MODULUS / 2) % MODULUS - MODULUS / 2)
    assert round(sums["weight"]) == 64 * 16
    assert round(sums["improved"]) == 64
    assert sums["loss"] == pytest.approx(64 * 256, rel=1e-3)


@pytest.mark.parametrize(
    "values",
    [
        {"weight": 1.0, "loss": 1.0},
        {"weight": 1.0, "loss": 1.0, "improved": 1.0, "secret": 1.0},
        {"weight": math.nan, "loss": 1.0, "improved": 1.0},
        {"weight": 1.0, "loss": math.inf, "improved": 1.0},
    ],
)
def test_other_names_and_numbers_that_are_not_finite_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(PrivacyError):
        make().encode(values)


@pytest.mark.parametrize(
    "settings",
    [
        {"names": ()},
        {"names": ("a", "a", "b")},
        {"bounds": (1.0, 2.0)},
        {"bounds": (1.0, 2.0, 0.0)},
        {"bounds": (1.0, 2.0, math.inf)},
        {"n_max": 0},
    ],
)
def test_settings_that_do_not_pair_up_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(PrivacyError):
        make(**settings)


def test_more_devices_than_the_modulus_holds_are_refused() -> None:
    with pytest.raises(HeadroomError):
        make(n_max=100_000_000)


def test_a_sum_of_another_shape_is_refused() -> None:
    for bad in (np.zeros(191), np.full(192, np.nan)):
        with pytest.raises(PrivacyError):
            make().decode(bad)
