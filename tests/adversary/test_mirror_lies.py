"""Attacker: the registry's mirror, or whoever stands between it and the device. It holds no key.

Every lie ends in a typed error, and what is installed stays as it is.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Targets

from mimo_fed.errors import TransportError, VerificationError
from mimo_fed.release import ReleaseInfo
from mimo_fed_client import download
from mimo_fed_client.updater import Updater
from mimo_fed_server.registry.service import Registry, initialize
from mimo_fed_server.registry.store import Draft
from tests.simulators.mirror import Mirror, Request, mirroring

SIZE = 300_000


class World:
    """A registry with one release installed on a device, and a second one to come."""

    def __init__(self, folder: Path, mirror: Mirror, registry: Registry) -> None:
        self.registry = registry
        self.mirror = mirror
        self.home = folder / "device"
        self.pinned = (folder / "registry" / "root.json").read_bytes()
        old = registry.store.latest("stable")
        assert old is not None
        self.old = old
        self.updater = Updater(self.home, self.mirror.url, self.pinned)
        self.installed = folder / "installed.safetensors"
        self.updater.refresh()
        latest = self.updater.latest("stable")
        assert latest == self.old
        self.installed.write_bytes(self.updater.fetch(self.old))

    def publish(self, round_id: str) -> ReleaseInfo:
        return _publish(self.registry, round_id)

    def restart(self) -> None:
        """Start the device's updater again, as after a kill."""
        self.updater.close()
        self.updater = Updater(self.home, self.mirror.url, self.pinned)

    def data(self, info: ReleaseInfo) -> bytes:
        return self.registry.blobs.get(info.digest)

    def see(self) -> ReleaseInfo:
        self.updater.refresh()
        latest = self.updater.latest("stable")
        assert latest is not None
        return latest

    def check_untouched(self) -> None:
        assert self.installed.read_bytes() == self.data(self.old)
        assert sorted(p.name for p in (self.home / "adapters").glob("*.safetensors")) == [
            f"{self.old.digest}.safetensors"
        ]


