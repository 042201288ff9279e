"""From what an author wrote to one device's texts: cut into splits, and kept within bounds.

Which split a piece goes to is decided by a hash with the set's seed, so the same pieces give the same splits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mimo_fed.data.corpus import SPLITS, Split, Text
from mimo_fed.data.lots import position
from mimo_fed.errors import ConfigError

SHARES: Mapping[Split, float] = {"train": 0.60, "validation": 0.15, "test": 0.25}
_TEXTS_PER_SOURCE = 3


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One piece of text and who wrote it."""

    author: str
    source: str
    """pieces of one source stay in one split"""
    text: str
    package: str = ""
    """package that the text is about; empty if there is none"""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many bytes of UTF-8 a device has in each split: at least, at most.

    Raises:
        ConfigError: more at least than at most.
    """

    train: tuple[int, int]
    validation: tuple[int, int]
    test: tuple[int, int]

    def __post_init__(self) -> None:
        for split in SPLITS:
            low, high = self.of(split)
            if not 0 < low <= high:
                raise ConfigError(f"bytes of a split need 0 < least <= most: {split} {low} {high}")

    def of(self, split: Split) -> tuple[int, int]:
        """Return the bounds of one split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]


DEMO_BUDGET = Budget(train=(5000, 8000), validation=(900, 1300), test=(1500, 2000))
"""of the demo's devices"""
SET_BUDGET = Budget(train=(1000, 4800), validation=(200, 1200), test=(500, 2000))
"""of sets for evaluation: 2 to 8 kB in all, about what one person writes on a device in a few weeks"""


def by_author(pieces: Iterable[Piece]) -> dict[str, list[Piece]]:
    """Sort pieces by who wrote them."""
    found: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        found[piece.author].append(piece)
    return dict(found)


def split_at(place: float) -> Split:
    """Return the split at a place between 0 and 1."""
    edge = 0.0
    for split in SPLITS:
        edge += SHARES[split]
        if place < edge:
            return split
    return SPLITS[-1]


def split_pieces(pieces: Sequence[Piece], seed: str) -> dict[Split, list[Piece]]:
    """Cut one author's pieces into splits, about 60, 15 and 25 in a hundred.

    A source goes to one split as a whole, and which one depends on its name and the seed alone. A split
    that would stay empty takes the last source of the fullest one.

    Raises:
        ValueError: fewer than three sources, so one split must stay empty.
    """
    sources: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        sources[piece.source].append(piece)
    if len(sources) < len(SPLITS):
        raise ValueError(f"three splits need three sources: {len(sources)}")
    parts: dict[Split, list[str]] = {split: [] for split in SPLITS}
    for source in sorted(sources, key=lambda name: position(name, seed)):
        parts[split_at(position(source, seed))].append(source)
    for split in SPLITS:
        if not parts[split]:
            fullest = max(SPLITS, key=lambda other: len(parts[other]))
            parts[split].append(parts[fullest].pop())
    return {split: [piece for source in parts[split] for piece in sources[source]] for split in SPLITS}


def choose_texts(
    pieces: Sequence[Piece], seed: str, budget: Budget, *, draws: int = 1
) -> tuple[Text, ...] | None:
    """Choose one device's texts from one author's pieces; None if a split cannot be filled.

    Args:
        pieces: what the author wrote.
        seed: decides which source goes where.
        budget: bytes of each split.
        draws: how often the lots are drawn; an author with few sources needs more than one to fill the
            splits. What decides is the size of the texts, never what is in them.
    """
    if len({piece.source for piece in pieces}) < len(SPLITS):
        return None
    for draw in range(draws):
        texts = _drawn(pieces, f"{seed}/{draw}" if draw else seed, budget)
        if texts is not None:
            return texts
    return None


def _drawn(pieces: Sequence[Piece], seed: str, budget: Budget) -> tuple[Text, ...] | None:
    texts: list[Text] = []
    for split, candidates in split_pieces(pieces, seed).items():
        low, high = budget.of(split)
        size, per_source = 0, defaultdict[str, int](int)
        for piece in candidates:
            length = len(piece.text.encode())
            if size + length > high or per_source[piece.source] == _TEXTS_PER_SOURCE:
                continue
            size += length
            per_source[piece.source] += 1
            texts.append(Text(text=piece.text, split=split, package=piece.package))
        if size < low:
            return None
    return tuple(texts)
