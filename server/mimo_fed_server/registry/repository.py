"""The signed side of the registry: TUF metadata, written from the records.

The database says what is published; `Repository.publish` makes the metadata say the same. Every file has a
version in its name (consistent snapshots) and is new; the one file that is replaced is `timestamp.json`, and
that last. So a crash at any step leaves the old view whole, and the next call writes the new one again.

Ref: https://theupdateframework.github.io/specification/latest/
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from tuf.api.metadata import (  # type: ignore[attr-defined]  # its names are its interface, without __all__
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from mimo_fed.errors import RegistryError
from mimo_fed.release import ANCHORS_PATH, CHANNELS, ReleaseInfo, pointer_path
from mimo_fed_server.registry.blobs import Blobs
from mimo_fed_server.registry.files import exclusive, write_atomically
from mimo_fed_server.registry.keys import OFFLINE, ONLINE, KeyFolder

LIFETIMES = {
    "root": timedelta(days=365),
    "targets": timedelta(days=365),
    "snapshot": timedelta(days=7),
    "timestamp": timedelta(days=1),
    **dict.fromkeys(CHANNELS, timedelta(days=30)),
}
"""a role is signed again when half of its time is over; the offline ones by hand"""

S = TypeVar("S", Root, Targets, Snapshot, Timestamp)


class Repository:
    """TUF metadata and target files in one folder that any static server can mirror.

    Args:
        home: holds `keys/`, `tuf/metadata/` and `tuf/targets/`.
        blobs: where adapters and evidence are kept; targets are hard links to them.
        now: the clock; aware.
    """

    def __init__(
        self, home: Path, blobs: Blobs, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.metadata_dir = home / "tuf" / "metadata"
        self.targets_dir = home / "tuf" / "targets"
        self._home = home
        self._keys = KeyFolder(home / "keys")
        self._blobs = blobs
        self._now = now

    def initialize(self, anchors: bytes) -> bytes:
        """Hold the development ceremony: make all keys, sign everything, write `root.json` for devices.

        Args:
            anchors: what devices shall trust, for `keys/anchors.json`.

        Returns:
            The pinned root.

        Raises:
            RegistryError: there is a repository here already.
        """
        with exclusive(self._home / "lock"):
            if (self._home / "root.json").exists():
                raise RegistryError(f"there is a registry here already: {self._home}")
            signers = {role: self._keys.generate(role) for role in (*OFFLINE, *ONLINE)}
            root = Root(expires=self._expiry("root"), consistent_snapshot=True)
            for role in (*OFFLINE, "snapshot", "timestamp"):
                root.add_key(signers[role].public_key, role)
            self._write("root", Metadata(root))
            targets = Targets(expires=self._expiry("targets"))
            targets.targets[ANCHORS_PATH] = self._write_small_target(ANCHORS_PATH, anchors)
            targets.delegations = _delegations({c: signers[c].public_key for c in CHANNELS})
            self._write("targets", Metadata(targets))
            for channel in CHANNELS:
                self._write(channel, Metadata(Targets(expires=self._expiry(channel))))
            versions = {f"{name}.json": MetaFile(version=1) for name in ("targets", *CHANNELS)}
            self._write("snapshot", Metadata(Snapshot(expires=self._expiry("snapshot"), meta=versions)))
            self._write("timestamp", Metadata(Timestamp(expires=self._expiry("timestamp"))))
            pinned = (self.metadata_dir / "1.root.json").read_bytes()
            write_atomically(self._home / "root.json", pinned)
        return pinned

    def publish(
        self,
        channel: str,
        releases: Callable[[], Sequence[ReleaseInfo]],
        pointer: Callable[[], ReleaseInfo | None],
    ) -> None:
        """Make a channel's metadata say what the records say; nothing is written if it does already.

        Args:
            channel: whose role signs.
            releases: reads everything the channel offers; called under the lock.
            pointer: reads what it points to; called under the lock.

        Raises:
            RegistryError: the metadata on disk or a key is damaged.
        """
        with exclusive(self._home / "lock"):
            offered = {target.path: target for info in releases() for target in self._link_release(info)}
            latest = pointer()
            if latest is not None:
                path = pointer_path(channel)
                offered[path] = self._write_small_target(path, latest.to_json())
                offered[path].unrecognized_fields["custom"] = latest.to_custom()
            current = self._read_role(channel, Targets)
            if _same(current.signed.targets, offered):
                return
            current.signed.targets = offered
            self._release({channel: current})

    def set_anchors(self, anchors: bytes) -> None:
        """Sign other trust anchors; needs the offline key of the targets role.

        Raises:
            RegistryError: the key is not here.
        """
        with exclusive(self._home / "lock"):
            targets = self._read_role("targets", Targets)
            targets.signed.targets[ANCHORS_PATH] = self._write_small_target(ANCHORS_PATH, anchors)
            self._release({"targets": targets})
            write_atomically(self._home / "anchors.json", anchors)

    def renew(self, *, force: bool = False) -> tuple[str, ...]:
        """Sign again what is past half of its lifetime, and return those roles' names.

        The offline roles are not touched: their owners sign them.
        """
        with exclusive(self._home / "lock"):
            timestamp = self._read("timestamp.json", Timestamp)
            snapshot = self._read_snapshot(timestamp)
            roles = {c: self._read_role(c, Targets) for c in CHANNELS}
            due = {c: md for c, md in roles.items() if force or self._is_due(c, md.signed.expires)}
            if due or force or self._is_due("snapshot", snapshot.signed.expires):
                self._release(due)
                return (*due, "snapshot", "timestamp")
            if self._is_due("timestamp", timestamp.signed.expires):
                self._bump("timestamp", timestamp)
                return ("timestamp",)
        return ()

    def timestamp_expires(self) -> datetime:
        """When devices stop taking new releases unless the timestamp is renewed."""
        return self._read("timestamp.json", Timestamp).signed.expires

    def target_file(self, path: str) -> Path | None:
        """Return the file behind a target URL path, or None; never one outside of the folder."""
        return _inside(self.targets_dir, path)

    def metadata_file(self, path: str) -> Path | None:
        """Return the file behind a metadata URL path, or None; never one outside of the folder."""
        return _inside(self.metadata_dir, path)

    def _release(self, changed: Mapping[str, Metadata[Targets]]) -> None:
        timestamp = self._read("timestamp.json", Timestamp)
        snapshot = self._read_snapshot(timestamp)
        for name, metadata in changed.items():
            self._bump(name, metadata)
            snapshot.signed.meta[f"{name}.json"].version = metadata.signed.version
        self._bump("snapshot", snapshot)
        timestamp.signed.snapshot_meta.version = snapshot.signed.version
        self._bump("timestamp", timestamp)

    def _bump(self, role: str, metadata: Metadata[S]) -> None:
        metadata.signed.version += 1
        metadata.signed.expires = self._expiry(role)
        self._write(role, metadata)

    def _write(self, role: str, metadata: Metadata[S]) -> None:
        metadata.sign(self._keys.signer(role, self._public_key(role, metadata)))
        name = "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
        write_atomically(self.metadata_dir / name, metadata.to_bytes(JSONSerializer(compact=True)))

    def _public_key(self, role: str, metadata: Metadata[S]) -> Key:
        if role in CHANNELS:
            delegations = self._read_role("targets", Targets).signed.delegations
            if delegations is None or delegations.roles is None:
                raise RegistryError("the targets role delegates nothing")
            return delegations.keys[delegations.roles[role].keyids[0]]
        root = metadata.signed if isinstance(metadata.signed, Root) else self._read_root()
        return root.keys[root.roles[role].keyids[0]]

    def _read_root(self) -> Root:
        versions = [int(p.name.split(".")[0]) for p in self.metadata_dir.glob("*.root.json")]
        return self._read(f"{max(versions, default=1)}.root.json", Root).signed

    def _read_snapshot(self, timestamp: Metadata[Timestamp]) -> Metadata[Snapshot]:
        return self._read(f"{timestamp.signed.snapshot_meta.version}.snapshot.json", Snapshot)

    def _read_role(self, role: str, kind: type[S]) -> Metadata[S]:
        if not (self.metadata_dir / "timestamp.json").exists():  # the ceremony is not over
            return self._read(f"1.{role}.json", kind)
        snapshot = self._read_snapshot(self._read("timestamp.json", Timestamp))
        return self._read(f"{snapshot.signed.meta[f'{role}.json'].version}.{role}.json", kind)

    def _read(self, name: str, kind: type[S]) -> Metadata[S]:
        try:
            metadata: Metadata[Any] = Metadata.from_file(str(self.metadata_dir / name))
        except Exception as error:
            raise RegistryError(
                f"metadata cannot be read: {name}", hint="`mimo-fed registry init` makes a registry"
            ) from error
        if not isinstance(metadata.signed, kind):
            raise RegistryError(f"metadata is of another role: {name}")
        return metadata

    def _link_release(self, info: ReleaseInfo) -> list[TargetFile]:
        """Offer a release's adapter with its record and, if there is one, the evidence of its round."""
        adapter = self._link(info.path, info.digest, info.length)
        adapter.unrecognized_fields["custom"] = info.to_custom()
        if not info.evidence_digest:
            return [adapter]
        return [adapter, self._link(info.evidence_path, info.evidence_digest, info.evidence_length)]

    def _link(self, path: str, digest: str, length: int) -> TargetFile:
        folder, _, name = path.rpartition("/")
        file = self.targets_dir / folder / f"{digest}.{name}"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self._blobs.path(digest), file)
            except OSError as error:
                raise RegistryError(f"a release has no bytes here ({error.strerror}): {path}") from error
        return TargetFile(length, {"sha256": digest}, path)

    def _write_small_target(self, path: str, data: bytes) -> TargetFile:
        digest = hashlib.sha256(data).hexdigest()
        folder, _, name = path.rpartition("/")
        file = self.targets_dir / folder / f"{digest}.{name}"
        if not file.exists():
            write_atomically(file, data)
        return TargetFile(len(data), {"sha256": digest}, path)

    def _expiry(self, role: str) -> datetime:
        return (self._now() + LIFETIMES[role]).astimezone(UTC).replace(microsecond=0)

    def _is_due(self, role: str, expires: datetime) -> bool:
        return expires - self._now() < LIFETIMES[role] / 2


def _delegations(keys: Mapping[str, Key]) -> Delegations:
    roles = {
        channel: DelegatedRole(
            channel,
            [key.keyid],
            threshold=1,
            terminating=True,
            paths=[pointer_path(channel), f"adapters/{channel}/*/*/*"],
        )
        for channel, key in keys.items()
    }
    return Delegations({key.keyid: key for key in keys.values()}, roles)


def _same(one: Mapping[str, TargetFile], other: Mapping[str, TargetFile]) -> bool:
    return {k: v.to_dict() for k, v in one.items()} == {k: v.to_dict() for k, v in other.items()}


def _inside(folder: Path, path: str) -> Path | None:
    candidate = (folder / path).resolve()
    if not candidate.is_relative_to(folder.resolve()) or not candidate.is_file():
        return None
    return None if candidate.name.startswith(".") else candidate
