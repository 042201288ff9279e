import math

import numpy as np
import pytest

from mimo_fed.errors import PrivacyError
from mimo_fed.privacy import clip


def test_the_norm_is_taken_over_all_shells_together() -> None:
    shells = {"a": np.array([3.0], np.float32), "b": np.array([0.0, 4.0], np.float32)}
    clipped, norm, was_clipped = clip(shells, 1.0)
    assert (norm, was_clipped) == (5.0, True)
    np.testing.assert_allclose(clipped["a"], [0.6], rtol=1e-6)
    np.testing.assert_allclose(clipped["b"], [0.0, 0.8], rtol=1e-6)
    assert shells["a"][0] == 3.0


def test_an_update_within_the_norm_is_left_as_it_is() -> None:
    clipped, norm, was_clipped = clip({"a": np.array([0.3, 0.4], np.float32)}, 1.0)
    assert not was_clipped
    assert norm == pytest.approx(0.5)
    assert clipped["a"].tolist() == np.array([0.3, 0.4], np.float32).tolist()


def test_a_zero_update_is_not_divided_by() -> None:
    clipped, norm, was_clipped = clip({"a": np.zeros(3, np.float32)}, 1.0)
    assert (norm, was_clipped, clipped["a"].tolist()) == (0.0, False, [0, 0, 0])


def test_huge_numbers_do_not_overflow() -> None:
    clipped, norm, _ = clip({"a": np.full(4, 3e38, np.float32)}, 1.0)
    assert norm == pytest.approx(6e38, rel=1e-6)
    assert np.linalg.norm(clipped["a"]) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(bad: float) -> None:
    with pytest.raises(PrivacyError, match="r5-8"):
        clip({"r1-4": np.ones(2, np.float32), "r5-8": np.array([1, bad], np.float32)}, 1.0)


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, math.nan, math.inf])
def test_a_clip_norm_must_bound(clip_norm: float) -> None:
    with pytest.raises(PrivacyError):
        clip({"a": np.ones(2, np.float32)}, clip_norm)
