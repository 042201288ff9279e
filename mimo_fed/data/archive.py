"""A folder of Debian's package indices, read as what individual maintainers wrote, language by language."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mimo_fed.data.authors import Package, descriptions_of, packages_of, pieces_of
from mimo_fed.data.indices import find_indices, find_release, stanzas
from mimo_fed.data.people import Names, person
from mimo_fed.data.seen import Seen
from mimo_fed.data.splits import Piece
from mimo_fed.errors import DataError

Tell = Callable[[str, float], None]
"""told what is going on, and the share of the work that is done"""

ORIGINAL = "en"
"""the language that maintainers write in; all others are translations"""
LICENCE = (
    "A description is part of its package's debian/control file, a translation is a work derived from it. "
    "Each is under the licence that debian/copyright of its package states for debian/*, and not under this "
    "project's licence. No other statement of a licence for the translations of the Debian Description "
    "Translation Project was found."
)


def silent(message: str, done: float) -> None:
    """Tell nobody."""


def label_of(language: str) -> str:
    """Say whose words the texts of a language are."""
    if language == ORIGINAL:
        return "this maintainer's descriptions"
    return "translations of this maintainer's descriptions"


class Archive:
    """The packages of one suite and their descriptions.

    Args:
        folder: `Packages`, `Translation-en` and one `Translation-*` for every other language, compressed or
            not; with a Release file beside them, every index is checked against it.
        suite: codename.

    Raises:
        DataError: an index is missing, damaged or of another day.
    """

    def __init__(self, folder: Path, suite: str) -> None:
        self.suite = suite
        self._folder = folder
        self._release = find_release(folder, suite)
        self._files = {file.kind: file for file in reversed(find_indices(folder, suite))}
        self._digests: dict[str, str] = {}
        listed = [one for one in self._read("Packages") if not one.get("Package", "").startswith("linux-")]
        self._names = Names(name for one in listed if (name := person(one.get("Maintainer", ""))))
        self._packages = packages_of(listed)
        self._english = descriptions_of(self._read(f"Translation-{ORIGINAL}"), ORIGINAL)

    def pieces(self, language: str, seen: Seen) -> tuple[Piece, ...]:
        """Return what maintainers wrote, or what it was translated to.

        Args:
            language: `en`, or the ending of a `Translation-*` file.
            seen: paragraphs to leave out; it learns the new ones.

        Raises:
            DataError: the index is missing, damaged or of another day.
        """
        translated = None
        if language != ORIGINAL:
            translated = descriptions_of(self._read(f"Translation-{language}"), language)
        return tuple(pieces_of(self._packages, self._english, translated, self._names, seen))

    def provenance(self, packages: Iterable[str], *, seed: str, command: str) -> dict[str, Any]:
        """Return what is said of where texts come from.

        Args:
            packages: names of those that texts are about.
            seed: that lots were drawn with.
            command: that built the set.
        """
        by_name = {package.name: package for package in self._packages}
        return {
            "source": "package descriptions of Debian",
            "suite": self.suite,
            "release_date": self._release.date if self._release else "",
            "checked_against_release": self._release is not None,
            "files": [{"name": name, "sha256": digest} for name, digest in self._digests.items()],
            "seed": seed,
            "command": command,
            "licence": LICENCE,
            "packages": [_record(by_name[name]) for name in sorted(set(packages))],
        }

    def _read(self, kind: str) -> list[dict[str, str]]:
        file = self._files.get(kind)
        if file is None:
            raise DataError(
                f"no {kind} file in {self._folder}",
                hint="`apt` leaves translations out where Acquire::Languages is none; see docs/data.md",
            )
        data = file.read()
        self._digests[file.name] = hashlib.sha256(data).hexdigest()
        if self._release is not None:
            self._release.check(file.name, data)
        return list(stanzas(data))


def _record(package: Package) -> dict[str, str]:
    return {
        "package": package.name,
        "source": package.source,
        "version": package.version,
        "licence": "see debian/copyright of the package",
    }
