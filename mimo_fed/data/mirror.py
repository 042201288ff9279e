"""Download from a Debian mirror: indices, checked against the Release file, and packages, against theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from mimo_fed.data.indices import Release, find_indices, parse_release, stanzas
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
    with _connection() as client, _bars(quiet=quiet) as progress:
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


def download_packages(
    mirror: str, suite: str, names: Iterable[str], folder: Path, *, quiet: bool = False
) -> None:
    """Download packages of a suite's section `main`, and the index they are checked against.

    Args:
        mirror: address above `dists` and `pool`, as in an apt source.
        suite: codename.
        names: of binary packages.
        folder: where the files go; those already there are kept.
        quiet: no progress bar.

    Raises:
        TransportError: the mirror cannot be reached or lacks a file.
        DataError: the suite has no such package, or a file is not what the index says.
    """
    download_indices(mirror, suite, ["Packages"], folder, quiet=quiet)
    (index,) = (file for file in find_indices(folder, suite) if file.kind == "Packages")
    listed = {one["Package"]: one for one in stanzas(index.read()) if "Package" in one}
    with _connection() as client, _bars(quiet=quiet) as progress:
        for name in names:
            if name not in listed:
                raise DataError(f"no such package in {suite}: {name}")
            place, digest = listed[name]["Filename"], listed[name]["SHA256"]
            path = folder / place.rsplit("/", 1)[-1]
            if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
                continue
            data = _get(client, f"{mirror.rstrip('/')}/{place}", progress)
            if hashlib.sha256(data).hexdigest() != digest:
                raise DataError(f"package and index of {suite} disagree on SHA-256: {path.name}")
            _save(path, data)


def _connection() -> httpx.Client:
    return httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True, headers=_AS_STORED)


def _bars(*, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=quiet)


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
