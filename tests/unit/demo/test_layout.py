"""A run's folder: what may be replaced, what a person may choose, what the ending says."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest
from rich.console import Console

from mimo_fed.config import RoundConfig
from mimo_fed.data import load_demo
from mimo_fed.demo.ending import show
from mimo_fed.demo.layout import (
    DemoSettings,
    Layout,
    Ports,
    agent_table,
    coordinator_table,
    write_secret,
    write_settings,
)
from mimo_fed.demo.run import Finished
from mimo_fed.demo.see import Sight
from mimo_fed.errors import ConfigError
from mimo_fed_client.settings import load_settings
from mimo_fed_server import settings as server_settings
from tests.unit.demo.records import MEASURED, built, measured


def test_a_run_replaces_an_earlier_one_of_its_name(tmp_path: Path) -> None:
    settings = DemoSettings(runs=tmp_path)
    layout = Layout(tmp_path, "demo")
    layout.create(settings)
    layout.report.write_text("{}")
    layout.create(settings)
    assert not layout.report.exists()
    assert layout.coordinator.is_dir()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    treasure = tmp_path / "photos" / "wedding.jpg"
    treasure.parent.mkdir()
    treasure.write_text("us")
    with pytest.raises(ConfigError, match="not a run of the demo"):
        Layout(tmp_path, "photos").create(DemoSettings(runs=tmp_path, name="photos"))
    assert treasure.read_text() == "us"


@pytest.mark.parametrize(
    "bad", [{"name": "../x"}, {"name": ""}, {"rounds": 0}, {"devices": 2}, {"devices": 9}]
)
def test_senseless_choices_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        DemoSettings(**bad)  # type: ignore[arg-type]


def test_the_round_says_what_the_demo_changes() -> None:
    config = DemoSettings(deadline_s=120.0).round
    assert (config.n_min, config.n_max, config.deadline_s) == (3, 8, 120.0)
    assert RoundConfig.from_json(config.to_json()) == config


def test_the_coordinator_can_read_its_settings(tmp_path: Path) -> None:
    settings, layout = DemoSettings(runs=tmp_path, rounds=2, devices=5), Layout(tmp_path, "demo")
    path = layout.coordinator / "coordinator.toml"
    ports = Ports(authority=1, registry=2, superlink=4)
    write_settings(path, coordinator_table(layout, settings, ports))
    read = server_settings.load_settings(path)
    assert read.round == settings.round
    assert (read.rounds, read.min_devices, read.superlink) == (2, 5, "127.0.0.1:4")
    assert read.test_plaintext == ""


def test_every_agent_can_read_its_settings(tmp_path: Path) -> None:
    settings, layout = DemoSettings(runs=tmp_path), Layout(tmp_path, "demo")
    ports = Ports(authority=1, registry=2, superlink=4)
    for device in load_demo():
        path = layout.device(device.name) / "agent.toml"
        write_settings(path, agent_table(layout, settings, ports, device))
        read = load_settings(path)
        assert (read.device_id, read.rank, read.home) == (device.name, device.rank, path.parent)
        assert read.policy.policy().n_min_floor == 3
        assert (read.superlink, read.registry_url) == ("127.0.0.1:4", "http://127.0.0.1:2")


def test_a_secret_is_its_owners_alone(tmp_path: Path) -> None:
    write_secret(tmp_path / "new" / "key", "00\n")
    assert stat.S_IMODE((tmp_path / "new" / "key").stat().st_mode) == 0o600


def _ending(tmp_path: Path, found: dict[str, object], settings: DemoSettings) -> str:
    sight = Sight(
        device="car-1",
        round_id="train-3",
        num_bytes=9,
        shown_from=4,
        shown=b"\x01\x02\xfe\xff",
        entropy_bits=7.99,
        num_survivors=3,
        quorum_digest="ab" * 32,
        votes=3,
    )
    output = io.StringIO()
    finished = Finished(
        settings=settings,
        layout=Layout(tmp_path, settings.name),
        report=found,
        sight=sight,
        audited=["The evidence holds"],
    )
    show(finished, Console(file=output, width=80))
    return output.getvalue()


def test_the_ending_has_devices_warnings_the_sight_and_the_way_on(tmp_path: Path) -> None:
    text = _ending(tmp_path, built(), DemoSettings(runs=tmp_path))
    for part in (
        "watch-1",
        "it* ",
        "1.40 MB sent, 2.50 MB received",
        "NO DIFFERENTIAL PRIVACY",
        "test-only",
        "0102feff",
        "opened once",
    ):
        assert part in text, part
    assert str(tmp_path / "demo" / "report.html") in text
    assert f"mimo-fed chat --device phone-1 --run {tmp_path / 'demo'}" in text
    assert "…" not in text
    assert "DID NOT HOLD" not in text


def test_the_ending_does_not_hide_a_failed_claim(tmp_path: Path) -> None:
    found = built()
    for row, name in zip(found["devices"], MEASURED, strict=True):
        row["bpb"] = measured(1.0, 1.2, 1.1)["bpb"]
        assert row["name"] == name
    found["claims"] = {"personal_beats_base": 0, "global_beats_base_mean": False}
    text = _ending(tmp_path, found, DemoSettings(runs=tmp_path))
    assert text.count("DID NOT HOLD") == 2
    assert json.dumps(found)
