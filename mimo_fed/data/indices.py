"""Package indices of Debian: `Packages` and `Translation-*` files, as stanzas and as paragraphs.

An index is found by how its name ends, whatever stands before (`apt` writes the mirror's host there). What is
kept of a name is the part from the suite on, so that no host gets into a record.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mimo_fed.errors import DataError

_INDEX = re.compile(
    r"^(?:.*?dists_)?(?:(?P<suite>[^_]+)_(?P<component>[^_]+)_(?:binary-(?P<architecture>[^_]+)|i18n)_)?"
    r"(?P<kind>Packages|Translation-[A-Za-z_]+)(?:\.(?P<compression>gz|xz|bz2|lz4))?$"
)
_RELEASE = re.compile(r"^(?:.*?dists_)?(?:(?P<suite>[^_]+)_)?(?P<kind>InRelease|Release)$")
_PYTHON: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.decompress,
    "xz": lzma.decompress,
    "bz2": bz2.decompress,
}


@dataclass(frozen=True, kw_only=True)
class IndexFile:
    """One index on disk."""

    path: Path
    kind: str
    """`Packages`, `Translation-it` ..."""
    name: str
    """as the Release file names it, uncompressed: `main/i18n/Translation-it`"""
    suite: str
    """empty if the file name does not say"""
    compression: str

    def read(self) -> bytes:
        """Return the uncompressed bytes.

        Raises:
            DataError: the file cannot be read or is damaged.
        """
        return decompress(read_bytes(self.path), self.compression, what=str(self.path))


@dataclass(frozen=True, kw_only=True)
class Release:
    """What a Release file says."""

    suite: str
    """the codename: `bookworm`"""
    date: str
    digests: dict[str, str]
    """SHA-256 of every index, hexadecimal, by name"""

    def check(self, name: str, data: bytes) -> str:
        """Check bytes against their digest and return it.

        Raises:
            DataError: the Release file has no such index, or the bytes are others.
        """
        digest = hashlib.sha256(data).hexdigest()
        wanted = self.digests.get(name)
        if wanted is None:
            raise DataError(f"the Release file of {self.suite} names no such index: {name}")
        if digest != wanted:
            raise DataError(
                f"index and Release file of {self.suite} disagree on SHA-256: {name}",
                hint="fetch both again; they are of different days, or the file is damaged",
            )
        return digest


def find_indices(folder: Path, suite: str) -> tuple[IndexFile, ...]:
    """Find the indices of one suite in a folder, in order of their names.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder of index files: {folder}")
    found = []
    for path in sorted(folder.iterdir()):
        match = _INDEX.match(path.name)
        if match is None or match["suite"] not in (None, suite) or not path.is_file():
            continue
        found.append(_index_file(path, match))
    return tuple(found)


def find_release(folder: Path, suite: str) -> Release | None:
    """Read the suite's Release file, if the folder has one."""
    for path in sorted(folder.iterdir()):
        match = _RELEASE.match(path.name)
        if match is not None and match["suite"] in (None, suite):
            return parse_release(read_bytes(path).decode("utf-8", errors="replace"))
    return None


def parse_release(text: str) -> Release:
    """Read a Release file, or an InRelease file with its signature around it."""
    fields: dict[str, str] = {}
    digests: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith(" "):
            if section == "SHA256" and len(columns := line.split()) == 3:
                digests[columns[2]] = columns[0]
            continue
        section, _, value = line.partition(":")
        fields.setdefault(section, value.strip())
    return Release(suite=fields.get("Codename", ""), date=fields.get("Date", ""), digests=digests)


def stanzas(data: bytes) -> Iterator[dict[str, str]]:
    """Yield the stanzas of a control file; a continued value keeps its lines and their leading space."""
    stanza: dict[str, str] = {}
    key = ""
    for line in data.decode("utf-8", errors="replace").split("\n"):
        if not line.strip():
            if stanza:
                yield stanza
            stanza, key = {}, ""
        elif line[0] in " \t":
            if key:
                stanza[key] += "\n" + line
        else:
            key, _, value = line.partition(":")
            stanza[key] = value.strip()
    if stanza:
        yield stanza


def paragraphs(description: str) -> tuple[str, ...]:
    """Cut a description into paragraphs: the synopsis, then each paragraph with its lines joined.

    Lines that start with two spaces are verbatim (lists, mostly) and stay lines of their own.
    """
    synopsis, *rest = description.split("\n")
    found, lines = [synopsis.strip()], list[str]()
    for line in rest:
        if line.strip() == ".":
            found.append("\n".join(lines))
            lines = []
        elif line.startswith("  ") or not lines or lines[-1].startswith(" "):
            lines.append(line[1:].rstrip())
        else:
            lines[-1] += " " + line.strip()
    found.append("\n".join(lines))
    return tuple(paragraph.strip("\n") for paragraph in found if paragraph.strip())


def decompress(data: bytes, compression: str, *, what: str) -> bytes:
    """Uncompress an index.

    Raises:
        DataError: the bytes are damaged, or `lz4` is needed and not installed.
    """
    try:
        if compression == "lz4":
            return _lz4(data)
        return _PYTHON[compression](data) if compression else data
    except (OSError, EOFError, lzma.LZMAError, subprocess.CalledProcessError) as error:
        raise DataError(f"cannot uncompress index: {what}") from error


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read index: {path}: {error.strerror}") from error


def _lz4(data: bytes) -> bytes:
    program = shutil.which("lz4")
    if program is None:
        raise DataError("an index is compressed with lz4, and there is no `lz4` program to read it with")
    return subprocess.run([program, "-dc"], input=data, capture_output=True, check=True).stdout


def _index_file(path: Path, match: re.Match[str]) -> IndexFile:
    kind, architecture = match["kind"], match["architecture"]
    folder = "i18n" if kind.startswith("Translation-") else f"binary-{architecture or 'all'}"
    return IndexFile(
        path=path,
        kind=kind,
        name=f"{match['component'] or 'main'}/{folder}/{kind}",
        suite=match["suite"] or "",
        compression=match["compression"] or "",
    )
