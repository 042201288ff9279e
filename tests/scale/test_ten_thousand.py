"""Ten thousand devices and three helper organisations; every device vanishes once it has contributed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from mimo_fed.secagg import MODULUS, Coordinator, verify_evidence
from mimo_fed.secagg.words import error_bound
from tests.scale.folder import FolderSpool, peak_mb
from tests.unit.secagg.rig import Rig

N = 10_000
SUMS = {"low": 512, "high": 64}


@pytest.mark.timeout(600)
def test_ten_thousand_devices_of_which_one_in_five_never_comes(tmp_path: Path) -> None:
    rig = Rig(N, SUMS, mode="helper", n_min=3000, word_bits=24, seed="ten thousand")
    spool = FolderSpool(tmp_path / "spool")
    rig.coordinator = Coordinator(rig.signed, rig.anchors, spool, rig.arithmetic)
    came = sorted(random.Random(2).sample(rig.ids, 4 * N // 5))
    numbers = np.random.default_rng(2)
    expected = {name: np.zeros(dim, np.int64) for name, dim in SUMS.items()}
    counts = dict.fromkeys(SUMS, 0)
    before_mb = peak_mb()
    for i, d in enumerate(came):
        mine = {}
        for name, dim in SUMS.items():
            if name == "low" or i % 2:
                values = numbers.integers(-100_000, 100_001, dim)
                expected[name] += values
                counts[name] += 1
                mine[name] = (values % MODULUS).astype(np.uint32)
        rig.coordinator.add(rig.m2(d, mine))
    grown_mb = peak_mb() - before_mb
    rig.coordinator.close()
    result = rig.finish()
    spool.clear()

    assert verify_evidence(result.evidence, rig.anchors).opened == counts == {"low": 8000, "high": 4000}
    assert result.survivors == tuple(came)
    for name, opened in result.sums.items():
        error = np.abs(opened.total_D - expected[name])
        assert error.max() <= error_bound(counts[name], 24)
        assert error.max() < 6 * np.sqrt(counts[name] / 12) * (MODULUS / 2**24 + 14)
    # a header and three hashes a device
    assert grown_mb < 100
