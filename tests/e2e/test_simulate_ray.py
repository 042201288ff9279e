"""A simulation on Flower's Ray engine: real actors, each message handled by whichever is free."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install mimo-fed[ray]"
    ),
]
LINE = "Il gatto numero {} dorme sul tetto, e il cane numero {} abbaia alla luna. "


def simulate(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    for device in range(4):
        path = folder / "devices" / f"device-{device}.jsonl"
        path.parent.mkdir(exist_ok=True)
        texts = [{"text": LINE.format(device, i) * 3} for i in range(12)]
        path.write_text("".join(json.dumps(text) + "\n" for text in texts))
    command = [sys.executable, "-m", "mimo_fed.cli", "simulate", str(folder / "devices"), "--engine", "ray"]
    small = ["--rounds", "2", "--cycle", "BM", "--rank", "8", "--steps", "2", "--seq-len", "32", "--json"]
    return subprocess.run(
        [*command, *small, "--out", str(folder / "run"), *options],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_two_rounds_on_virtual_nodes_lower_the_loss(tmp_path: Path) -> None:
    done = simulate(tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout[done.stdout.index('{"base"') :])
    first, second = report["history"]
    assert [first["phase"], second["phase"]] == ["B", "M"]
    assert first["survivors"] == second["survivors"] == 4
    assert second["loss_before"] < first["loss_before"]
    assert report["bits_per_byte"]["global"]["mean"] < report["bits_per_byte"]["base"]["mean"]


def test_what_only_one_process_can_do_is_refused(tmp_path: Path) -> None:
    done = simulate(tmp_path, "--no-encryption", "--dropout", "0.5")
    assert done.returncode == 1
    assert "--no-encryption, --dropout" in json.loads(done.stdout)["error"]["message"]
