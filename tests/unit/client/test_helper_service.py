"""A helper's service and its enrolment, against a real authority and a real registry."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mimo_fed.cli import build_app
from mimo_fed.errors import ConfigError, PeerProtocolError, RegistryError
from mimo_fed.events import read_events
from mimo_fed.round import envelope
from mimo_fed.round.membership import prekey_request
from mimo_fed.secagg import HYBRID, Anchors, SigningKey, verify_hello
from mimo_fed_client.helper import Helper
from mimo_fed_client.helper_settings import HelperSettings, load_helper_settings
from mimo_fed_server.authority import Authority
from mimo_fed_server.authority import build_app as build_authority
from mimo_fed_server.registry.http import build_app as build_registry
from mimo_fed_server.registry.service import Registry, initialize
from tests.simulators.registry_server import serving


@dataclass
class Land:
    """An authority, a registry, and the folder of one helper with its settings."""

    authority: Authority
    registry: Registry
    anchors: Anchors
    file: Path

    @property
    def settings(self) -> HelperSettings:
        return load_helper_settings(self.file)

    def sign(self, anchors: Anchors) -> None:
        self.registry.repository.set_anchors(anchors.to_json())

    def events(self, kind: str) -> list[dict[str, Any]]:
        found = [event for _, event in read_events(self.settings.home / "events.jsonl")]
        return [event for event in found if event["kind"] == kind]


@pytest.fixture
def land(tmp_path: Path) -> Iterator[Land]:
    anchors = Anchors(
        SigningKey.generate(os.urandom).public_key, Authority.initialize(tmp_path / "authority")
    )
    authority = Authority(tmp_path / "authority")
    initialize(tmp_path / "registry", anchors=anchors.to_json())
    registry = Registry(tmp_path / "registry")
    home = tmp_path / "organisation"
    home.mkdir()
    (home / "root.json").write_bytes((tmp_path / "registry" / "root.json").read_bytes())
    (home / "token").write_text(authority.make_token("consumer-body"))
    with serving(build_authority(authority)) as office, serving(build_registry(registry)) as url:
        (home / "helper.toml").write_text(
            'helper_id = "consumer-body"\nhome = "home"\nsuperlink = "127.0.0.1:1"\nroot_file = "root.json"\n'
            f'registry_url = "{url}"\nauthority_url = "{office}"\ntoken_file = "token"\n'
        )
        yield Land(authority, registry, anchors, home / "helper.toml")
    authority.close()
    registry.close()


def call(land: Land, command: str) -> Any:
    """Run a command of `helper` and return its JSON; raise what it raised."""
    words = ["helper", command, "--config", str(land.file), "--json"]
    done = CliRunner().invoke(build_app(), words)
    if done.exception is not None:
        raise done.exception
    return json.loads(done.output)


def test_the_key_that_was_shown_for_pinning_is_the_one_that_is_certified(land: Land) -> None:
    made = call(land, "init")
    enrolled = call(land, "enrol")
    assert enrolled["public_key"] == made["public_key"]
    assert [entry["device_id"] for entry in land.authority.log()] == ["consumer-body"]
    assert not (land.file.parent / "token").exists()
    assert (land.settings.home / "key").stat().st_mode & 0o077 == 0
    assert call(land, "enrol") == enrolled
    found = call(land, "status")
    assert (found["enrolled"], found["public_key"], found["rounds"]) == (True, made["public_key"], [])


def test_a_token_of_another_is_refused_and_the_key_stays(land: Land) -> None:
    made = call(land, "init")
    (land.file.parent / "token").write_text(land.authority.make_token("car"))
    with pytest.raises(RegistryError):
        call(land, "enrol")
    assert call(land, "init") == made
    assert not call(land, "status")["enrolled"]


def test_pins_and_revocations_reach_it_at_its_next_look(land: Land) -> None:
    with Helper(land.settings) as helper:
        key, ask = helper.identity.key.public_key, prekey_request(HYBRID, "train-1-aa")
        helper.look()
        with pytest.raises(PeerProtocolError, match="not pinned"):
            envelope.unwrap(helper.handle("prekey", ask))
        land.sign(replace(land.anchors, helpers=frozenset({key, b"\x08" * 32, b"\x09" * 32})))
        helper.look()
        assert envelope.unwrap(helper.handle("prekey", ask))
        land.sign(replace(land.anchors, revoked=frozenset({helper.identity.certificate.serial})))
        helper.look()
        helper.look()
    told = [(event["pinned"], event["revoked"], event["helpers"]) for event in land.events("trust")]
    assert told == [(False, False, 0), (True, False, 3), (False, True, 0)]
    assert call(land, "status")["revoked"] is True


def test_it_proves_who_it_is(land: Land) -> None:
    with Helper(land.settings) as helper:
        helper.look()
        nonce = os.urandom(32)
        answer = envelope.unwrap(helper.handle("hello", nonce))
        certificate = verify_hello(answer, nonce, land.anchors, helper.identity.certificate.not_before_s + 1)
        assert certificate == helper.identity.certificate


def test_a_registry_that_cannot_be_reached_is_an_event_and_no_end(land: Land) -> None:
    call(land, "enrol")
    away = land.settings.model_copy(update={"registry_url": "http://127.0.0.1:1"})
    with Helper(away) as helper:
        helper.look()
        assert helper.handle("prekey", prekey_request(HYBRID, "train-1-aa"))[:1] != b"\x01"
    assert land.events("look.failed")[0]["code"] == "transport"


def test_one_process_at_a_time_and_a_damaged_log_is_an_error(land: Land) -> None:
    with Helper(land.settings), pytest.raises(ConfigError, match="another agent runs"):
        Helper(land.settings)
    (land.settings.home / "rounds.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="damaged at line 1"):
        Helper(land.settings)
    (land.settings.home / "rounds.jsonl").unlink()
    with Helper(land.settings):
        assert call(land, "status")["pid"] == os.getpid()
    assert call(land, "status")["pid"] is None


def test_a_service_runs_without_torch_and_ends_when_told(land: Land) -> None:
    """A real process, whose SuperLink is away; torch could not be imported if it tried."""
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'transformers', 'peft')))\n"
        f"sys.argv = ['mimo-fed', 'helper', 'run', '--config', {str(land.file)!r}]\n"
        "from mimo_fed.cli import main\n"
        "main()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 60
        while not land.events("superlink.lost"):
            assert process.poll() is None, "the service ended by itself"
            assert time.monotonic() < end, land.events("helper.started")
            time.sleep(0.05)
        assert call(land, "status")["pid"] == process.pid
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert output.splitlines()[-1] == "consumer-body stopped"
    assert land.events("helper.stopped")


@pytest.mark.parametrize("command", ["init", "enrol", "run", "status"])
def test_help_has_examples(command: str) -> None:
    shown = CliRunner().invoke(build_app(), ["helper", command, "--help"])
    assert shown.exit_code == 0
    assert "Examples" in shown.output
