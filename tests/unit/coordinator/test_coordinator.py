"""The coordinator's loop against a real registry, with simulated devices."""

import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.config import ScheduleConfig, ServerConfig
from mimo_fed.errors import ConfigError, RegistryError
from mimo_fed.events import read_events
from mimo_fed.round.device import Evaluation
from mimo_fed_client.audit import Source, verify_release
from mimo_fed_server.client import RegistryClient
from mimo_fed_server.coordinator import CoordinatorProcess, run
from mimo_fed_server.settings import CoordinatorSettings, load_settings
from tests.simulators.fleet import SPEC, Killed, MemoryFleet
from tests.simulators.registry_server import registry_server
from tests.unit.round.test_round import CONFIG


@dataclass
class Site:
    """A registry that holds release 0, a fleet, and the coordinator's settings."""

    fleet: MemoryFleet
    settings: CoordinatorSettings
    registry: RegistryClient
    home: Path
    registry_home: Path

    def run(self) -> None:
        run(lambda identify: self.fleet, self.settings)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [e for _, e in read_events(self.home / "events.jsonl") if e["kind"] == kind]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    fleet = MemoryFleet(tmp_path, now_s=time.time)
    home, registry_home = tmp_path / "coordinator", tmp_path / "registry"
    home.mkdir()
    (home / "key").write_text(fleet.key.to_bytes().hex())
    (home / "anchors.json").write_bytes(fleet.anchors.to_json())
    (home / "spec.json").write_bytes(SPEC.to_json())
    with registry_server(registry_home, anchors=fleet.anchors.to_json()) as url:
        token = (registry_home / "admin-token").read_text().strip()
        registry = RegistryClient(url, token)
        zero = registry.publish(
            GlobalAdapter.zero(SPEC).to_safetensors(),
            channel="dev",
            base_fingerprint=SPEC.base_fingerprint,
            basis_epoch=0,
            spec_digest=SPEC.digest(),
            round_id="release-0",
            quorum_digest="",
        )
        registry.promote(zero.number, "stable")

        fetched: dict[str, bytes] = {}

        def fetch(digest: str) -> bytes:
            """Devices share one download of each release."""
            if digest not in fetched:
                info = registry.latest("dev")
                assert info is not None
                assert info.digest == digest
                fetched[digest] = registry.download(info)
            return fetched[digest]

        for device in fleet.devices.values():
            device.fetch = fetch
        settings = CoordinatorSettings(
            home=str(home),
            key_file=str(home / "key"),
            anchors_file=str(home / "anchors.json"),
            spec_file=str(home / "spec.json"),
            registry_url=url,
            registry_token_file=str(registry_home / "admin-token"),
            superlink="127.0.0.1:1",
            rounds=2,
            min_devices=3,
            round=CONFIG,
        )
        yield Site(fleet, settings, registry, home, registry_home)
        registry.close()


def channel(site: Site, name: str) -> int:
    info = site.registry.latest(name)
    assert info is not None
    return info.number


def test_two_cycles_publish_judge_promote_and_tell(site: Site) -> None:
    site.run()
    assert channel(site, "dev") == channel(site, "stable") == 2
    records = site.registry.rounds()
    assert [r["kind"] for r in records] == ["train", "evaluate"] * 2
    assert [r["release"] for r in records] == [1, 1, 2, 2]
    assert all(r["quorum_digest"] and r["test_only"] for r in records)
    notices = [json.loads(n) for n in site.fleet.devices["device-1"].notices]
    assert [(n["release"], n["last"]) for n in notices] == [(1, False), (2, True)]
    assert len(site.events("device.installed")) == 16


def test_every_release_comes_with_evidence_that_anybody_can_verify(site: Site) -> None:
    site.run()
    trains = [r for r in site.registry.rounds() if r["kind"] == "train"]
    source = Source(url=site.settings.registry_url, root=(site.registry_home / "root.json").read_bytes())
    for number, record in enumerate(trains, 1):
        with source.open() as updater:
            finding = verify_release(updater, "stable", number)
        assert finding.audit.round_id == record["round_id"]
        assert finding.audit.quorum_digest == record["quorum_digest"]
        assert finding.audit.survivors == tuple(record["survivors"])
        assert finding.base is not None
        assert finding.base.number == number - 1
    assert list(site.home.glob("*.evidence")) == list(site.home.glob("*.safetensors")) == []