def _publish(registry: Registry, round_id: str) -> ReleaseInfo:
    data = random.Random(round_id).randbytes(SIZE)
    draft = Draft(
        digest=registry.blobs.put(data),
        length=SIZE,
        base_fingerprint="a" * 64,
        basis_epoch=0,
        spec_digest="b" * 64,
        round_id=round_id,
        quorum_digest="",
    )
    return registry.promote(registry.publish(data, draft, "dev").number, "stable")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with one release, to be copied: making one costs more than most of these tests."""
    home = tmp_path_factory.mktemp("template")
    initialize(home, anchors=b"{}")
    registry = Registry(home)
    registry.start()
    _publish(registry, "r0")
    registry.close()
    return home


@pytest.fixture
def world(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0.005)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # power does not fail here
    home = tmp_path / "registry"
    shutil.copytree(template, home)
    registry = Registry(home, database=f"sqlite:///{home / 'registry.db'}")
    with mirroring(tmp_path / "registry" / "tuf") as mirror:
        world = World(tmp_path, mirror, registry)
        yield world
        world.check_untouched()
        world.updater.close()
    registry.close()


def _tamper(request: Request, truth: bytes) -> None:
    request.answer(truth[:1000] + bytes([truth[1000] ^ 1]) + truth[1001:])


def test_a_flipped_bit_of_an_adapter_is_refused_and_not_kept(world: World) -> None:
    info = world.publish("r1")
    world.mirror.lies["adapter.safetensors"] = _tamper
    assert world.see() == info
    with pytest.raises(VerificationError, match="not what was signed"):
        world.updater.fetch(info)
    assert list((world.home / "parts").iterdir()) == []
    world.check_untouched()


def test_the_old_adapter_in_place_of_the_new_one_is_refused(world: World) -> None:
    info, old = world.publish("r1"), world.data(world.old)
    world.mirror.lies[info.digest] = lambda request, _: request.answer(old)
    with pytest.raises(VerificationError):
        world.updater.fetch(world.see())


def test_a_download_that_is_cut_goes_on_where_it_stopped(world: World, tmp_path: Path) -> None:
    info = world.publish("r1")
    cuts = iter([100_000, 200_000])

    def cut(request: Request, truth: bytes) -> None:
        request.cut(truth, next(cuts, SIZE))

    world.mirror.lies["adapter.safetensors"] = cut
    seen = world.see()
    other = Updater(tmp_path / "other", world.mirror.url, world.pinned)
    other.refresh()
    assert other.fetch(seen) == world.data(info)
    ranges = [wanted for path, wanted in world.mirror.asked if info.digest in path]
    assert ranges == ["", "bytes=100000-", "bytes=200000-"]
    other.close()


def test_a_download_that_is_cut_for_good_goes_on_in_the_next_process(world: World, tmp_path: Path) -> None:
    info = world.publish("r1")
    world.mirror.lies["adapter.safetensors"] = lambda request, truth: request.cut(truth, 123_456)
    home = tmp_path / "other"
    first = Updater(home, world.mirror.url, world.pinned)
    first.refresh()
    with pytest.raises(TransportError, match="cannot be reached, or stopped"):
        first.fetch(info)
    first.close()
    world.mirror.lies.clear()
    world.mirror.asked.clear()
    second = Updater(home, world.mirror.url, world.pinned)
    assert second.fetch(info) == world.data(info)
    assert [wanted for path, wanted in world.mirror.asked if info.digest in path] == ["bytes=123456-"]
    second.close()


def test_the_rest_of_another_file_is_refused(world: World) -> None:
    """The first half of one file and the second half of another: whole in length, wrong in content."""
    info = world.publish("r1")
    world.mirror.lies["adapter.safetensors"] = lambda request, truth: request.cut(truth, 100_000)
    world.see()
    with pytest.raises(TransportError):
        world.updater.fetch(info)
    old = world.data(world.old)
    world.mirror.lies["adapter.safetensors"] = lambda request, _: request.answer(old)
    with pytest.raises(VerificationError):
        world.updater.fetch(info)
    assert list((world.home / "parts").iterdir()) == []


def test_endless_adapter_is_cut_off(world: World) -> None:
    info = world.publish("r1")
    world.see()
    world.mirror.lies["adapter.safetensors"] = lambda request, _: request.endless()
    before = world.updater.bytes_down
    with pytest.raises(VerificationError, match="more than the 300000 bytes"):
        world.updater.fetch(info)
    assert world.updater.bytes_down - before < SIZE + 2 * 65536


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "2.root.json", ".stable.json"])
def test_endless_metadata_is_cut_off(world: World, name: str) -> None:
    world.publish("r1")
    world.mirror.lies[name] = lambda request, _: request.endless()
    with pytest.raises(VerificationError, match="more than the"):
        world.see()
    assert world.updater.bytes_down < 8_000_000


def test_the_pointer_of_another_channel_is_refused(world: World) -> None:
    """`dev` is ahead of `stable`; the mirror hands its pointer to those who ask for `stable`."""
    world.publish("r1")
    (dev,) = [
        p
        for p in (world.mirror.folder / "targets" / "channels").glob("*.dev.json")
        if json.loads(p.read_bytes())["number"] == "1"
    ]
    world.mirror.lies[".stable.json"] = lambda request, truth: request.answer(
        dev.read_bytes() if "/channels/" in request.path else truth
    )
    with pytest.raises(VerificationError, match="bytes, where"):
        world.see()


def test_one_channels_key_cannot_speak_for_another(world: World) -> None:
    """The key of `dev` leaks: its role may sign whatever it likes, devices do not ask it for `stable`."""
    world.publish("r1")
    repository = world.registry.repository
    dev = repository._read_role("dev", Targets)
    forged = replace(world.old, number=99)
    target = repository._write_small_target("channels/stable.json", forged.to_json())
    dev.signed.targets["channels/stable.json"] = target
    repository._release({"dev": dev})
    assert world.see().number == 1


def test_a_record_that_the_pointer_did_not_give_is_refused(world: World) -> None:
    info = world.publish("r1")
    world.see()
    with pytest.raises(VerificationError, match="other facts"):
        world.updater.fetch(replace(info, quorum_digest="f" * 64))
    with pytest.raises(VerificationError, match="not in the signed metadata"):
        world.updater.fetch(replace(info, path="adapters/stable/aaaaaaaaaaaa/7/adapter.safetensors"))


def test_an_old_timestamp_is_refused(world: World, tmp_path: Path) -> None:
    old_view = tmp_path / "old"
    shutil.copytree(world.mirror.folder, old_view)
    world.publish("r1")
    assert world.see().number == 1
    world.mirror.folder = old_view
    with pytest.raises(VerificationError, match="timestamp"):
        world.see()
    world.restart()
    with pytest.raises(VerificationError, match="timestamp"):
        world.see()


def test_a_pointer_that_goes_back_is_refused_even_if_signed(world: World) -> None:
    """The registry's own keys sign an older release: the device's floor holds."""
    world.publish("r1")
    assert world.see().number == 1
    world.registry.repository.publish("stable", lambda: [world.old], lambda: world.old)
    with pytest.raises(VerificationError, match="goes back from release 1 to 0"):
        world.see()
    world.restart()
    with pytest.raises(VerificationError, match="goes back from release 1 to 0"):
        world.see()


def test_a_channel_that_loses_its_pointer_is_refused(world: World) -> None:
    world.registry.repository.publish("stable", list, lambda: None)
    world.updater.refresh()
    with pytest.raises(VerificationError, match="was seen on release 0"):
        world.updater.latest("stable")


def test_a_fresh_device_has_the_floor_of_its_settings(world: World, tmp_path: Path) -> None:
    fresh = Updater(tmp_path / "fresh", world.mirror.url, world.pinned, floor={"stable": 5})
    with pytest.raises(VerificationError, match="goes back from release 5 to 0"):
        fresh.latest("stable")
    fresh.close()


def test_expired_metadata_stops_new_releases(world: World) -> None:
    """A mirror that was cut off from the registry, or that hides what is new, for longer than a day."""
    world.publish("r1")
    past = datetime.now(UTC) - timedelta(days=3)
    world.registry.repository._now = lambda: past
    world.registry.repository.renew(force=True)
    with pytest.raises(VerificationError, match="expired") as stale:
        world.see()
    assert "clock" in stale.value.hint


def test_a_root_that_the_old_one_did_not_sign_is_refused(world: World) -> None:
    root = Metadata.from_bytes(world.pinned)
    stranger = CryptoSigner.generate_ed25519()
    for role in ("root", "targets", "snapshot", "timestamp"):
        root.signed.add_key(stranger.public_key, role)
    root.signed.version = 2
    root.sign(stranger)
    forged = root.to_bytes()
    world.mirror.lies["2.root.json"] = lambda request, _: request.answer(forged)
    with pytest.raises(VerificationError, match="root"):
        world.see()
    world.mirror.lies.clear()
    assert world.see() == world.old


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", ".stable.json"])
@pytest.mark.parametrize("forged", [b"", b"{}", b"nonsense", b"[" * 5000])
def test_metadata_that_is_none_is_refused(world: World, name: str, forged: bytes) -> None:
    world.publish("r1")
    world.mirror.lies[name] = lambda request, _: request.answer(forged)
    with pytest.raises(VerificationError):
        world.see()


def test_metadata_with_a_changed_byte_is_refused(world: World) -> None:
    world.publish("r1")

    def later(request: Request, truth: bytes) -> None:
        request.answer(truth.replace(b'"expires":"20', b'"expires":"30'))

    world.mirror.lies["timestamp.json"] = later
    with pytest.raises(VerificationError):
        world.see()


@pytest.mark.parametrize("status", [403, 404, 500, 302])
def test_a_mirror_that_refuses_is_a_transport_error(world: World, status: int) -> None:
    info = world.publish("r1")
    world.mirror.lies["timestamp.json"] = lambda request, _: request.answer(b"", status=status)
    with pytest.raises(TransportError):
        world.see()
    world.mirror.lies.clear()
    world.see()
    world.mirror.lies["adapter.safetensors"] = lambda request, _: request.answer(b"", status=status)
    with pytest.raises(TransportError, match=str(status)):
        world.updater.fetch(info)


def test_a_pinned_root_that_is_none_is_refused(tmp_path: Path, world: World) -> None:
    with pytest.raises(VerificationError):
        Updater(tmp_path / "x", world.mirror.url, b"{}")
    broken = bytearray(world.pinned)
    broken[broken.index(b'"sig":"') + 8] ^= 1
    with pytest.raises(VerificationError):
        Updater(tmp_path / "y", world.mirror.url, bytes(broken))
