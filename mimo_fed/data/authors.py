"""From package indices to what each maintainer wrote: clean, and nothing twice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mimo_fed.data.indices import paragraphs
from mimo_fed.data.people import Names, person
from mimo_fed.data.seen import Seen, normalised
from mimo_fed.data.splits import Piece

_CHARACTERS_PER_TEXT = (150, 2000)
_NOT_PROSE = re.compile(r"transitional|dummy package|debug symbols", re.IGNORECASE)
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


def pieces_of(
    packages: Sequence[Package],
    english: Mapping[str, str],
    translated: Mapping[str, str] | None,
    names: Names,
    seen: Seen,
) -> Iterator[Piece]:
    """Yield the text of every package that has one worth keeping.

    Dropped are paragraphs seen before in any package, or mostly so; paragraphs left in English in a
    translation, or that may name a person; and packages without prose of their own.
    """
    for package in packages:
        original = english.get(package.description_md5, "")
        if not original or _NOT_PROSE.search(original):
            continue
        untranslated = set[str]()
        if translated is not None:
            untranslated = {normalised(paragraph) for paragraph in paragraphs(original)}
        described = original if translated is None else translated.get(package.description_md5, "")
        kept = []
        for paragraph in paragraphs(described):
            again = seen.before(paragraph)
            if again or normalised(paragraph) in untranslated or _PLACEHOLDER in paragraph:
                continue
            if not names.may_name_a_person(paragraph):
                kept.append(paragraph)
        text = "\n\n".join(kept)
        low, high = _CHARACTERS_PER_TEXT
        if len(kept) > 1 and low <= len(text) <= high:
            yield Piece(author=package.maintainer, source=package.source, text=text, package=package.name)
