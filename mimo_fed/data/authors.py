"""From package indices to what each maintainer wrote: clean, deduplicated, and cut into splits.

Everything is decided by hashes with one seed, so the same indices give the same texts.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mimo_fed.data.corpus import SPLITS, Split, Text
from mimo_fed.data.indices import paragraphs
from mimo_fed.data.people import Names, person

_SHARES: Mapping[Split, float] = {"train": 0.60, "validation": 0.15, "test": 0.25}
_TEXTS_PER_SOURCE = 3
_CHARACTERS_PER_TEXT = (150, 2000)
_NOT_PROSE = re.compile(r"transitional|dummy package|debug symbols", re.IGNORECASE)
_RUN = 5
_PLACEHOLDER = "<trans>"


@dataclass(frozen=True, kw_only=True)
class Package:
    """What the index says about one binary package."""

    name: str
    source: str
    version: str
    maintainer: str
    """an individual's name"""
    description_md5: str


@dataclass(frozen=True, kw_only=True)
class Item:
    """One package's text in one language."""

    package: Package
    text: str


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many bytes of UTF-8 a device has in each split: at least, at most."""

    train: tuple[int, int] = (5000, 8000)
    validation: tuple[int, int] = (900, 1300)
    test: tuple[int, int] = (1500, 2000)

    def of(self, split: Split) -> tuple[int, int]:
        """Return the bounds of one split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]


def packages_of(stanzas: Iterable[Mapping[str, str]]) -> tuple[Package, ...]:
    """Return the packages that an individual maintains, by name; the last version listed counts."""
    found: dict[str, Package] = {}
    for stanza in stanzas:
        name, maintainer = stanza.get("Package", ""), person(stanza.get("Maintainer", ""))
        if not name or maintainer is None or "Description-md5" not in stanza:
            continue
        found[name] = Package(
            name=name,
            source=stanza.get("Source", name).split(" ")[0],
            version=stanza.get("Version", ""),
            maintainer=maintainer,
            description_md5=stanza["Description-md5"],
        )
    return tuple(found[name] for name in sorted(found))


def descriptions_of(stanzas: Iterable[Mapping[str, str]], language: str) -> dict[str, str]:
    """Return the descriptions of a `Translation-*` file by the MD5 of the English original."""
    key = f"Description-{language}"
    return {stanza["Description-md5"]: stanza[key] for stanza in stanzas if key in stanza}


def items_of(
    packages: Sequence[Package],
    english: Mapping[str, str],
    translated: Mapping[str, str] | None,
    names: Names,
) -> Iterator[Item]:
    """Yield the text of every package that has one worth keeping.

    Dropped are paragraphs seen before in any package, or mostly so; paragraphs left in English in a
    translation, or that may name a person; and packages without prose of their own.
    """
    seen = _Seen()
    for package in packages:
        original = english.get(package.description_md5, "")
        if not original or _NOT_PROSE.search(original):
            continue
        untranslated = set[str]()
        if translated is not None:
            untranslated = {_normalised(paragraph) for paragraph in paragraphs(original)}
        described = original if translated is None else translated.get(package.description_md5, "")
        kept = []
        for paragraph in paragraphs(described):
            again = seen.before(paragraph)
            if again or _normalised(paragraph) in untranslated or _PLACEHOLDER in paragraph:
                continue
            if not names.may_name_a_person(paragraph):
                kept.append(paragraph)
        text = "\n\n".join(kept)
        low, high = _CHARACTERS_PER_TEXT
        if len(kept) > 1 and low <= len(text) <= high:
            yield Item(package=package, text=text)


class _Seen:
    """Paragraphs seen so far, whoever maintains the package."""

    def __init__(self) -> None:
        self._whole: set[str] = set()
        self._runs: set[int] = set()

    def before(self, paragraph: str) -> bool:
        """Say whether this paragraph, or over half of its runs of five words, was seen; and remember it."""
        normal = _normalised(paragraph)
        words = normal.split()
        runs = {hash(tuple(words[start : start + _RUN])) for start in range(len(words) - _RUN + 1)}
        again = normal in self._whole or 2 * len(runs & self._runs) > len(runs) > 0
        self._whole.add(normal)
        self._runs |= runs
        return again


def by_author(items: Iterable[Item]) -> dict[str, list[Item]]:
    """Sort items by maintainer."""
    found: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        found[item.package.maintainer].append(item)
    return dict(found)


def split_items(items: Sequence[Item], seed: str) -> dict[Split, list[Item]]:
    """Cut one author's items into splits, about 60, 15 and 25 in a hundred.

    A source package goes to one split as a whole, and which one depends on its name and the seed alone. A
    split that would stay empty takes the last source of the fullest one.

    Raises:
        ValueError: fewer than three source packages, so one split must stay empty.
    """
    sources: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        sources[item.package.source].append(item)
    if len(sources) < len(SPLITS):
        raise ValueError(f"three splits need three source packages: {len(sources)}")
    parts: dict[Split, list[str]] = {split: [] for split in SPLITS}
    for source in sorted(sources, key=lambda name: position(name, seed)):
        parts[_split_at(position(source, seed))].append(source)
    for split in SPLITS:
        if not parts[split]:
            fullest = max(SPLITS, key=lambda other: len(parts[other]))
            parts[split].append(parts[fullest].pop())
    return {split: [item for source in parts[split] for item in sources[source]] for split in SPLITS}


def choose_texts(items: Sequence[Item], seed: str, budget: Budget) -> tuple[Text, ...] | None:
    """Choose one device's texts from one author's items; None if a split cannot be filled."""
    if len({item.package.source for item in items}) < len(SPLITS):
        return None
    texts: list[Text] = []
    for split, candidates in split_items(items, seed).items():
        low, high = budget.of(split)
        size, per_source = 0, defaultdict[str, int](int)
        for item in candidates:
            length, source = len(item.text.encode()), item.package.source
            if size + length > high or per_source[source] == _TEXTS_PER_SOURCE:
                continue
            size += length
            per_source[source] += 1
            texts.append(Text(text=item.text, split=split, package=item.package.name))
        if size < low:
            return None
    return tuple(texts)


def position(name: str, seed: str) -> float:
    """Return where a name lies between 0 and 1: its hash."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{name}".encode()).digest()[:8]) / 2**64


def _split_at(place: float) -> Split:
    edge = 0.0
    for split in SPLITS:
        edge += _SHARES[split]
        if place < edge:
            return split
    return SPLITS[-1]


def _normalised(paragraph: str) -> str:
    return re.sub(r"\d+", "0", " ".join(paragraph.casefold().split()))
