"""What the fleet's offline role says of helpers and of the number of devices, by the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mimo_fed.cli import build_app
from mimo_fed.errors import ConfigError, MimoFedError
from mimo_fed.secagg import Anchors
from mimo_fed_client.updater import Updater
from mimo_fed_server.registry.http import build_app as build_http
from mimo_fed_server.registry.service import Registry, initialize
from tests.simulators.registry_server import serving

KEYS = [bytes([i] * 32).hex() for i in range(10, 18)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "registry"
    initialize(folder, anchors=Anchors(bytes(32), bytes([1] * 32), frozenset({7})).to_json())
    return folder


def call(home: Path, command: str, *arguments: str) -> Any:
    """Run a command and return its JSON; raise what it raised."""
    done = CliRunner().invoke(
        build_app(), ["registry", command, "--home", str(home), "--json", *arguments], catch_exceptions=True
    )
    if isinstance(done.exception, MimoFedError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def signed_anchors(home: Path, folder: Path) -> Anchors:
    """What a device takes from the registry's signed metadata."""
    registry = Registry(home)
    with serving(build_http(registry)) as url:
        updater = Updater(folder, url, (home / "root.json").read_bytes())
        updater.refresh()
        anchors = updater.anchors()
        updater.close()
    registry.close()
    return anchors


def test_pinned_helpers_and_the_population_reach_devices_signed(home: Path, tmp_path: Path) -> None:
    assert call(home, "pin-helper", *KEYS[:3]) == {"helpers": KEYS[:3], "complete": True}
    assert call(home, "set-population", "5000") == {"population": 5000}
    anchors = signed_anchors(home, tmp_path / "updater")
    assert sorted(key.hex() for key in anchors.helpers) == KEYS[:3]
    assert anchors.population == 5000
    assert anchors.revoked == frozenset({7})


def test_helpers_can_be_changed_one_by_one_if_the_owner_says_so(home: Path) -> None:
    call(home, "pin-helper", *KEYS[:3])
    with pytest.raises(ConfigError, match="no committee has this many helpers: 4"):
        call(home, "pin-helper", KEYS[3])
    assert call(home, "pin-helper", "--incomplete", KEYS[3])["complete"] is False
    assert call(home, "unpin-helper", KEYS[0]) == {"helpers": KEYS[1:4], "complete": True}
    assert call(home, "unpin-helper", *KEYS[1:4])["helpers"] == []


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("pin-helper", ["abc"], "not a helper's public key"),
        ("pin-helper", [KEYS[0]], "no committee has this many helpers: 1"),
        ("pin-helper", [bytes(32).hex(), *KEYS[:2]], "cannot be coordinator or authority too"),
        ("unpin-helper", [KEYS[0]], "helper is not pinned"),
    ],
)
def test_pins_that_make_no_sense_are_refused(
    home: Path, command: str, arguments: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        call(home, command, *arguments)
    assert not Anchors.from_json((home / "anchors.json").read_bytes()).helpers


def test_without_the_offline_key_nothing_is_pinned(home: Path) -> None:
    (home / "keys" / "offline" / "targets.pem").rename(home / "elsewhere.pem")
    with pytest.raises(MimoFedError):
        call(home, "pin-helper", *KEYS[:3])
    assert not Anchors.from_json((home / "anchors.json").read_bytes()).helpers
