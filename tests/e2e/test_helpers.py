"""Helper organisations, really running: they open the sums of devices that are gone, and survive a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mimo_fed_client.helper_log import read_log, rounds_of
from tests.e2e.running import Event, Running, running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(560)]

NUM_DEVICES, NUM_HELPERS = 4, 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("helpers")
    yield from running(
        folder,
        "helped",
        3,
        "--devices",
        str(NUM_DEVICES),
        "--helpers",
        str(NUM_HELPERS),
        "--deadline-s",
        "240",
    )


def started(run: Running, number: int) -> Event:
    round_id = run.wait_round(number)
    return next(e for e in run.events() if e["kind"] == "round.started" and e["round_id"] == round_id)


def contributed(run: Running, round_id: str) -> bool:
    """Whether every device's contribution has arrived."""
    arrived = {e["device"] for e in run.events() if e["kind"] == "contribution" and e["round_id"] == round_id}
    return len(arrived) == NUM_DEVICES


def holds_torch(pid: int) -> bool:
    """Whether torch's libraries are in a running process."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def test_a_round_opens_although_every_device_has_stopped(run: Running) -> None:
    first = started(run, 1)
    assert (first["mode"], first["members"], len(first["cohort"])) == ("helper", NUM_HELPERS, NUM_DEVICES)
    run.wait("every contribution", lambda: contributed(run, first["round_id"]))
    pids = [run.pid(name) for name in first["cohort"]]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    stopped_at_s = time.time()
    try:
        opened = run.opened(first["round_id"])
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert sorted(opened["survivors"]) == sorted(first["cohort"])
    assert opened["votes"] == NUM_HELPERS
    assert holds_torch(pids[0])
    for number in range(1, NUM_HELPERS + 1):
        told = rounds_of(read_log(run.folder / "helpers" / f"helper-{number}" / "rounds.jsonl"))
        (voted_at,) = (one["voted_at"] for one in told if one["round_id"] == first["round_id"])
        assert voted_at > stopped_at_s
        assert not holds_torch(run.pid(f"helper-{number}"))


def test_a_helper_that_is_killed_comes_back_and_votes(run: Running) -> None:
    """Three helpers must all vote: a round that opens shows that the killed one was there again."""
    second = started(run, 2)
    killed = run.pid("helper-2")
    run.kill(killed)
    run.wait("helper-2 again", lambda: run.pid("helper-2") != killed)
    assert run.ended(2)["votes"] == NUM_HELPERS
    assert second["mode"] == "helper"


def test_the_run_ends_and_each_helper_tells_its_auditors_what_it_opened(run: Running) -> None:
    report = run.finish()
    assert len(report["devices"]) == NUM_DEVICES
    output = run.output.read_text()
    assert f"{NUM_HELPERS} of the {NUM_HELPERS} members of the committee, mode helper" in output
    opened = [e["round_id"] for e in run.events() if e["kind"] == "round.opened"]
    for number in range(1, NUM_HELPERS + 1):
        settings = run.folder / "helpers" / f"helper-{number}" / "helper.toml"
        command = [sys.executable, "-m", "mimo_fed.cli", "helper", "status", "--json"]
        done = subprocess.run(
            [*command, "--config", str(settings)], capture_output=True, text=True, check=True, timeout=60
        )
        found = json.loads(done.stdout)
        assert found["enrolled"]
        assert found["pinned"]
        assert found["test_only"]
        told = {r["round_id"]: r["sums"] for r in found["rounds"] if r["opened_at"]}
        assert set(opened) <= set(told)
        assert all(sums["statistics"] >= 3 for sums in told.values())


def test_a_helper_process_holds_no_model(run: Running) -> None:
    """No torch in it, so that it runs from the server's image."""
    code = (
        "import sys, mimo_fed_client.helper, mimo_fed_client.node; "
        "sys.exit(any(m.split('.')[0] in ('torch', 'transformers', 'peft') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
    assert not list((run.folder / "helpers").rglob("*.safetensors"))
