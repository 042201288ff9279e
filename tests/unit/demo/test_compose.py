"""The Compose file and its set-up, as far as they can be judged without a container engine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mimo_fed.demo import compose

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return found


@pytest.mark.parametrize(
    ("said", "meant"), [(None, "all"), ("", "all"), ("all", "all"), ("helper", "helper")]
)
def test_the_devices_open_their_sums_unless_helpers_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, said: str | None, meant: str
) -> None:
    monkeypatch.delenv("COMMITTEE", raising=False)
    if said is not None:
        monkeypatch.setenv("COMMITTEE", said)
    assert compose.chosen_committee() == meant


def test_a_committee_that_is_misspelt_ends_the_set_up_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMMITTEE", "helpers")
    monkeypatch.setattr(sys, "argv", ["compose", "fleet", "--volumes", str(tmp_path)])
    with pytest.raises(SystemExit, match="neither all nor helper: 'helpers'"):
        compose.main()
    assert not list(tmp_path.iterdir())


def test_the_helpers_of_the_set_up_are_those_of_the_profile(services: dict[str, Any]) -> None:
    in_profile = tuple(name for name, service in services.items() if service.get("profiles") == ["helpers"])
    assert in_profile == compose.HELPERS
    for name in in_profile:
        assert f"{name}:/setup/{name}" in services["setup"]["volumes"]


@pytest.mark.parametrize("name", compose.HELPERS)
def test_a_helper_is_a_hardened_server_behind_the_gate(services: dict[str, Any], name: str) -> None:
    helper = services[name]
    assert helper["image"] == services["coordinator"]["image"]
    assert (helper["read_only"], helper["cap_drop"]) == (True, ["ALL"])
    assert helper["security_opt"] == ["no-new-privileges:true"]
    assert helper["networks"] == ["fleet"]
    assert helper["volumes"] == [f"{name}:/var/lib/mimo-fed"]
    assert "ports" not in helper
    assert "gate" in helper["depends_on"]
