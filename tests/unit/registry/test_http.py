"""The registry over real HTTP: its routes, its refusals, and the client that survives its restarts."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mimo_fed.codec import Writer
from mimo_fed.errors import ConfigError, RegistryError
from mimo_fed.release import ReleaseInfo
from mimo_fed.secagg.evidence import quorum_digest
from mimo_fed_server.client import RegistryClient
from mimo_fed_server.registry import http as module
from mimo_fed_server.registry.blobs import Blobs
from tests.simulators.registry_server import registry_server

HTTP = httpx.Client()
ADAPTER = bytes(range(256)) * 40


def draft_of(content: bytes, round_id: str) -> dict[str, Any]:
    """Facts of a release, but for its channel."""
    return {
        "digest": hashlib.sha256(content).hexdigest(),
        "base_fingerprint": "a" * 64,
        "basis_epoch": 0,
        "spec_digest": "b" * 64,
        "round_id": round_id,
        "quorum_digest": "",
    }


def evidence_of(name: str) -> tuple[bytes, str]:
    """Something of the form of evidence, and the hash of what is a quorum certificate in it."""
    certificate = f"votes of {name}".encode()
    writer = Writer().text("evidence").blob(b"manifest").blob(b"ballot").blob(certificate)
    return writer.bytes(), quorum_digest(certificate)


def publish(
    client: RegistryClient, content: bytes, round_id: str, channel: str = "dev", **more: Any
) -> ReleaseInfo:
    facts = draft_of(content, round_id)
    del facts["digest"]
    return client.publish(content, channel=channel, **facts | more)


@pytest.fixture(scope="module", autouse=True)
def close_connections() -> Iterator[None]:
    yield
    HTTP.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with registry_server(home) as url:
        yield url


@pytest.fixture
def client(url: str, home: Path) -> Iterator[RegistryClient]:
    with RegistryClient(url, (home / "admin-token").read_text(), patience_s=5) as client:
        yield client


def test_publish_read_promote(client: RegistryClient) -> None:
    assert client.latest("stable") is None
    info = publish(client, ADAPTER, "r0")
    assert client.latest("dev") == info
    assert publish(client, ADAPTER, "r0") == info
    assert client.download(info) == ADAPTER
    stable = client.promote(info.number, "stable")
    assert client.latest("stable") == stable
    assert client.download(stable) == ADAPTER
    assert [r["channels"] for r in client.releases()] == [["dev", "stable"]]


def test_evidence_is_published_with_a_release_and_served_to_anybody(client: RegistryClient, url: str) -> None:
    evidence, votes = evidence_of("r-evidence")
    info = publish(client, b"made by a round", "r-evidence", quorum_digest=votes, evidence=evidence)
    assert info.evidence_digest == hashlib.sha256(evidence).hexdigest()
    assert info.evidence_length == len(evidence)
    assert publish(client, b"made by a round", "r-evidence", quorum_digest=votes, evidence=evidence) == info
    for offered in (info, client.promote(info.number, "stable")):
        folder, _, name = offered.evidence_path.rpartition("/")
        where = f"{url}/tuf/targets/{folder}/{info.evidence_digest}.{name}"
        assert HTTP.get(where).content == evidence
        assert HTTP.head(where).headers["etag"] == f'"{info.evidence_digest}"'


def _no_evidence() -> list[bytes]:
    whole, _ = evidence_of("r9")
    return [b"x", whole[:-1], whole + b"x", whole.replace(b"evidence", b"evidents"), b"\xff" * 40]


@pytest.mark.parametrize("data", _no_evidence())
def test_what_has_not_the_form_of_evidence_is_refused(
    client: RegistryClient, home: Path, data: bytes
) -> None:
    before = client.releases()
    with pytest.raises(RegistryError, match="not the evidence of a round") as refused:
        publish(client, b"other", "r9", quorum_digest="c" * 64, evidence=data)
    assert refused.value.code == "registry.bad_request"
    assert client.releases() == before
    assert not Blobs(home / "blobs").path(hashlib.sha256(data).hexdigest()).exists()


def test_a_quorum_certificate_without_its_evidence_is_refused(client: RegistryClient) -> None:
    before = client.releases()
    evidence, votes = evidence_of("r9")
    for digest, data, said in (
        (votes, b"", "named without evidence"),
        ("c" * 64, evidence, "another quorum certificate"),
        ("", evidence, "another quorum certificate"),
    ):
        with pytest.raises(RegistryError, match=said) as refused:
            publish(client, b"other", "r9", quorum_digest=digest, evidence=data)
        assert refused.value.code == "registry.conflict"
    assert client.releases() == before


def test_evidence_that_was_not_sent_is_refused(client: RegistryClient, url: str, home: Path) -> None:
    header = draft_of(b"x", "r9") | {"channel": "dev", "evidence_digest": "e" * 64}
    token = (home / "admin-token").read_text()
    answer = HTTP.post(
        url + "/v1/releases",
        content=b"x",
        headers={"authorization": f"Bearer {token}", "x-release": json.dumps(header)},
    )
    assert answer.status_code == 409
    assert answer.json()["error"]["message"].endswith("e" * 64)


def test_evidence_under_another_digest_is_refused(url: str, home: Path) -> None:
    token = (home / "admin-token").read_text()
    evidence, _ = evidence_of("r9")
    answer = HTTP.put(
        f"{url}/v1/evidence/{'e' * 64}",
        content=evidence,
        headers={"authorization": f"Bearer {token}"},
    )
    assert answer.json()["error"]["code"] == "registry.bad_request"


def test_rounds_are_listed(client: RegistryClient) -> None:
    client.put_round("r0", {"round_id": "r0", "survivors": ["a"], "seconds": 1.5})
    assert client.rounds() == [{"round_id": "r0", "survivors": ["a"], "seconds": 1.5}]


def test_health(client: RegistryClient) -> None:
    assert client.health()["status"] == "ok"


@pytest.mark.parametrize("token", ["", "wrong", "é"])
def test_changes_need_the_token(url: str, token: str) -> None:
    headers = {b"authorization": f"Bearer {token}".encode()} if token else {}
    for method, path in (
        ("POST", "/v1/releases"),
        ("POST", "/v1/channels/stable/promote"),
        ("PUT", "/v1/rounds/x"),
        ("PUT", f"/v1/evidence/{'e' * 64}"),
    ):
        answer = HTTP.request(
            method, url + path, headers=headers | {b"x-release": b"{}"}, json={"release": 0}
        )
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "registry.unauthorized"


def test_a_refusal_reaches_the_caller_with_its_hint(client: RegistryClient) -> None:
    with pytest.raises(RegistryError, match="no such release: 99") as refused:
        client.promote(99, "stable")
    assert refused.value.code == "registry.not_found"
    assert "registry list" in refused.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "0" * 64},
        {"digest": "short"},
        {"base_fingerprint": "../../etc"},
        {"base_fingerprint": ""},
        {"basis_epoch": -1},
        {"round_id": "a/b"},
        {"extra": 1},
        {"channel": "beta"},
        {"quorum_digest": "C" * 64},
        {"evidence_digest": "../x"},
    ],
)
def test_malformed_publishes_are_refused(
    client: RegistryClient, url: str, home: Path, change: dict[str, Any]
) -> None:
    before = client.releases()
    header = draft_of(b"x", "bad") | {"channel": "dev"} | change
    token = (home / "admin-token").read_text()
    answer = HTTP.post(
        url + "/v1/releases",
        content=b"x",
        headers={"authorization": f"Bearer {token}", "x-release": json.dumps(header)},
    )
    assert answer.status_code in (400, 404)
    assert set(answer.json()["error"]) == {"code", "message", "hint"}
    assert client.releases() == before


def test_a_body_over_the_limit_is_refused(client: RegistryClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ADAPTER_BYTES", 10)
    monkeypatch.setattr(module, "MAX_EVIDENCE", 10)
    evidence, votes = evidence_of("large")
    for content, more in ((b"x" * 11, {}), (b"x", {"quorum_digest": votes, "evidence": evidence})):
        with pytest.raises(RegistryError) as refused:
            publish(client, content, "large", **more)
        assert refused.value.code == "registry.too_large"


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"[" * 100_000])
def test_a_round_that_is_not_an_object_is_refused(url: str, home: Path, body: bytes) -> None:
    token = (home / "admin-token").read_text()
    answer = HTTP.put(url + "/v1/rounds/r9", content=body, headers={"authorization": f"Bearer {token}"})
    assert answer.json()["error"]["code"] == "registry.bad_request"


@pytest.mark.parametrize(
    "path",
    [
        "/tuf/targets/..%2f..%2fadmin-token",
        "/tuf/targets/%2e%2e/%2e%2e/admin-token",
        "/tuf/metadata/..%2f..%2fadmin-token",
        "/tuf/targets//etc/passwd",
        "/tuf/targets/",
        "/tuf/targets/adapters",
        "/nowhere",
    ],
)
def test_nothing_outside_the_folders_is_served(url: str, path: str) -> None:
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404")
    assert b'{"error":{"code":"registry.not_found"' in answer


def test_targets_resume_and_are_not_sent_twice(client: RegistryClient, url: str) -> None:
    info = publish(client, ADAPTER, "r0")
    folder, _, name = info.path.rpartition("/")
    where = f"{url}/tuf/targets/{folder}/{info.digest}.{name}"
    part = HTTP.get(where, headers={"range": "bytes=100-", "if-range": f'"{info.digest}"'})
    assert (part.status_code, part.content) == (206, ADAPTER[100:])
    whole = HTTP.get(where, headers={"range": "bytes=100-", "if-range": '"another"'})
    assert (whole.status_code, whole.content) == (200, ADAPTER)
    assert HTTP.get(where, headers={"if-none-match": whole.headers["etag"]}).status_code == 304
    assert HTTP.head(where).headers["content-length"] == str(len(ADAPTER))
    timestamp = HTTP.get(f"{url}/tuf/metadata/timestamp.json")
    assert timestamp.headers["cache-control"] == "no-cache"
    again = HTTP.get(timestamp.url, headers={"if-none-match": timestamp.headers["etag"]})
    assert again.status_code == 304


def test_the_client_waits_for_a_registry_that_comes_back(tmp_path: Path) -> None:
    with registry_server(tmp_path) as url:
        token = (tmp_path / "admin-token").read_text()
        with RegistryClient(url, token) as first:
            info = publish(first, ADAPTER, "r0")
    back, port = threading.Event(), int(url.rsplit(":", 1)[1])

    def restart() -> None:
        with registry_server(tmp_path, port=port):
            back.wait(20)

    with RegistryClient(url, token, patience_s=20) as client:
        later = threading.Timer(0.4, restart)
        later.start()
        assert publish(client, ADAPTER, "r0") == info
        assert client.latest("dev") == info
    back.set()
    later.join()


def test_a_registry_that_stays_away_is_an_error_with_a_hint() -> None:
    with (
        RegistryClient("http://127.0.0.1:1", patience_s=0.3) as client,
        pytest.raises(RegistryError, match=r"cannot be reached at http://127\.0\.0\.1:1") as away,
    ):
        client.latest("dev")
    assert "registry serve" in away.value.hint


def test_a_token_that_no_header_can_hold_is_said_at_once(url: str) -> None:
    with RegistryClient(url, "two\nlines") as client, pytest.raises(ConfigError, match="token"):
        client.latest("dev")


def test_a_client_needs_an_address() -> None:
    with pytest.raises(ConfigError):
        RegistryClient("localhost:8090")
