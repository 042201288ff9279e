"""A whole round, from contributions to the sum."""

from __future__ import annotations

import numpy as np
import pytest

from mimo_fed.secagg import verify_quorum
from mimo_fed.secagg.words import error_bound
from tests.unit.secagg.rig import Rig, plain_sum


@pytest.mark.parametrize("word_bits", [16, 24])
@pytest.mark.parametrize("n", [3, 8])
def test_the_result_is_the_sum_of_all_inputs(n: int, word_bits: int) -> None:
    rig = Rig(n, {"r1-4": 3000, "statistics": 100}, word_bits=word_bits)
    inputs = rig.random_inputs(1)
    rig.gather(inputs)
    result = rig.finish(rig.ids)
    for name in ("r1-4", "statistics"):
        expected = plain_sum(v[name] for v in inputs.values())
        assert result.sums[name].num_devices == n
        assert np.abs(result.sums[name].total_D - expected).max() <= error_bound(n, word_bits)
    assert result.survivors == tuple(rig.ids)
    assert result.closed == {}
    assert verify_quorum(rig.signed, result.quorum_certificate)
