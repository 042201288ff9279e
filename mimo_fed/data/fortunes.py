"""Sayings from Debian's fortune packages: a user is somebody who is quoted, in one language.

The author is what stands after `--` at the end of a saying. Left out are offensive files, sayings without an
author, and authors who are nobody in particular: proverbs, newsgroups, web pages, the anonymous.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from mimo_fed.data.archive import Tell, silent
from mimo_fed.data.corpus import DemoDevice
from mimo_fed.data.debs import unpack
from mimo_fed.data.indices import read_bytes
from mimo_fed.data.seen import Seen
from mimo_fed.data.splits import Piece
from mimo_fed.data.users import SetPlan, fitting, share_out, user_device
from mimo_fed.errors import DataError

PACKAGES = {
    "en": "fortunes",
    "de": "fortunes-de",
    "es": "fortunes-es",
    "it": "fortunes-it",
    "pl": "fortunes-pl",
    "cs": "fortunes-cs",
    "pt_BR": "fortunes-br",
    "ru": "fortunes-ru",
    "bg": "fortunes-bg",
}
"""the Debian package of each language"""
LANGUAGES = tuple(PACKAGES)
COMMAND = "mimo-fed data build fortunes"
LICENCE = (
    "Sayings are quotations, collected by the packages named here. What may be done with a collection is in "
    "debian/copyright of its package. It is not under this project's licence; an author may have rights too."
)
_BELOW = "games/fortunes/"
_AT_ROOT = {"brasil": "pt_BR"}
_CHARACTERS = (30, 1500)

_END = re.compile(r"^%+[^\n]*$", re.MULTILINE)
_AUTHOR = re.compile(r"^\s*--+\s*(?P<author>[^\s\-].*)$")
_NAME_END = re.compile(r"[,;:(\[\"“„«<\t]| in \b| aus \b|\. ?[A-ZА-Я]\w+ \w+ \w+")
_NOBODY = re.compile(
    r"http|www|[@#/\\]|\d{3}|anon|unknown|unbekannt|desconocid|desconhecid|ignot|neznám|nieznan|неизвест"
    r"|fortune|proverb|refrán|sprichwort|bauernregel|volksmund|graffit|пословиц|поговорк|поговорка|przysłow"
    r"|přísloví|^da |usenet|source|źródło|slashdot|hobby\.|moderne|^from |^the |dictum|slogan|murphy",
    re.IGNORECASE,
)


class Saying(NamedTuple):
    """What somebody said."""

    author: str
    text: str


def build_quoted(
    folder: Path, plan: SetPlan, tell: Tell = silent
) -> tuple[tuple[DemoDevice, ...], dict[str, Any]]:
    """Build a set of quoted authors.

    Args:
        folder: `fortunes*.deb` as Debian has them, or what they put into `games/fortunes`.
        plan: which users; all authors with enough sayings if it does not say.
        tell: told what is going on.

    Returns:
        The devices, and where their texts come from.

    Raises:
        DataError: there is nothing of a language in the folder, a package is damaged, or there are too few
            authors.
    """
    tell("packages", 0.0)
    names: list[dict[str, str]] = []
    texts: dict[str, list[tuple[str, str]]] = {}
    for language, name, data in _files(folder, names):
        texts.setdefault(language, []).append((name, data.decode("utf-8", errors="replace")))
    seen, fits = Seen(), {}
    for number, language in enumerate(plan.languages):
        tell(f"authors quoted in {language}", number / len(plan.languages))
        if language not in texts:
            raise DataError(
                f"no sayings in {language}: {folder}", hint=f"put {PACKAGES.get(language, 'them')} there"
            )
        fits[language] = fitting(
            (piece for name, text in texts[language] for piece in _pieces(name, text, seen)), plan
        )
    devices = tuple(
        user_device(
            author, quoted, language=language, translated=False, label="sayings of one author", seed=plan.seed
        )
        for language, authors in share_out(fits, plan).items()
        for author, quoted in authors.items()
    )
    return devices, {
        "source": "fortune packages of Debian",
        "files": names,
        "seed": plan.seed,
        "command": f"{COMMAND} {plan.options}",
        "licence": LICENCE,
    }


def sayings(text: str) -> Iterator[Saying]:
    """Yield the sayings of a file whose author is somebody.

    Args:
        text: sayings, parted by lines of `%`.
    """
    for saying in _END.split(text):
        lines = saying.strip().split("\n")
        for number in range(len(lines) - 1, max(0, len(lines) - 4), -1):
            match = _AUTHOR.match(lines[number])
            if match is None:
                continue
            author = _NAME_END.split(match["author"])[0].strip(" .'`*_")
            said = "\n".join(line.strip() for line in lines[:number]).strip()
            if len(author) > 3 and not _NOBODY.search(author):
                yield Saying(author=author, text=said)
            break


def _pieces(name: str, text: str, seen: Seen) -> Iterator[Piece]:
    low, high = _CHARACTERS
    for number, saying in enumerate(sayings(text)):
        if low <= len(saying.text) <= high and not seen.before(saying.text):
            yield Piece(author=saying.author, source=f"{name}/{number}", text=saying.text)


def _files(folder: Path, names: list[dict[str, str]]) -> Iterator[tuple[str, str, bytes]]:
    """Yield language, name and bytes of every file of sayings; `names` learns what was read."""
    packages = sorted(folder.glob("fortunes*.deb"))
    for path in packages:
        data = read_bytes(path)
        names.append({"name": path.name, "sha256": hashlib.sha256(data).hexdigest()})
        for name, content in unpack(data, what=path.name):
            _, below, rest = name.partition(_BELOW)
            if below and (language := _language(rest)):
                yield language, rest, content
    for path in sorted(folder.rglob("*")) if not packages else ():
        rest = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and (language := _language(rest)):
            data = read_bytes(path)
            names.append({"name": rest, "sha256": hashlib.sha256(data).hexdigest()})
            yield language, rest, data


def _language(name: str) -> str:
    """Return the language of a file by its path below `games/fortunes`; empty if it is not to be read."""
    path = PurePosixPath(name)
    offensive = "off" in path.parts or path.name.endswith("-o")
    if offensive or path.suffix in (".dat", ".u8", ".deb", ".fortunes-pre"):
        return ""
    if len(path.parts) == 1:
        return _AT_ROOT.get(path.name, "en")
    return path.parts[0]
