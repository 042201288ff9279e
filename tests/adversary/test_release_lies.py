"""A whole agent against a registry that lies: the release is refused, and the old adapter keeps serving."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.events import read_events
from mimo_fed.release import ReleaseInfo
from mimo_fed_client.agent import Agent
from tests.simulators.agents import World, world


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def noise(spec: AdapterSpec, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    zero = GlobalAdapter.zero(spec)
    values = {name: rng.normal(0, 1e-4, value.shape) for name, value in zero.values("B").items()}
    return zero.with_values("B", values).to_safetensors()


def files(here: World, info: ReleaseInfo) -> list[Path]:
    """Every copy of a release's bytes that the registry might serve."""
    found = [p for p in (here.folder / "registry").rglob("*") if p.is_file() and info.digest in p.name]
    assert found
    return found


def last_failure(agent: Agent) -> str:
    events = [e for _, e in read_events(agent.settings.home / "events.jsonl")]
    return str(next(e for e in reversed(events) if e["kind"] in {"look.failed", "release.rolled_back"}))


def check_serves(agent: Agent, good: ReleaseInfo) -> None:
    assert agent.installer.release == good.number
    assert agent.model.installed_digest == good.digest
    assert agent.model.generate([{"role": "user", "content": "print"}], "personal", 4) is not None


@pytest.mark.parametrize("lie", ["tampered", "truncated"])
def test_bytes_that_were_not_signed(here: World, lie: str) -> None:
    good = here.publish(noise(here.spec, 1), "good")
    with Agent(here.settings("phone")) as agent:
        assert agent.look() == "committed"
        bad = here.publish(noise(here.spec, 2), "bad")
        for path in files(here, bad):
            whole = path.read_bytes()
            middle = len(whole) // 2
            flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
            path.chmod(0o600)
            path.write_bytes(flipped if lie == "tampered" else whole[:middle])
        assert agent.look() == "failed"
        assert last_failure(agent)
        check_serves(agent, good)
    with Agent(here.settings("phone")) as again:
        check_serves(again, good)


def test_adapter_of_another_base(here: World) -> None:
    good = here.publish(noise(here.spec, 1), "good")
    other = replace(here.spec, base_fingerprint="ab" * 32)
    with Agent(here.settings("phone")) as agent:
        assert agent.look() == "committed"
        here.publish(noise(other, 2), "other-base")
        assert agent.look() in {"rolled_back", "failed"}
        assert "base" in last_failure(agent)
        check_serves(agent, good)
