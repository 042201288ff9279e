"""The gate on real sockets, before a server that answers with what it was sent."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from mimo_fed.errors import ConfigError
from mimo_fed_server.gate import build_gate, serve
from mimo_fed_server.setup import make_coordinator_key
from tests.simulators.registry_server import serving

FLEET = "/v1/fleet/push-object"


@pytest.fixture
def gate() -> Iterator[str]:
    app = FastAPI()

    @app.post("/{path:path}")
    async def echo(path: str, request: Request) -> Response:
        seen = {"x-path": path, "x-length": request.headers.get("content-length", "none")}
        status = int(request.headers.get("x-status", "200"))
        return Response(await request.body(), status, seen | {"x-node": request.headers.get("x-node", "")})

    with serving(app) as upstream, serving(build_gate(upstream.removeprefix("http://"), None)) as url:
        yield url


def test_a_call_of_a_device_is_passed_on_byte_for_byte(gate: str) -> None:
    body = bytes(range(256)) * 8192
    answer = httpx.post(gate + FLEET, content=body, headers={"x-node": "signature"})
    assert answer.status_code == 200
    assert answer.content == body
    assert answer.headers["x-path"] == FLEET[1:]
    assert answer.headers["x-node"] == "signature"
    assert answer.headers["x-length"] == str(len(body))


def test_a_refusal_is_passed_on_too(gate: str) -> None:
    assert httpx.post(gate + FLEET, headers={"x-status": "403"}).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/v1/fleet/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "/v1/fleet/push-object/../../control/start-run",
        "/v1/fleet/push-object%2f..%2f..%2fcontrol%2fstart-run",
        "//v1/control/start-run",
        "/",
    ],
)
def test_nothing_else_passes(gate: str, path: str) -> None:
    url = httpx.URL(gate).copy_with(raw_path=path.encode())
    assert httpx.post(url).status_code == 404


def test_an_absent_superlink_is_a_gateway_error_that_a_node_tries_again() -> None:
    with serving(build_gate("127.0.0.1:9", None)) as url:
        assert httpx.post(url + FLEET).status_code == 502


def test_a_gate_that_cannot_check_the_superlink_or_be_checked_does_not_start(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with pytest.raises(ConfigError, match="root certificates"):
        build_gate("127.0.0.1:9", tmp_path / "absent.pem")
    with pytest.raises(ConfigError, match="certificate"):
        serve("127.0.0.1:9", "127.0.0.1", 0, certificate=(empty, empty))


def test_a_coordinator_key_is_private_and_never_replaced(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    public_key = make_coordinator_key(key_file)
    assert len(public_key) == 32
    assert len(bytes.fromhex(key_file.read_text().strip())) == 32
    assert key_file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="already"):
        make_coordinator_key(key_file)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs OpenSSL's program, as the images have it")
def test_certificates_of_the_compose_file_belong_to_their_hosts(tmp_path: Path) -> None:
    from mimo_fed.demo.compose import make_certificates

    folders = {host: tmp_path / host for host in ("superlink", "gate")}
    for folder in folders.values():
        folder.mkdir()
    make_certificates(folders)
    for host, other in (("superlink", "gate"), ("gate", "superlink")):
        check = [
            "openssl",
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-CAfile",
            f"{tmp_path}/{other}/ca.pem",
        ]
        check += ["-verify_hostname", host]
        good = subprocess.run([*check, f"{tmp_path}/{host}/cert.pem"], capture_output=True, check=False)
        assert good.returncode == 0, good.stderr
        bad = subprocess.run([*check, f"{tmp_path}/{other}/cert.pem"], capture_output=True, check=False)
        assert b"ostname mismatch" in bad.stderr
        assert (folders[host] / "key.pem").stat().st_mode & 0o077 == 0
    assert not list(tmp_path.rglob("ca.key"))
