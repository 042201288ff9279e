"""A simulation on Flower's Ray engine: real actors, each message handled by whichever is free."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.e2e,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install mimo-fed[ray]"
    ),
]
LINE = "Il gatto numero {} dorme sul tetto, e il cane numero {} abbaia alla luna. "


def test_two_rounds_on_virtual_nodes_lower_the_loss(tmp_path: Path) -> None:
    """One run: an engine, and two actors that load the base, cost most of a minute of processor time."""
    devices = tmp_path / "devices"
    devices.mkdir()
    for device in range(4):
        texts = [{"text": LINE.format(device, i) * 3} for i in range(12)]
        lines = "".join(json.dumps(text) + "\n" for text in texts)
        (devices / f"device-{device}.jsonl").write_text(lines)
    command = [sys.executable, "-m", "mimo_fed.cli", "simulate", str(devices), "--engine", "ray"]
    small = ["--rounds", "2", "--cycle", "BM", "--rank", "8", "--steps", "2", "--seq-len", "32", "--json"]
    done = subprocess.run(
        [*command, *small, "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout[done.stdout.index('{"base"') :])
    first, second = report["history"]
    assert [first["phase"], second["phase"]] == ["B", "M"]
    assert min(first["survivors"], second["survivors"]) >= 3, "an actor may come up too late for the first"
    assert second["loss_before"] < first["loss_before"]
    assert report["bits_per_byte"]["global"]["mean"] < report["bits_per_byte"]["base"]["mean"]
