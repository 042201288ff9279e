"""Download package indices from a Debian mirror, each checked against the suite's Release file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from mimo_fed.data.indices import Release, parse_release
from mimo_fed.errors import DataError, TransportError

_TIMEOUT_S = 60.0
_SUFFIXES = ("xz", "bz2", "gz")
_AS_STORED = {"Accept-Encoding": "identity"}


def download_indices(
    mirror: str, suite: str, kinds: Iterable[str], folder: Path, *, quiet: bool = False
) -> None:
    """Download the Release file of a suite and the indices wanted; those already there are kept.

    Args:
        mirror: address above `dists`, as in an apt source.
        suite: codename.
        kinds: `Packages`, `Translation-it` ...
        folder: where the files go, under names that `find_indices` knows; the mirror's host is not in them.
        quiet: no progress bar.

    Raises:
        TransportError: the mirror cannot be reached or lacks a file.
        DataError: a file is not what the Release file says.
    """
    root = f"{mirror.rstrip('/')}/dists/{suite}"
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True, headers=_AS_STORED) as client,
        Progress(*columns, disable=quiet) as progress,
    ):
        signed = _get(client, f"{root}/InRelease", progress)
        release = parse_release(signed.decode("utf-8", errors="replace"))
        _save(folder / f"dists_{suite}_InRelease", signed)
        for kind in kinds:
            name = _listed(release, kind)
            path = folder / f"dists_{suite}_{name.replace('/', '_')}"
            if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == release.digests[name]:
                continue
            data = _get(client, f"{root}/{name}", progress)
            release.check(name, data)
            _save(path, data)


def _save(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise DataError(f"cannot write index: {path}: {error.strerror}") from error


def _listed(release: Release, kind: str) -> str:
    folder = "i18n" if kind.startswith("Translation-") else "binary-amd64"
    for suffix in _SUFFIXES:
        name = f"main/{folder}/{kind}.{suffix}"
        if name in release.digests:
            return name
    raise DataError(f"the Release file of {release.suite} names no {kind} of main")


def _get(client: httpx.Client, url: str, progress: Progress) -> bytes:
    name = url.rsplit("/", 1)[-1]
    try:
        with client.stream("GET", url) as response:
            response.raise_for_status()
            task = progress.add_task(name, total=int(response.headers.get("Content-Length", 0)) or None)
            data = bytearray()
            for chunk in response.iter_raw():
                data += chunk
                progress.update(task, advance=len(chunk))
    except httpx.HTTPError as error:
        raise TransportError(f"cannot download {name} from the mirror: {error}") from error
    return bytes(data)
