"""A thousand devices, a committee drawn by lot, a million parameters, and devices lost at every stage."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg import HYBRID, MODULUS, Coordinator, verify_evidence
from mimo_fed.secagg.words import error_bound
from tests.scale.folder import FolderSpool, peak_mb
from tests.unit.secagg.rig import Rig

N, DIM = 1000, 1_000_000
SILENT, LATE = 0.2, 0.1
"""of the devices: those that never contribute, and those that come when contributions are closed"""
LOST_MEMBERS = (("shares", 5), ("ballot", 5), ("open", 6))
"""members that vanish before each stage: together as many as a sampled committee stands"""


def turned(vector: NDArray[np.int64], device: int) -> NDArray[np.int64]:
    """Rotate the one random vector by another number of places for each device: cheap, and no two agree."""
    return np.roll(vector, 977 * device)


@pytest.mark.timeout(600)
def test_a_thousand_devices_of_which_three_in_ten_are_lost(tmp_path: Path) -> None:
    rig = Rig(N, {"update": DIM}, mode="sampled", suite=HYBRID, n_min=600, seed="thousand")
    spool = FolderSpool(tmp_path / "spool")
    rig.coordinator = Coordinator(rig.signed, rig.anchors, spool, rig.arithmetic)
    draw, vector = random.Random(1), np.random.default_rng(1).integers(-900_000, 900_001, DIM)
    order = draw.sample(range(N), N)
    silent, late = order[: int(SILENT * N)], order[int(SILENT * N) : int((SILENT + LATE) * N)]
    came = sorted(set(order) - {*silent, *late})
    expected = np.zeros(DIM, np.int64)
    before_mb = peak_mb()
    for i in came:
        values = turned(vector, i)
        expected += values
        m2 = rig.m2(rig.ids[i], {"update": (values % MODULUS).astype(np.uint32)})
        for _ in range(2 if i % 50 == 0 else 1):
            rig.coordinator.add(m2)
    grown_mb = peak_mb() - before_mb
    rig.coordinator.close()
    for i in late:
        m2 = rig.m2(rig.ids[i], {"update": (turned(vector, i) % MODULUS).astype(np.uint32)})
        with pytest.raises(PeerProtocolError, match="too late"):
            rig.coordinator.add(m2)

    alive = draw.sample(rig.member_ids, len(rig.member_ids))
    for stage, lost in LOST_MEMBERS:
        alive = alive[lost:]
        {"shares": rig.check_shares, "ballot": rig.vote, "open": rig.open}[stage](alive)
    result = rig.coordinator.result()
    spool.clear()

    opened = result.sums["update"]
    assert opened.devices == tuple(sorted(rig.ids[i] for i in came))
    error = opened.total_D - expected
    assert np.abs(error).max() <= error_bound(opened.num_devices, 16)
    std = np.sqrt(opened.num_devices / 12) * MODULUS / 2**16
    assert error.std() == pytest.approx(std, rel=0.02)
    assert abs(error.mean()) < 5 * std / np.sqrt(DIM)
    assert np.abs(expected).std() > 10 * std
    assert verify_evidence(result.evidence, rig.anchors).opened == {"update": 700}
    # one accumulator of 2 MB, one message of 2 MB and its copies; 700 words of 2 MB would be 1400
    assert grown_mb < 120
