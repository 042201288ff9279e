"""The signed side: metadata says what the records say, and a crash between two steps shows neither half."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from mimo_fed.errors import RegistryError
from mimo_fed.release import ReleaseInfo
from mimo_fed_server.registry import repository as module
from mimo_fed_server.registry.service import LISTED, Registry, initialize
from mimo_fed_server.registry.store import Draft
from tests.unit.registry.test_http import draft_of, evidence_of

START = datetime.now(UTC)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(tmp_path: Path, clock: Clock) -> Iterator[Registry]:
    initialize(tmp_path, anchors=b"{}")
    registry = Registry(tmp_path, now=clock)
    registry.start()
    yield registry
    registry.close()


def _publish(registry: Registry, content: bytes, round_id: str, **more: str) -> ReleaseInfo:
    return registry.publish(content, Draft(**draft_of(content, round_id) | more, length=len(content)), "dev")


def _publish_round(registry: Registry, content: bytes, round_id: str) -> ReleaseInfo:
    evidence, _ = evidence_of(round_id)
    digest, votes = registry.keep_evidence(evidence)
    return _publish(registry, content, round_id, quorum_digest=votes, evidence_digest=digest)


def _versions(registry: Registry) -> dict[str, int]:
    """What a client would be led to, from the timestamp down."""
    folder = registry.repository.metadata_dir
    timestamp = Metadata.from_file(str(folder / "timestamp.json")).signed
    snapshot = Metadata.from_file(str(folder / f"{timestamp.snapshot_meta.version}.snapshot.json")).signed
    named = {name.removesuffix(".json"): meta.version for name, meta in snapshot.meta.items()}
    return named | {"snapshot": snapshot.version, "timestamp": timestamp.version}


def _offered(registry: Registry, channel: str) -> list[str]:
    version = _versions(registry)[channel]
    return sorted(
        Metadata.from_file(str(registry.repository.metadata_dir / f"{version}.{channel}.json")).signed.targets
    )


def test_a_release_is_in_its_channels_role_and_nowhere_else(registry: Registry) -> None:
    info = _publish(registry, b"one", "r0")
    assert _offered(registry, "dev") == [info.path, "channels/dev.json"]
    assert _offered(registry, "stable") == []
    assert _offered(registry, "targets") == ["keys/anchors.json"]


def test_evidence_is_in_the_channels_role_beside_its_release(registry: Registry) -> None:
    info = _publish_round(registry, b"one", "r0")
    paths = {"adapters/dev/aaaaaaaaaaaa/0/round.evidence", info.path, "channels/dev.json"}
    assert set(_offered(registry, "dev")) == paths
    assert _offered(registry, "stable") == []
    registry.promote(info.number, "stable")
    assert set(_offered(registry, "stable")) == {path.replace("dev", "stable") for path in paths}
    before = _versions(registry)
    registry.sync("stable")
    assert _versions(registry) == before


def test_evidence_that_is_damaged_on_disk_is_not_published(registry: Registry) -> None:
    evidence, votes = evidence_of("r0")
    digest, said = registry.keep_evidence(evidence)
    assert said == votes
    registry.blobs.path(digest).write_bytes(evidence[:-1] + b"x")
    with pytest.raises(RegistryError, match="damaged on disk"):
        _publish(registry, b"one", "r0", quorum_digest=votes, evidence_digest=digest)


def test_a_channels_metadata_does_not_grow_for_ever(registry: Registry) -> None:
    infos = [_publish_round(registry, bytes([n]), f"r{n}") for n in range(LISTED + 2)]
    listed = {path for info in infos[2:] for path in (info.path, info.evidence_path)}
    assert set(_offered(registry, "dev")) == {"channels/dev.json", *listed}
    file = registry.repository.metadata_dir / f"{_versions(registry)['dev']}.dev.json"
    assert file.stat().st_size < 20_000
    assert [info.number for info in registry.store.history("dev")] == list(range(LISTED + 2))


def test_the_keys_of_one_channel_own_no_path_of_another(registry: Registry) -> None:
    file = registry.repository.metadata_dir / "1.targets.json"
    roles = Metadata.from_file(str(file)).signed.delegations.roles
    assert roles["dev"].is_delegated_path("channels/dev.json")
    for path in ("channels/stable.json", "adapters/stable/a/1/adapter.safetensors", "keys/anchors.json"):
        assert not roles["dev"].is_delegated_path(path)
    assert roles["dev"].keyids != roles["stable"].keyids


def test_nothing_new_writes_nothing(registry: Registry) -> None:
    _publish(registry, b"one", "r0")
    before = _versions(registry)
    registry.sync("dev")
    registry.sync("stable")
    assert _publish(registry, b"one", "r0").number == 0
    assert _versions(registry) == before


@pytest.mark.parametrize("survives", range(6))
def test_a_crash_between_two_writes_shows_the_old_view_and_heals(
    registry: Registry, survives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(registry, b"one", "r0")
    before, offered = _versions(registry), _offered(registry, "dev")
    real, left = module.write_atomically, [survives]

    def dying(path: Path, data: bytes, **options: int) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        real(path, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomically", dying)
        if survives < 4:  # pointer, role, snapshot, timestamp
            with pytest.raises(KeyboardInterrupt):
                _publish(registry, b"two", "r1")
            assert (_versions(registry), _offered(registry, "dev")) == (before, offered)
        else:
            _publish(registry, b"two", "r1")
    registry.start()
    assert len(_offered(registry, "dev")) == 3
    assert _versions(registry)["timestamp"] == before["timestamp"] + 1


def test_signatures_are_renewed_before_they_expire(registry: Registry, clock: Clock) -> None:
    _publish(registry, b"one", "r0")
    assert registry.repository.renew() == ()
    clock.now = START + timedelta(hours=13)
    assert registry.repository.renew() == ("timestamp",)
    assert registry.repository.timestamp_expires() > clock.now + timedelta(hours=23)
    clock.now = START + timedelta(days=4)
    assert registry.repository.renew() == ("snapshot", "timestamp")
    clock.now = START + timedelta(days=20)
    assert registry.repository.renew() == ("dev", "stable", "snapshot", "timestamp")
    assert registry.repository.renew() == ()


def test_a_second_ceremony_is_refused(registry: Registry, tmp_path: Path) -> None:
    token = (tmp_path / "admin-token").read_text()
    with pytest.raises(RegistryError, match="already"):
        initialize(tmp_path, anchors=b"{}")
    assert (tmp_path / "admin-token").read_text() == token


def test_the_registry_works_without_its_offline_keys(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "keys" / "offline").rename(tmp_path / "elsewhere")
    assert _publish(registry, b"one", "r0").number == 0
    registry.repository.renew(force=True)


def test_a_missing_online_key_is_named(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "keys" / "online" / "dev.pem").unlink()
    with pytest.raises(RegistryError, match="key of role dev is not here"):
        _publish(registry, b"one", "r0")


def test_private_files_are_private(registry: Registry, tmp_path: Path) -> None:
    for name in ("admin-token", "database-url", "keys/offline/root.pem", "keys/online/timestamp.pem"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0, name


def test_a_pointer_is_the_release_record(registry: Registry) -> None:
    info = _publish(registry, b"one", "r0")
    (pointer,) = (registry.repository.targets_dir / "channels").glob("*.dev.json")
    assert json.loads(pointer.read_bytes()) == info.to_custom()


def test_no_registry_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no registry here"):
        Registry(tmp_path / "nothing")
