"""Devices from Debian's package descriptions: one device, one maintainer, one language."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mimo_fed.data.authors import (
    Budget,
    Item,
    Package,
    by_author,
    choose_texts,
    descriptions_of,
    items_of,
    packages_of,
    position,
)
from mimo_fed.data.corpus import DemoDevice, Text
from mimo_fed.data.indices import IndexFile, Release, find_indices, find_release, stanzas
from mimo_fed.data.people import Names, hashed, person
from mimo_fed.errors import DataError

SEED = "mimo-fed"
COMMAND = "mimo-fed data build debian"
LICENCE = (
    "A description is part of its package's debian/control file, a translation is a work derived from it. "
    "Each is under the licence that debian/copyright of its package states for debian/*, and not under this "
    "project's licence. No other statement of a licence for the translations of the Debian Description "
    "Translation Project was found."
)


class DeviceKind(NamedTuple):
    """A device as people know it."""

    name: str
    device_class: str
    rank: int


KINDS = (
    DeviceKind("kitchen-fridge", "fridge", 4),
    DeviceKind("wrist-watch", "watch", 4),
    DeviceKind("red-phone", "phone", 8),
    DeviceKind("blue-phone", "phone", 8),
    DeviceKind("sofa-tablet", "tablet", 16),
    DeviceKind("family-car", "car", 16),
    DeviceKind("desk-tablet", "tablet", 16),
    DeviceKind("city-car", "car", 16),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which devices to build.

    Raises:
        DataError: no devices, or fewer than none of a language.
    """

    languages: Mapping[str, int] = field(default_factory=lambda: {"it": 4, "fr": 2, "en": 2})
    """how many devices of each language; `en` is what maintainers wrote, others are translations"""
    suite: str = "bookworm"
    seed: str = SEED
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if not self.languages or min(self.languages.values()) < 1:
            raise DataError(
                f"a set needs at least one device of every language named: {dict(self.languages)}"
            )

    def places(self) -> tuple[tuple[DeviceKind, str], ...]:
        """Pair devices with languages so that every language is spread over the ranks."""
        given: Counter[str] = Counter()
        places = []
        for number in range(sum(self.languages.values())):
            left = [code for code, wanted in self.languages.items() if given[code] < wanted]
            language = min(left, key=lambda code: (given[code] + 0.5) / self.languages[code])
            given[language] += 1
            places.append((_kind(number), language))
        return tuple(places)


def build_devices(
    folder: Path, plan: Plan, say: Callable[[str], None] = lambda _: None
) -> tuple[tuple[DemoDevice, ...], dict[str, Any]]:
    """Build devices from a folder of index files.

    Args:
        folder: `Packages`, `Translation-en` and one `Translation-*` for every other language, compressed or
            not; with a Release file beside them, every index is checked against it.
        plan: which devices.
        say: told what is going on.

    Returns:
        The devices, and where their texts come from.

    Raises:
        DataError: an index is missing, damaged or of another day, or a language has too few authors.
    """
    release = find_release(folder, plan.suite)
    reader = _Reader(find_indices(folder, plan.suite), folder, release, say)
    listed = [
        stanza for stanza in reader.read("Packages") if not stanza.get("Package", "").startswith("linux-")
    ]
    names = Names(name for stanza in listed if (name := person(stanza.get("Maintainer", ""))))
    packages = packages_of(listed)
    english = descriptions_of(reader.read("Translation-en"), "en")

    chosen: dict[str, list[tuple[str, tuple[Text, ...]]]] = {}
    taken: set[str] = set()
    for language, wanted in plan.languages.items():
        translated = None
        if language != "en":
            translated = descriptions_of(reader.read(f"Translation-{language}"), language)
        say(f"choosing {wanted} authors in {language}")
        items = by_author(items_of(packages, english, translated, names))
        chosen[language] = _choose(items, wanted, plan, taken)
        if len(chosen[language]) < wanted:
            raise DataError(f"too few maintainers with enough text in {language}: {len(chosen[language])}")
        taken |= {author for author, _ in chosen[language]}
    devices = _devices(plan, chosen)
    return devices, _provenance(plan, release, reader.digests, devices, packages)


class _Reader:
    """Reads indices by kind, checks them, and remembers their digests."""

    def __init__(
        self, files: Iterable[IndexFile], folder: Path, release: Release | None, say: Callable[[str], None]
    ) -> None:
        self._files: dict[str, IndexFile] = {}
        for file in files:
            self._files.setdefault(file.kind, file)
        self._folder = folder
        self._release = release
        self._say = say
        self.digests: dict[str, str] = {}

    def read(self, kind: str) -> list[dict[str, str]]:
        file = self._files.get(kind)
        if file is None:
            raise DataError(
                f"no {kind} file in {self._folder}",
                hint="`apt` leaves translations out where Acquire::Languages is none; see docs/data.md",
            )
        self._say(f"reading {file.name}")
        data = file.read()
        self.digests[file.name] = hashlib.sha256(data).hexdigest()
        if self._release is not None:
            self._release.check(file.name, data)
        return list(stanzas(data))


def _kind(number: int) -> DeviceKind:
    kind = KINDS[number % len(KINDS)]
    again = number // len(KINDS)
    return kind._replace(name=f"{kind.name}-{again + 1}") if again else kind


def _choose(
    items: Mapping[str, Sequence[Item]], wanted: int, plan: Plan, taken: set[str]
) -> list[tuple[str, tuple[Text, ...]]]:
    """Take the first authors with enough text in the order of their hashes, so that nobody picks them."""
    chosen: list[tuple[str, tuple[Text, ...]]] = []
    for author in sorted(items, key=lambda name: position(name, plan.seed)):
        if len(chosen) == wanted:
            break
        texts = None if author in taken else choose_texts(items[author], plan.seed, plan.budget)
        if texts is not None:
            chosen.append((author, texts))
    return chosen


def _devices(plan: Plan, chosen: Mapping[str, list[tuple[str, tuple[Text, ...]]]]) -> tuple[DemoDevice, ...]:
    queues = {language: iter(authors) for language, authors in chosen.items()}
    devices = []
    for kind, language in plan.places():
        author, texts = next(queues[language])
        devices.append(
            DemoDevice(
                name=kind.name,
                author=hashed(author, plan.seed),
                language=language,
                translated=language != "en",
                device_class=kind.device_class,
                rank=kind.rank,
                texts=texts,
            )
        )
    return tuple(devices)


def _provenance(
    plan: Plan,
    release: Release | None,
    digests: Mapping[str, str],
    devices: Iterable[DemoDevice],
    packages: Iterable[Package],
) -> dict[str, Any]:
    by_name = {package.name: package for package in packages}
    used = sorted({text.package for device in devices for text in device.texts})
    languages = ",".join(f"{code}:{count}" for code, count in plan.languages.items())
    return {
        "source": "package descriptions of Debian",
        "suite": plan.suite,
        "release_date": release.date if release else "",
        "checked_against_release": release is not None,
        "files": [{"name": name, "sha256": digest} for name, digest in digests.items()],
        "seed": plan.seed,
        "command": f"{COMMAND} --suite {plan.suite} --languages {languages} --seed {plan.seed}",
        "licence": LICENCE,
        "packages": [_package_record(by_name[name]) for name in used],
    }


def _package_record(package: Package) -> dict[str, str]:
    return {
        "package": package.name,
        "source": package.source,
        "version": package.version,
        "licence": "see debian/copyright of the package",
    }
