"""The server's commands, as a person or a script uses them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner

from mimo_fed.errors import ConfigError, RegistryError
from mimo_fed.secagg.identity import Anchors
from mimo_fed_server import cli

KEYS = ("--coordinator-key", "11" * 32, "--authority-key", "22" * 32)


def _run(*args: str | Path) -> str:
    app = typer.Typer()
    cli.register(app)
    result = CliRunner().invoke(app, list(map(str, args)))
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_init_then_list(tmp_path: Path) -> None:
    made = json.loads(_run("registry", "init", "--home", tmp_path / "r", *KEYS, "--json"))
    assert Path(made["root"]).exists()
    anchors = Anchors.from_json(Path(made["anchors"]).read_bytes())
    assert (anchors.coordinator, anchors.authority) == (b"\x11" * 32, b"\x22" * 32)
    assert json.loads(_run("registry", "list", "--home", tmp_path / "r", "--json")) == []
    assert _run("registry", "list", "--home", tmp_path / "r") == "no release yet\n"
    with pytest.raises(RegistryError, match="already"):
        _run("registry", "init", "--home", tmp_path / "r", *KEYS)


def test_revocations_add_up(tmp_path: Path) -> None:
    _run("registry", "init", "--home", tmp_path, *KEYS)
    _run("registry", "revoke", "--home", tmp_path, "--serial", "3")
    said = _run("registry", "revoke", "--home", tmp_path, "--serial", "5", "--json")
    assert json.loads(said) == {"revoked": [3, 5]}
    assert Anchors.from_json((tmp_path / "anchors.json").read_bytes()).revoked == {3, 5}
    (tmp_path / "keys" / "offline" / "targets.pem").unlink()
    with pytest.raises(RegistryError, match="key of role targets is not here"):
        _run("registry", "revoke", "--home", tmp_path, "--serial", "6")
    assert Anchors.from_json((tmp_path / "anchors.json").read_bytes()).revoked == {3, 5}


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--authority-key"):
        _run("registry", "init", "--home", tmp_path, *KEYS[:3], "11")
    assert list(tmp_path.iterdir()) == []


def test_authority_init_and_token(tmp_path: Path) -> None:
    made = json.loads(_run("authority", "init", "--home", tmp_path, "--json"))
    assert (tmp_path / "public-key").read_text() == made["public_key"]
    token = json.loads(_run("authority", "token", "--home", tmp_path, "--device", "watch", "--json"))
    assert token["device"] == "watch"
    assert len(_run("authority", "token", "--home", tmp_path, "--device", "fridge").strip()) >= 32
    assert json.loads(_run("authority", "log", "--home", tmp_path, "--json")) == []


def test_help_has_examples() -> None:
    for command in (("registry", "init"), ("authority", "token"), ("coordinator", "run")):
        assert "Examples" in _run(*command, "--help")


def test_serve_says_where_it_listens_and_ends_on_sigterm(tmp_path: Path) -> None:
    _run("registry", "init", "--home", tmp_path / "r", *KEYS)
    ready = tmp_path / "url"
    command = [
        "registry",
        "serve",
        "--home",
        str(tmp_path / "r"),
        "--port",
        "0",
        "--ready-file",
        str(ready),
        "--json",
    ]
    server = subprocess.Popen(
        [sys.executable, "-m", "mimo_fed.cli", *command],
        stdout=subprocess.PIPE,
    )
    try:
        give_up_at = time.monotonic() + 30
        while not ready.exists() and time.monotonic() < give_up_at and server.poll() is None:
            time.sleep(0.05)
        assert httpx.get(ready.read_text() + "/health", timeout=20).json()["status"] == "ok"
    finally:
        server.send_signal(signal.SIGTERM)
        said, _ = server.communicate(timeout=20)
    assert json.loads(said) == {"serving": ready.read_text()}
