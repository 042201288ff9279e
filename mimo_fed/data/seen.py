"""Paragraphs seen so far, whoever wrote them: no text is tested on that anybody trained on."""

from __future__ import annotations

import re

_RUN = 5
_CHARACTERS_PER_WORD_MAX = 20


def normalised(paragraph: str) -> str:
    """Return a paragraph without what makes no difference: capitals, spaces, and which digits."""
    return re.sub(r"\d+", "0", " ".join(paragraph.casefold().split()))


class Seen:
    """A memory of paragraphs."""

    def __init__(self) -> None:
        self._whole: set[str] = set()
        self._runs: set[int] = set()

    def before(self, paragraph: str) -> bool:
        """Say whether this paragraph, or over half of its runs, was seen; and remember it.

        A run is five words; in a script that puts no spaces between words, ten characters.
        """
        normal = normalised(paragraph)
        units, length = _units(normal)
        runs = {hash(tuple(units[start : start + length])) for start in range(len(units) - length + 1)}
        again = normal in self._whole or 2 * len(runs & self._runs) > len(runs) > 0
        self._whole.add(normal)
        self._runs |= runs
        return again


def _units(normal: str) -> tuple[list[str], int]:
    words = normal.split()
    if words and len(normal) > _CHARACTERS_PER_WORD_MAX * len(words):
        return list(normal.replace(" ", "")), 2 * _RUN
    return words, _RUN
