import math

import pytest

from mimo_fed.aggregate import staleness_scale
from mimo_fed.errors import ConfigError, SpecMismatch


@pytest.mark.parametrize(
    ("staleness", "exponent", "scale"),
    [(0, 0.5, 1), (3, 0.5, 0.5), (99, 0.5, 0.1), (3, 1, 0.25), (7, 0, 1), (0, 7, 1)],
)
def test_the_scale_is_a_power_of_one_plus_the_staleness(
    staleness: int, exponent: float, scale: float
) -> None:
    assert staleness_scale(staleness, exponent) == pytest.approx(scale, rel=1e-15)


def test_the_square_root_is_the_default() -> None:
    assert staleness_scale(8) == pytest.approx(1 / 3)


@pytest.mark.parametrize("staleness", [-1, 1 << 60, math.nan, math.inf, 1.5])
def test_a_staleness_that_is_no_number_of_releases_is_refused(staleness: int) -> None:
    with pytest.raises(SpecMismatch, match=str(staleness)):
        staleness_scale(staleness)


@pytest.mark.parametrize("exponent", [-0.5, math.nan, math.inf])
def test_an_exponent_that_would_favour_the_late_is_refused(exponent: float) -> None:
    with pytest.raises(ConfigError, match=str(exponent)):
        staleness_scale(1, exponent)