def test_evidence_outlives_a_kill_between_round_and_publication(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> dict[str, Any]:
        raise Killed

    with monkeypatch.context() as kill:
        kill.setattr(CoordinatorProcess, "_publish", killed)
        with pytest.raises(Killed):
            site.run()
    (kept,) = site.home.glob("*.evidence")
    evidence = kept.read_bytes()
    site.run()
    assert not kept.exists()
    first = site.registry.releases()[1]
    assert first["evidence_digest"] == hashlib.sha256(evidence).hexdigest()


def test_worse_release_is_kept_back_and_the_next_trains_from_it_all_the_same(site: Site) -> None:
    for device in site.fleet.devices.values():
        device.evaluate = lambda *_: Evaluation(weight=1, loss_current=3.0, loss_candidate=3.5)  # type: ignore[method-assign]
    site.run()
    assert channel(site, "dev") == 2
    assert channel(site, "stable") == 0
    assert [e["number"] for e in site.events("release.kept_back")] == [1, 2]


def test_thin_judgement_is_no_approval(site: Site) -> None:
    def judging() -> bool:
        return len(site.events("release.published")) > len(site.events("release.kept_back"))

    site.fleet.lost = lambda stage, device: stage == "shares" and judging()
    site.run()
    assert channel(site, "stable") == 0
    assert all("inconclusive" in e["reason"] for e in site.events("release.kept_back"))


@pytest.mark.parametrize("step", ["train", "publish", "judge", "promote", "notify"])
def test_killed_between_steps_nothing_happens_twice(
    site: Site, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = getattr(CoordinatorProcess, f"_{step}")

    def killed(self: CoordinatorProcess, cycle: int, done: dict[str, Any]) -> Any:
        result = act(self, cycle, done)
        if not (site.home / "killed").exists():
            (site.home / "killed").touch()
            raise Killed
        return result

    monkeypatch.setattr(CoordinatorProcess, f"_{step}", killed)
    with pytest.raises(Killed):
        site.run()
    site.run()
    assert channel(site, "dev") == 2
    published = {e["number"] for e in site.events("release.published")}
    assert published == {1, 2}
    assert len([r for r in site.registry.rounds() if r["release"] == 1 and r["kind"] == "train"]) == 1


def test_opened_round_is_not_lost_when_the_registry_is_away(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> bytes:
        raise RegistryError("away")

    with monkeypatch.context() as broken:
        broken.setattr(RegistryClient, "download", away)
        for device in site.fleet.devices.values():
            device.fetch = None  # their own way to releases is open
        with pytest.raises(RegistryError):
            site.run()
    assert len(site.events("round.opened")) == 1

    def fetch(_: str) -> bytes:
        info = site.registry.latest("dev")
        assert info is not None
        return site.registry.download(info)

    for device in site.fleet.devices.values():
        device.fetch = fetch
    site.run()
    trains = [e["round_id"] for e in site.events("round.opened") if e["round_kind"] == "train"]
    assert len(trains) == 3
    assert len(set(trains)) == 2
    assert all(len(device.trained) == 2 for device in site.fleet.devices.values())


@pytest.mark.parametrize(
    "round_lines", ["n_max = 65", "n_min = 9\nn_max = 8", "n_min = 0", "n_min = 2\n# with two devices"]
)
def test_numbers_that_no_round_could_have_are_found_at_the_start(tmp_path: Path, round_lines: str) -> None:
    names = [
        "home",
        "key_file",
        "anchors_file",
        "spec_file",
        "registry_url",
        "registry_token_file",
        "superlink",
    ]
    text = "".join(f'{name} = "x"\n' for name in names)
    path = tmp_path / "coordinator.toml"
    path.write_text(f"{text}min_devices = 16\n[round]\nn_min = 16\n")
    load_settings(path)
    devices = 2 if "two" in round_lines else 16
    path.write_text(f"{text}min_devices = {devices}\n[round]\n{round_lines}\n")
    with pytest.raises(ConfigError, match="no round could have"):
        load_settings(path)


def test_phases_follow_the_schedule_and_the_basis_changes_between_them(site: Site) -> None:
    site.settings = replace(site.settings, rounds=3, schedule=ScheduleConfig(cycle="BM"))
    site.run()
    trains = [r for r in site.registry.rounds() if r["kind"] == "train"]
    assert [r["phase"] for r in trains] == ["B", "M", "B"]
    assert [r["basis_epoch"] for r in site.registry.releases()] == [0, 1, 2, 3]
    head = site.registry.latest("dev")
    assert head is not None
    adapter = GlobalAdapter.from_safetensors(site.registry.download(head), SPEC)
    for left in adapter.left.values():
        np.testing.assert_allclose(left.T @ left, np.eye(16), atol=1e-5)


def test_within_a_phase_the_basis_stays(site: Site) -> None:
    site.settings = replace(site.settings, schedule=ScheduleConfig(cycle="M"))
    site.run()
    assert [r["basis_epoch"] for r in site.registry.releases()] == [0, 0, 0]


def test_moments_outlive_the_process(site: Site) -> None:
    """Two means of random updates are nearly orthogonal: what of a step is in the next one is momentum."""
    server = ServerConfig(optimizer="fedavgm", momentum=0.9)
    schedule = ScheduleConfig(cycle="B")
    adapters = [GlobalAdapter.zero(SPEC)]
    for rounds in (1, 2):
        site.settings = replace(
            site.settings, rounds=rounds, schedule=schedule, round=replace(CONFIG, server=server)
        )
        site.run()
        head = site.registry.latest("dev")
        assert head is not None
        assert [path.stem for path in site.home.glob("*.moments")] == [head.digest]
        adapters.append(GlobalAdapter.from_safetensors(site.registry.download(head), SPEC))
    start, middle, end = (np.concatenate([x.ravel() for x in a.values("B").values()]) for a in adapters)
    step = middle - start
    assert (end - middle) @ step / (step @ step) == pytest.approx(0.9, abs=0.15)


def test_the_clip_norm_moves_to_where_the_wanted_share_is_not_clipped(site: Site) -> None:
    config = replace(CONFIG, privacy=replace(CONFIG.privacy, clip_norm=0.01))
    site.settings = replace(site.settings, rounds=3, round=config, clip_target=0.5)
    site.run()
    clips = [r["clip_norm"] for r in site.registry.rounds() if r["kind"] == "train"]
    assert clips == pytest.approx([0.01, 0.01 * math.exp(0.1), 0.01 * math.exp(0.2)], rel=0.01)
