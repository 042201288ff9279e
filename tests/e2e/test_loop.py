"""The whole loop once: text to training to sealed sums to a signed release, tried and installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.running import Running, running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

Q = 2147352577
WORD = Q / 2**16
"""One unit of a 16-bit word, in units of the ring."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from running(tmp_path_factory.mktemp("runs"), "loop", 1, "--test-plaintext")


@pytest.fixture(scope="module")
def report(run: Running) -> dict[str, Any]:
    return run.finish()


def test_report_has_every_device_and_every_figure(report: dict[str, Any]) -> None:
    assert len(report["devices"]) == 8
    assert sorted(d["rank"] for d in report["devices"]) == [4, 4, 8, 8, 16, 16, 16, 16]
    assert len({d["language"] for d in report["devices"]}) >= 2
    for device in report["devices"]:
        assert device["name"]
        assert device["author"]
        assert device["device_class"]
        assert set(device["bpb"]) >= {"base", "global", "personal"}
        assert all(0 < device["bpb"][arm] < 20 for arm in ("base", "global", "personal"))
        assert device["bytes_up"] > 0
        assert device["bytes_down"] > 0
        assert set(device["seconds"]) >= {"train", "protect", "network", "verify", "swap"}
        assert device["seconds"]["train"] > 0


def test_every_round_opened_one_set_once(report: dict[str, Any]) -> None:
    kinds = [r["kind"] for r in report["rounds"]]
    assert kinds == ["train", "evaluate"]
    for record in report["rounds"]:
        assert len(record["cohort"]) == 8
        assert len(record["survivors"]) + len(record["dropouts"]) == 8
        assert len(record["quorum_digest"]) == 64
        assert record["release"] is not None
    trained = next(r for r in report["rounds"] if r["kind"] == "train")
    opened = {s["name"]: s["num_devices"] for s in trained["sums"]}
    assert opened == {"r1-4": 8, "r5-8": 6, "r9-16": 4, "statistics": 8}


def test_training_made_the_devices_better(report: dict[str, Any]) -> None:
    mean = {
        arm: np.mean([d["bpb"][arm] for d in report["devices"]]) for arm in ("base", "global", "personal")
    }
    assert mean["personal"] < mean["global"] < mean["base"]


def test_opened_sum_is_the_plain_sum_of_what_devices_sealed(run: Running, report: dict[str, Any]) -> None:
    """Devices wrote what they sealed to a file for this test; the coordinator wrote what it opened."""
    folder: Path = run.folder / "plaintext"
    checked = 0
    for path in sorted(folder.glob("*.opened.npz")):
        round_id = path.name.removesuffix(".opened.npz")
        sealed = [dict(np.load(p)) for p in sorted(folder.glob(f"{round_id}.*.npz")) if p != path]
        for name, opened in np.load(path).items():
            parts = [s[name].astype(np.int64) for s in sealed if name in s]
            assert len(parts) >= 3
            plain = sum(parts) % Q
            centred = np.where(plain > Q // 2, plain - Q, plain)
            error = (opened - centred) / WORD
            num = len(parts)
            assert np.abs(error).max() <= (num + 1) / 2 + 1
            if error.size >= 2048:
                assert error.std() == pytest.approx(np.sqrt((num + 1) / 12), rel=0.15)
            if name != "statistics":
                assert np.abs(centred).max() > 20 * WORD
            checked += 1
    assert checked == 4 + 1


def test_what_serves_is_what_the_registry_signed(run: Running, report: dict[str, Any]) -> None:
    promoted = [e for e in run.events() if e["kind"] == "release.promoted"]
    assert promoted
    for device in report["devices"]:
        events = run.events(f"devices/{device['name']}")
        committed = [e for e in events if e["kind"] == "release.committed"]
        assert committed, device["name"]


def test_coordinator_kept_no_plain_update(run: Running, report: dict[str, Any]) -> None:
    """What the spool holds of a device looks like noise: no byte value stands out."""
    contributions = sorted((run.folder / "coordinator" / "spool").glob("train-*/*.m2"))
    assert contributions
    data = np.frombuffer(contributions[0].read_bytes(), dtype=np.uint8)[4096:]
    counts = np.bincount(data, minlength=256)
    expected = data.size / 256
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert 255 - 8 * np.sqrt(510) < chi_square < 255 + 8 * np.sqrt(510)
