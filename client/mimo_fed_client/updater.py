"""The device's side of the signed registry: which release there is, its bytes and its evidence, verified.

The metadata rules are TUF's (python-tuf's client). Around it stand: a download that resumes, a floor under
the release numbers of each channel, and a rename as the last step, so that a file under its final name is
whole and verified whatever happened before.

Expired or forged metadata stops new releases. It never touches what is installed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

from tuf.api import exceptions
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]
from tuf.ngclient import FetcherInterface  # type: ignore[attr-defined]
from tuf.ngclient import Updater as TufUpdater  # type: ignore[attr-defined]

from mimo_fed.errors import (
    ConfigError,
    InstallError,
    MimoFedError,
    ReleaseError,
    TransportError,
    VerificationError,
)
from mimo_fed.release import ANCHORS_PATH, ReleaseInfo, adapter_path, pointer_path
from mimo_fed.secagg.evidence import MAX_EVIDENCE
from mimo_fed.secagg.identity import Anchors
from mimo_fed_client.download import Downloader, Progress, RefusedByServer
from mimo_fed_client.durable import sync

MAX_SMALL_BYTES = 1 << 20
MAX_ADAPTER_BYTES = 512 << 20
"""the longest adapter a device takes, whatever the metadata says"""

KEPT = 2
"""verified adapters that stay on disk"""


class Updater:
    """Follows one registry.

    Args:
        home: folder of its own: trusted metadata, unfinished downloads, verified adapters, floors.
        registry_url: the registry, or any mirror of it.
        root: the pinned root metadata that came with the device's settings.
        floor: lowest release number to accept for a channel, for a device that has seen none yet.

    Raises:
        VerificationError: `root` is not root metadata that signs itself.
    """

    def __init__(
        self, home: Path, registry_url: str, root: bytes, *, floor: Mapping[str, int] | None = None
    ) -> None:
        self._url = registry_url.rstrip("/")
        self._root = root
        self._home = home
        self._least = dict(floor or {})
        self._downloader = Downloader(home / "parts")
        self._fetcher = _Fetcher(self._downloader)
        with _typed_errors():
            for name in ("metadata", "small", "adapters"):
                (home / name).mkdir(parents=True, exist_ok=True)
        self._tuf = self._open()
        self._is_fresh = False

    @property
    def bytes_down(self) -> int:
        """Bytes of bodies that arrived in this process's life."""
        return self._downloader.bytes_down

    def close(self) -> None:
        """Close the connections."""
        self._downloader.close()

    def refresh(self) -> None:
        """Take the newest signed view of the registry; `latest`, `fetch` and `anchors` read from it.

        Raises:
            TransportError: the registry cannot be reached.
            VerificationError: what it says is forged, expired, or older than what was seen before.
        """
        self._is_fresh = False
        self._tuf = self._open()
        with _typed_errors():
            self._tuf.refresh()
        self._is_fresh = True

    def latest(self, channel: str) -> ReleaseInfo | None:
        """Return the release that a channel points to; None if it never pointed to one.

        Raises:
            TransportError: the registry cannot be reached.
            VerificationError: the pointer is forged, is another channel's, or goes back.
        """
        least = max(read_floors(self._home).get(channel, -1), self._least.get(channel, -1))
        path = pointer_path(channel)
        target = self._target(path)
        if target is None:
            if least >= 0:
                raise VerificationError(
                    f"channel {channel} points to nothing, but was seen on release {least}"
                )
            return None
        try:
            info = ReleaseInfo.from_json(self._small(target))
        except ReleaseError as error:
            raise VerificationError(f"the pointer of channel {channel} is damaged: {error.message}") from None
        if info.channel != channel:
            raise VerificationError(f"the pointer of channel {channel} is for another one: {info.channel}")
        if info.number < least:
            raise VerificationError(
                f"channel {channel} goes back from release {least} to {info.number}",
                hint="a real roll back is a new release with the old bytes",
            )
        self._raise_floor(channel, info.number)
        return info

    def find(self, info: ReleaseInfo, number: int) -> ReleaseInfo | None:
        """Return another release of the same base on the same channel; None if it is not listed there.

        Raises:
            TransportError: the registry cannot be reached.
            VerificationError: the signed record is damaged, or of another release.
        """
        target = self._target(adapter_path(info.channel, info.base_fingerprint, number))
        if target is None:
            return None
        try:
            found = ReleaseInfo.from_custom(target.custom)
        except ReleaseError as error:
            raise VerificationError(
                f"the signed record of release {number} is damaged: {error.message}"
            ) from None
        if found.path != target.path or found.digest != target.hashes.get("sha256"):
            raise VerificationError(f"release {number} is signed with the record of another: {found.path}")
        return found

    def evidence(self, info: ReleaseInfo) -> bytes:
        """Return the evidence of a release's round: the bytes that were signed, not yet checked themselves.

        Raises:
            TransportError: the registry cannot be reached, or stopped before the end.
            VerificationError: there is none, or the bytes are not what was signed.
        """
        target = self._target(info.evidence_path) if info.evidence_digest else None
        if target is None:
            raise VerificationError(f"release {info.number} was published without evidence of its round")
        if target.hashes.get("sha256") != info.evidence_digest or target.length != info.evidence_length:
            raise VerificationError(f"release {info.number} is signed with other evidence: {target.path}")
        return self._small(target, MAX_EVIDENCE)

    def fetch(self, info: ReleaseInfo, progress: Progress | None = None) -> bytes:
        """Return a release's adapter, verified; a broken download goes on at the next call.

        Raises:
            TransportError: the registry cannot be reached, or stopped before the end.
            VerificationError: the bytes, or the record, are not what was signed.
            InstallError: there is no room on the disk.
        """
        target = self._target(info.path)
        if target is None:
            raise VerificationError(f"release {info.number} is not in the signed metadata: {info.path}")
        if target.custom != info.to_custom() or target.hashes.get("sha256") != info.digest:
            raise VerificationError(
                f"release {info.number} is signed with other facts than these: {info.digest}"
            )
        if target.length != info.length or target.length > MAX_ADAPTER_BYTES:
            raise VerificationError(f"release {info.number} has a length that is not taken: {target.length}")
        with _typed_errors():
            final = self._home / "adapters" / f"{info.digest}.safetensors"
            if final.exists():
                data = final.read_bytes()
                if hashlib.sha256(data).hexdigest() == info.digest:
                    return data
            aside = final.with_suffix(".new")
            with self._fetcher.reporting(progress):
                self._tuf.download_target(target, str(aside))
            data = aside.read_bytes()
            sync(aside)
            aside.replace(final)
            sync(final.parent)
            self._prune(final)
        return data

    def anchors(self) -> Anchors:
        """Return the keys that this device shall trust, as the registry's offline role signed them.

        Raises:
            TransportError: the registry cannot be reached.
            VerificationError: they are missing or damaged.
        """
        target = self._target(ANCHORS_PATH)
        if target is None:
            raise VerificationError(f"the registry signs no anchors: {ANCHORS_PATH}")
        try:
            return Anchors.from_json(self._small(target))
        except ConfigError as error:
            raise VerificationError(f"the signed anchors are damaged: {error.message}") from None

    def _open(self) -> TufUpdater:
        with _typed_errors():
            return TufUpdater(
                metadata_dir=str(self._home / "metadata"),
                metadata_base_url=f"{self._url}/tuf/metadata/",
                target_dir=str(self._home / "small"),
                target_base_url=f"{self._url}/tuf/targets/",
                fetcher=self._fetcher,
                bootstrap=self._root,
            )

    def _target(self, path: str) -> TargetFile | None:
        if not self._is_fresh:
            self.refresh()
        with _typed_errors():
            return self._tuf.get_targetinfo(path)

    def _small(self, target: TargetFile, most: int = MAX_SMALL_BYTES) -> bytes:
        if target.length > most:
            raise VerificationError(f"{target.path} is larger than {most} bytes: {target.length}")
        with _typed_errors():
            path = self._tuf.find_cached_target(target) or self._tuf.download_target(target)
            return Path(path).read_bytes()

    def _raise_floor(self, channel: str, number: int) -> None:
        floors = read_floors(self._home)
        if floors.get(channel, -1) >= number:
            return
        with _typed_errors():
            aside = self._home / "floor.json.new"
            aside.write_text(json.dumps(floors | {channel: number}))
            sync(aside)
            aside.replace(self._home / "floor.json")
            sync(self._home)

    def _prune(self, final: Path) -> None:
        others = [path for path in final.parent.glob("*.safetensors") if path != final]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[KEPT - 1 :]:
            path.unlink(missing_ok=True)


