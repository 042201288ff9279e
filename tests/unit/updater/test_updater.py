"""The updater against the real registry over real HTTP; what a lying one does is in tests/adversary."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mimo_fed.errors import InstallError, TransportError, VerificationError
from mimo_fed.release import ReleaseInfo
from mimo_fed.secagg.identity import Anchors
from mimo_fed_client import download
from mimo_fed_client.updater import Updater, read_floors
from mimo_fed_server.client import RegistryClient
from mimo_fed_server.registry.service import Registry
from tests.simulators.mirror import mirroring
from tests.simulators.registry_server import registry_server
from tests.unit.registry.test_http import evidence_of

ANCHORS = Anchors(b"\x11" * 32, b"\x22" * 32, frozenset({4}))
DATA = random.Random(0).randbytes(1_000_000)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0.005)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with registry_server(home, anchors=ANCHORS.to_json()) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str, home: Path) -> Iterator[RegistryClient]:
    with RegistryClient(url, (home / "admin-token").read_text()) as client:
        yield client


@pytest.fixture
def updater(url: str, home: Path, tmp_path: Path) -> Iterator[Updater]:
    updater = Updater(tmp_path / "device", url, (home / "root.json").read_bytes())
    yield updater
    updater.close()


def _publish(
    client: RegistryClient, data: bytes, round_id: str, quorum_digest: str = "", evidence: bytes = b""
) -> ReleaseInfo:
    return client.publish(
        data,
        channel="dev",
        base_fingerprint="a" * 64,
        basis_epoch=0,
        spec_digest="b" * 64,
        round_id=round_id,
        quorum_digest=quorum_digest,
        evidence=evidence,
    )


def test_a_channel_without_a_release_is_none(updater: Updater) -> None:
    assert updater.latest("stable") is None
    assert updater.latest("unheard-of") is None


def test_anchors_are_the_signed_ones(updater: Updater) -> None:
    assert updater.anchors() == ANCHORS


def test_a_revocation_reaches_the_device(updater: Updater, home: Path) -> None:
    assert updater.anchors() == ANCHORS
    registry = Registry(home)
    later = replace(ANCHORS, revoked=frozenset({4, 9}))
    registry.repository.set_anchors(later.to_json())
    updater.refresh()
    assert updater.anchors() == later
    registry.repository.set_anchors(ANCHORS.to_json())
    registry.close()


def test_a_release_arrives_with_progress_and_is_fetched_once(
    updater: Updater, client: RegistryClient
) -> None:
    published = _publish(client, DATA, "r0")
    seen: list[tuple[int, int]] = []
    updater.refresh()
    info = updater.latest("dev")
    assert info == published
    metadata = updater.bytes_down
    assert metadata < 20_000
    assert updater.fetch(info, lambda done, total: seen.append((done, total))) == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert seen == sorted(seen)
    assert updater.bytes_down == metadata + len(DATA)
    assert updater.fetch(info) == DATA
    assert updater.bytes_down == metadata + len(DATA)


def test_a_refresh_with_nothing_new_is_small(updater: Updater, client: RegistryClient) -> None:
    _publish(client, DATA, "r0")
    updater.refresh()
    assert updater.latest("dev")
    before = updater.bytes_down
    updater.refresh()
    assert updater.latest("dev")
    assert updater.bytes_down - before < 1000


def test_a_damaged_file_on_disk_is_fetched_again(
    updater: Updater, client: RegistryClient, tmp_path: Path
) -> None:
    info = _publish(client, DATA, "r0")
    updater.fetch(info)
    kept = tmp_path / "device" / "adapters" / f"{info.digest}.safetensors"
    kept.write_bytes(b"damaged")
    assert updater.fetch(info) == DATA
    assert kept.read_bytes() == DATA


def test_evidence_and_older_releases_are_found(updater: Updater, client: RegistryClient) -> None:
    evidence, votes = evidence_of("round-1")
    older = _publish(client, b"older", "round-1", votes, evidence)
    _publish(client, b"newer", "round-2")
    updater.refresh()
    latest = updater.latest("dev")
    assert latest is not None
    assert updater.find(latest, latest.number) == latest
    assert updater.find(latest, older.number) == older
    assert updater.find(latest, latest.number + 1) is None
    assert updater.find(replace(latest, channel="stable"), latest.number) is None
    before = updater.bytes_down
    assert updater.evidence(older) == evidence
    assert updater.evidence(older) == evidence
    assert updater.bytes_down == before + len(evidence)
    with pytest.raises(VerificationError, match="without evidence"):
        updater.evidence(latest)
    for other in (replace(older, evidence_digest="e" * 64), replace(older, evidence_length=1)):
        with pytest.raises(VerificationError, match="other evidence"):
            updater.evidence(other)


def test_two_adapters_are_kept(updater: Updater, client: RegistryClient, tmp_path: Path) -> None:
    infos = [_publish(client, bytes([n]) * 1000, f"small-{n}") for n in range(3)]
    for age, info in enumerate(infos):
        updater.fetch(info)
        path = tmp_path / "device" / "adapters" / f"{info.digest}.safetensors"
        os.utime(path, (1000 + age, 1000 + age))
    kept = {path.stem for path in (tmp_path / "device" / "adapters").iterdir()}
    assert kept == {info.digest for info in infos[1:]}


def test_the_floor_survives_a_restart(updater: Updater, client: RegistryClient, url: str, home: Path) -> None:
    _publish(client, DATA, "r0")
    latest = _publish(client, DATA[:-1], "r1")
    updater.refresh()
    assert updater.latest("dev") == latest
    again = Updater(updater._home, url, (home / "root.json").read_bytes())
    assert read_floors(again._home) == {"dev": latest.number}
    again.close()


def test_a_damaged_floor_is_an_error_not_a_zero(
    updater: Updater, client: RegistryClient, tmp_path: Path
) -> None:
    _publish(client, DATA, "r0")
    for damage in ("", "[]", '{"dev": "x"}', '{"dev": null}'):
        (tmp_path / "device" / "floor.json").write_text(damage)
        with pytest.raises(InstallError, match="floor"):
            updater.latest("dev")


def test_a_registry_that_is_away_is_a_transport_error(home: Path, tmp_path: Path) -> None:
    updater = Updater(tmp_path, "http://127.0.0.1:1", (home / "root.json").read_bytes())
    with pytest.raises(TransportError, match="cannot be reached") as away:
        updater.refresh()
    assert "keeps serving" in away.value.hint
    with pytest.raises(TransportError):
        updater.latest("dev")
    updater.close()


def test_another_registrys_root_is_refused(url: str, home: Path, tmp_path: Path) -> None:
    with registry_server(tmp_path / "other"):
        foreign = (tmp_path / "other" / "root.json").read_bytes()
    updater = Updater(tmp_path / "device", url, foreign)
    with pytest.raises(VerificationError):
        updater.refresh()
    updater.close()


def test_a_disk_that_takes_nothing_is_our_own_fault(url: str, home: Path, tmp_path: Path) -> None:
    (tmp_path / "metadata").write_text("a file where a folder must be")
    with pytest.raises(InstallError):
        Updater(tmp_path, url, (home / "root.json").read_bytes())


CHILD = """
import sys
from pathlib import Path
from mimo_fed_client.updater import Updater
updater = Updater(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_bytes())
updater.fetch(updater.latest("dev"), lambda done, total: print(done, flush=True))
"""


def test_a_download_goes_on_after_kill_9(client: RegistryClient, home: Path, tmp_path: Path) -> None:
    info = _publish(client, DATA, "kill")
    with mirroring(home / "tuf") as mirror:
        mirror.lies[info.digest] = lambda request, truth: request.hold(truth, 400_000)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), mirror.url, str(home / "root.json")],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= 400_000:
                break
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=10)
        mirror.lies.clear()
        mirror.asked.clear()
        updater = Updater(tmp_path, mirror.url, (home / "root.json").read_bytes())
        latest = updater.latest("dev")
        assert latest == info
        assert updater.fetch(latest) == DATA
        (wanted,) = [wanted for path, wanted in mirror.asked if info.digest in path]
        assert wanted == "bytes=400000-"
        updater.close()
