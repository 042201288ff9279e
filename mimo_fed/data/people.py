"""Who maintains a package, and which paragraphs would name a person.

Filters that err on the safe side: a paragraph that may name somebody is dropped, and so is a maintainer who
may be a team. Losing some text costs nothing; keeping a name would.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from itertools import pairwise

_TEAM = re.compile(
    r"\b(teams?|maintainers?|groups?|packagers?|developers?|qa|list|project|debian|task ?force|people"
    r"|community|strike force|authors?|crew|dev|devel|committee|foundation|gmbh|inc|corporation"
    r"|ltd|builds?|bot)\b",
    re.IGNORECASE,
)
_LIST_ADDRESS = re.compile(
    r"lists?\.|@packages\.|tracker\.|-(team|devel|maintainers|dev|group|packaging)@|@googlegroups|^(team|pkg)[-+@]"
)
_PERSON = re.compile(r"^(?P<name>[^<>]+?)\s*<(?P<address>[^<>]+)>$")

_UPPER = "A-ZÀ-ÖØ-ÞĄĆČĎĐĘĚŁŃŇŐŒŘŚŞŠŤŮŰŸŹŻŽА-ЯЁЄІЇҐ"
_LOWER = "a-zß-ÿąćčďđęěłńňőœřśşšťůűźżžа-яёєіїґ"
_CAPITALISED = re.compile(rf"\b([{_UPPER}][\w'’-]+)\s+(?=(?:[{_UPPER}]\.\s*)?[{_UPPER}])")
_NAME = rf"[{_UPPER}][\w'’-]*[{_LOWER}]"
_INITIAL = re.compile(rf"(?<![zdu]\. )\b[{_UPPER}]\.\s?{_NAME}{{2}}")
_BY_WHOM = re.compile(
    rf"\b(?:by|of|from|and|da|di|dal|e|von|und|vom|par|de|et|por|y|af|fra|og|od|przez|i|а|и|от|від)"
    rf"\s+{_NAME}\s+{_NAME}\b"
)
_AUTHORSHIP = re.compile(
    r"[@©]|://|\bwww\.|\(c\)|copyright|written by|author|maintained by|created by|developed by|thanks to"
    r"|scritt[oaie] da|autor[ei]|mantenut[oaie] da|creat[oaie] da|sviluppat[oaie] da|grazie a"
    r"|geschrieben von|autor|entwickelt von|betreut von|dank an"
    r"|écrite?s? par|auteur|développée?s? par|maintenue?s? par|créée?s? par"
    r"|escrit[oa]s? por|desarrollad[oa]s? por|mantenid[oa]s? por|cread[oa]s? por"
    r"|desenvolvid[oa]s? por|mantid[oa]s? por|criad[oa]s? por"
    r"|skrevet af|udviklet af|vedligeholdes af|forfatter"
    r"|napisan[aey]\w* przez|stworzon[aey]\w* przez|napsal|vytvořil|napísal|vytvoril|vyvinul"
    r"|автор|написан|разработан|створен|розроблен|作者|作成した|開発した|저자",
    re.IGNORECASE,
)


def person(maintainer: str) -> str | None:
    """Return the name in a `Maintainer:` field, or None if it may be a team's, a list's or nobody's."""
    match = _PERSON.match(maintainer.strip())
    if match is None or _LIST_ADDRESS.search(match["address"].lower()):
        return None
    name = match["name"].strip().strip("\"'")
    if _TEAM.search(name) or len(name.split()) < 2:
        return None
    return name


def hashed(name: str, seed: str) -> str:
    """Return what stands for a name wherever something is kept: ten hexadecimal digits."""
    return hashlib.sha256(f"{seed}|{name}".encode()).hexdigest()[:10]


class Names:
    """The names of a set of people, to be found in text.

    Args:
        names: full names, as maintainers write them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        words = [[word.strip("\"'().,").casefold() for word in name.split()] for name in names]
        self._given = {name[0] for name in words if len(name) > 1 and len(name[0]) > 2}
        self._full = {(name[0], name[-1]) for name in words if len(name) > 1}

    def may_name_a_person(self, paragraph: str) -> bool:
        """Say whether a paragraph has an address, a link, words of authorship, or a name.

        A name is a capitalised word that is the given name of anybody in the set, with another capitalised
        word or an initial after it; a full name of the set in any capitals; two capitalised words after
        "by", "of", "and" or the like; or an initial before a capitalised word.
        """
        if any(pattern.search(paragraph) for pattern in (_AUTHORSHIP, _BY_WHOM, _INITIAL)):
            return True
        if any(match[1].casefold() in self._given for match in _CAPITALISED.finditer(paragraph)):
            return True
        words = [word.strip("\"'().,:;").casefold() for word in paragraph.split()]
        return any(pair in self._full for pair in pairwise(words))
