import math

import numpy as np
import pytest

from mimo_fed.aggregate import next_clip_norm
from mimo_fed.errors import ConfigError


def test_it_rises_where_most_are_clipped_and_falls_where_few_are() -> None:
    assert next_clip_norm(2.0, 0.0, rate=0.2) == pytest.approx(2 * math.exp(0.1))
    assert next_clip_norm(2.0, 1.0, rate=0.2) == pytest.approx(2 * math.exp(-0.1))
    assert next_clip_norm(2.0, 0.5) == 2.0


@pytest.mark.parametrize("target", [0.5, 0.9])
def test_it_settles_at_the_wanted_quantile(target: float) -> None:
    norms = np.random.default_rng(0).lognormal(sigma=0.7, size=4001)
    clip_norm = 100.0
    for _ in range(400):
        clip_norm = next_clip_norm(clip_norm, float((norms <= clip_norm).mean()), target=target)
    assert clip_norm == pytest.approx(np.quantile(norms, target), rel=0.02)


@pytest.mark.parametrize("numbers", [(0.0, 0.5), (math.inf, 0.5), (1.0, 1.1), (1.0, -0.1), (1.0, math.nan)])
def test_numbers_out_of_range_are_refused(numbers: tuple[float, float]) -> None:
    with pytest.raises(ConfigError):
        next_clip_norm(*numbers)
    with pytest.raises(ConfigError):
        next_clip_norm(1.0, 0.5, rate=0.0)