def read_floors(home: Path) -> dict[str, int]:
    """Return the highest release number that an updater has seen on each channel.

    Raises:
        InstallError: the file is damaged.
    """
    try:
        raw = json.loads((home / "floor.json").read_bytes())
        return {str(name): int(number) for name, number in raw.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InstallError(f"the floor of release numbers cannot be read: {home}") from error


class _Fetcher(FetcherInterface):
    """TUF's downloads through ours: metadata from its beginning, targets resumed."""

    def __init__(self, downloader: Downloader) -> None:
        self._downloader = downloader
        self._progress: Progress | None = None

    @contextmanager
    def reporting(self, progress: Progress | None) -> Iterator[None]:
        """Tell `progress` of target bytes inside the block."""
        self._progress = progress
        try:
            yield
        finally:
            self._progress = None

    def download_bytes(self, url: str, max_length: int) -> bytes:
        with _http_status():
            return self._downloader.whole(url, max_length)

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        with _http_status():
            part = self._downloader.resumed(url, max_length, self._progress)
        try:
            with part.open("rb") as file:
                yield file
        finally:  # verified and copied by now, or wrong: of no more use
            part.unlink(missing_ok=True)
            part.with_suffix(".etag").unlink(missing_ok=True)

    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, MAX_ADAPTER_BYTES)


@contextmanager
def _http_status() -> Iterator[None]:
    try:
        yield
    except RefusedByServer as error:  # TUF looks at the status: 404 ends the search for newer roots
        raise exceptions.DownloadHTTPError(error.message, error.status) from None


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except MimoFedError:
        raise
    except (exceptions.RepositoryError, exceptions.DownloadError, OSError, ValueError) as error:
        _translate(error)


def _translate(error: Exception) -> NoReturn:
    what = str(error)[:300]
    if isinstance(error, exceptions.ExpiredMetadataError):
        raise VerificationError(
            f"signed metadata has expired: {what}",
            hint="the registry or mirror is stale, or the clock here is wrong; what is installed goes on",
        ) from error
    if isinstance(error, (exceptions.RepositoryError, exceptions.DownloadLengthMismatchError, ValueError)):
        raise VerificationError(f"what the registry sent is not what was signed: {what}") from error
    if isinstance(error, exceptions.DownloadError):
        raise TransportError(
            f"a signed file cannot be had: {what}", hint="try again, or another mirror"
        ) from error
    raise InstallError(f"the updater's files cannot be written: {what}") from error
