import math

import numpy as np
import pytest

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.aggregate import step
from mimo_fed.errors import ConfigError, SpecMismatch
from tests.unit.adapter.test_spec import Q, make
from tests.unit.adapter.test_weights import filled

SPEC = make()
D = {shell.name: SPEC.dim(shell) for shell in SPEC.shells}


def test_a_closed_shell_keeps_its_value_and_an_open_one_moves() -> None:
    before = filled()
    after = step(before, {"r5-8": np.full(D["r5-8"], 0.25)}, 2.0)
    for name, factor in after.factors.items():
        np.testing.assert_array_equal(factor[:, :4], before.factors[name][:, :4])
        np.testing.assert_array_equal(factor[:, 8:], before.factors[name][:, 8:])
        np.testing.assert_allclose(factor[:, 4:8], before.factors[name][:, 4:8] + 0.5, rtol=1e-6, atol=1e-7)


def test_the_adapter_given_is_left_as_it_is() -> None:
    before = filled()
    digest = before.digest()
    step(before, {"r1-4": np.ones(D["r1-4"])}, 1.0)
    assert before.digest() == digest


def test_no_open_shell_gives_the_same_adapter() -> None:
    assert step(filled(), {}, 1.0).digest() == filled().digest()


def test_the_step_gives_the_same_bytes_whatever_the_order_of_shells() -> None:
    means = {name: np.random.default_rng(7).normal(size=dim) for name, dim in D.items()}
    backwards = dict(reversed(list(means.items())))
    assert step(filled(), means, 1.0).digest() == step(filled(), backwards, 1.0).digest()


def test_a_mean_lands_where_the_layout_says() -> None:
    mean = np.zeros(D["r1-4"])
    mean[4 * 2 + 3] = 1.0
    after = step(GlobalAdapter.zero(SPEC), {"r1-4": mean}, 1.0)
    assert np.argwhere(after.factors[Q.name]).tolist() == [[2, 3]]


def test_what_does_not_fit_is_refused() -> None:
    zero = GlobalAdapter.zero(SPEC)
    for means in ({"r1-5": np.zeros(4)}, {"r1-4": np.zeros(4)}, {"r1-4": np.full(D["r1-4"], math.nan)}):
        with pytest.raises(SpecMismatch):
            step(zero, means, 1.0)


@pytest.mark.parametrize("server_lr", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_must_be_positive(server_lr: float) -> None:
    with pytest.raises(ConfigError):
        step(GlobalAdapter.zero(SPEC), {}, server_lr)
