"""Enrolment over real HTTP: a token is good for one device and one key, once."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from mimo_fed.errors import ConfigError, MimoFedError, PeerProtocolError, RegistryError, TransportError
from mimo_fed.secagg.crypto import SigningKey
from mimo_fed.secagg.identity import Anchors
from mimo_fed_client.enrol import enrol
from mimo_fed_server.authority import Authority, build_app
from tests.simulators.registry_server import serving

NOW_S = 1_795_000_000


class Clock:
    """A clock that is set by hand."""

    now_s = float(NOW_S)

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> Iterator[Authority]:
    Authority.initialize(tmp_path)
    authority = Authority(tmp_path, now_s=clock)
    yield authority
    authority.close()


@pytest.fixture
def url(authority: Authority) -> Iterator[str]:
    with serving(build_app(authority)) as url:
        yield url


def _key() -> SigningKey:
    return SigningKey.generate(os.urandom)


def test_a_device_gets_a_certificate_that_the_anchors_accept(authority: Authority, url: str) -> None:
    key = _key()
    certificate = enrol(url, authority.make_token("watch"), "watch", key)
    anchors = Anchors(b"\x01" * 32, authority.public_key, frozenset())
    anchors.check(certificate, NOW_S)
    with pytest.raises(PeerProtocolError, match="not in force"):
        anchors.check(certificate, NOW_S + 366 * 24 * 3600)
    with pytest.raises(PeerProtocolError, match="revoked"):
        Anchors(b"\x01" * 32, authority.public_key, frozenset({certificate.serial})).check(certificate, NOW_S)
    assert certificate.public_key == key.public_key


def test_a_lost_answer_costs_nothing(authority: Authority, url: str) -> None:
    token, key = authority.make_token("watch"), _key()
    assert enrol(url, token, "watch", key) == enrol(url, token, "watch", key)
    assert len(authority.log()) == 1


def test_a_token_is_for_one_key(authority: Authority, url: str) -> None:
    token = authority.make_token("watch")
    enrol(url, token, "watch", _key())
    with pytest.raises(RegistryError, match="used already"):
        enrol(url, token, "watch", _key())
    assert len(authority.log()) == 1


def test_racing_keys_on_one_token_get_one_certificate(authority: Authority) -> None:
    token = authority.make_token("watch")

    def attempt(_: int) -> bool:
        try:
            return bool(authority.enrol(token, "watch", _key().public_key))
        except MimoFedError:
            return False

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(attempt, range(4)))
    assert won.count(True) == 1
    assert len(authority.log()) == 1


def test_a_token_is_for_one_device(authority: Authority, url: str) -> None:
    with pytest.raises(RegistryError, match="no token for this device: fridge"):
        enrol(url, authority.make_token("watch"), "fridge", _key())
    with pytest.raises(RegistryError, match="no token for this device: watch"):
        enrol(url, "guess", "watch", _key())
    assert authority.log() == []


def test_a_token_expires(authority: Authority, url: str, clock: Clock) -> None:
    token = authority.make_token("watch", lifetime_s=60)
    clock.now_s += 61
    with pytest.raises(RegistryError, match="expired"):
        enrol(url, token, "watch", _key())


def test_the_log_names_everything_that_was_issued(authority: Authority) -> None:
    for name in ("watch", "fridge"):
        authority.enrol(authority.make_token(name), name, _key().public_key)
    assert [(entry["serial"], entry["device_id"]) for entry in authority.log()] == [
        (1, "watch"),
        (2, "fridge"),
    ]


def test_tokens_are_stored_as_hashes_only(authority: Authority, tmp_path: Path) -> None:
    token = authority.make_token("watch")
    with sqlite3.connect(tmp_path / "authority.db") as books:
        (dump,) = [str(row) for row in books.execute("SELECT * FROM token")]
    books.close()
    assert "watch" in dump
    assert token not in dump


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"token": "t"}',
        b'{"token": "t", "device_id": "../x", "public_key": "' + b"0" * 64 + b'"}',
        b'{"token": "t", "device_id": "x", "public_key": "00"}',
        b" " * 5000,
    ],
)
def test_malformed_requests_are_refused(url: str, body: bytes) -> None:
    answer = httpx.post(f"{url}/v1/enrol", content=body)
    assert answer.status_code in (400, 413)
    assert answer.json()["error"]["code"].startswith("registry.")


def test_a_device_is_named_by_a_name(authority: Authority) -> None:
    with pytest.raises(PeerProtocolError):
        authority.make_token("../watch")


def test_an_authority_that_is_away_is_told_with_a_hint() -> None:
    with pytest.raises(TransportError, match="cannot be reached") as away:
        enrol("http://127.0.0.1:1", "t", "watch", _key(), patience_s=0.2)
    assert "authority serve" in away.value.hint


def test_a_certificate_for_someone_else_is_refused(authority: Authority, url: str) -> None:
    """An authority, or what stands in its place, that answers with another device's certificate."""
    from fastapi import FastAPI

    other = authority.enrol(authority.make_token("fridge"), "fridge", _key().public_key)
    app = FastAPI()

    @app.post("/v1/enrol")
    def answer() -> dict[str, str]:
        return {"certificate": other.encode().hex()}

    with serving(app) as false_url, pytest.raises(PeerProtocolError, match="another device or key"):
        enrol(false_url, "t", "watch", _key())


def test_the_key_is_private_and_made_once(tmp_path: Path) -> None:
    public_key = Authority.initialize(tmp_path)
    assert (tmp_path / "authority.key").stat().st_mode & 0o077 == 0
    assert (tmp_path / "public-key").read_text() == public_key.hex()
    with pytest.raises(RegistryError, match="already"):
        Authority.initialize(tmp_path)
    with pytest.raises(ConfigError, match="no authority here"):
        Authority(tmp_path / "nothing")
