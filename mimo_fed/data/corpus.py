"""Text of one device: pieces that each belong to one split, and the file they are kept in.

The file is JSON Lines, one piece a line: `{"text": ..., "split": "train" | "validation" | "test"}`. A line
may also name the `package` that the piece describes; other keys are refused, so that a misspelled one shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mimo_fed.errors import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_KEYS = frozenset({"text", "split", "package"})


@dataclass(frozen=True, kw_only=True)
class Text:
    """One piece of text."""

    text: str
    split: Split
    package: str = ""
    """package that the text describes; empty if the text is not from a package"""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The texts of one device, by split."""

    train: tuple[str, ...]
    """what adapters are trained on"""
    validation: tuple[str, ...]
    """what a device looks at while it decides: loss before and after, strength of the personal adapter"""
    test: tuple[str, ...]
    """what results are reported on, and nothing is ever chosen by"""


@dataclass(frozen=True, kw_only=True)
class DemoDevice:
    """One device of a set: whose text it holds and how big an adapter it trains."""

    name: str
    author: str
    """hash of the author's name; the name itself is nowhere"""
    language: str
    """of the texts: `it`, `de`, `en` ..."""
    translated: bool
    """the texts are translations, by others, of what the author wrote"""
    device_class: str
    """`watch`, `fridge`, `phone`, `tablet` or `car`"""
    rank: int
    texts: tuple[Text, ...]
    label: str = ""
    """whose words these are, in words"""

    @property
    def corpus(self) -> Corpus:
        """The texts by split."""
        return by_split(self.texts)


def by_split(texts: Iterable[Text]) -> Corpus:
    """Sort texts into their splits; the order within a split is kept."""
    texts = tuple(texts)
    train, validation, test = (tuple(text.text for text in texts if text.split == split) for split in SPLITS)
    return Corpus(train=train, validation=validation, test=test)


def to_lines(texts: Iterable[Text]) -> str:
    """Write texts as JSON Lines; the same texts give the same characters."""
    return "".join(json.dumps(_record(text), ensure_ascii=False) + "\n" for text in texts)


def from_lines(lines: str, *, what: str) -> tuple[Text, ...]:
    """Read JSON Lines.

    Args:
        lines: as `to_lines` writes them; empty lines are skipped.
        what: name of the source, for messages.

    Raises:
        DataError: a line is not a piece of text; the message names the line.
    """
    # split("\n"): str.splitlines() would also cut at U+2028 and its like, which JSON leaves as they are
    numbered = enumerate(lines.split("\n"), start=1)
    return tuple(_text(line, where=f"{what}, line {number}") for number, line in numbered if line.strip())


def write_corpus(path: Path, texts: Iterable[Text]) -> None:
    """Write the texts of one device.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        path.write_text(to_lines(texts), encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"cannot write texts: {path}: {error.strerror}") from error


def read_texts(path: Path) -> tuple[Text, ...]:
    """Read the texts of one device, each with its split.

    Raises:
        DataError: the file cannot be read, or a line is not a piece of text.
    """
    try:
        lines = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read texts: {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"texts are not UTF-8 at byte {error.start}: {path}") from error
    return from_lines(lines, what=str(path))


def read_corpus(path: Path) -> Corpus:
    """Read the texts of one device, by split.

    Raises:
        DataError: the file cannot be read, a line is not a piece of text, or there is nothing to train on.
    """
    corpus = by_split(read_texts(path))
    if not corpus.train:
        raise DataError(
            f'no text with "split": "train" in {path}',
            hint='one JSON object a line: {"text": "...", "split": "train"}',
        )
    return corpus


def _record(text: Text) -> dict[str, str]:
    record = {"text": text.text, "split": text.split}
    return record | {"package": text.package} if text.package else record


def _text(line: str, *, where: str) -> Text:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"not JSON: {where}") from error
    if not isinstance(record, dict):
        raise DataError(f"not a JSON object: {where}")
    if unknown := sorted(record.keys() - _KEYS):
        raise DataError(f"unknown key {unknown[0]!r}: {where}")
    text, package = record.get("text"), record.get("package", "")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f'no text under "text": {where}')
    if not isinstance(package, str):
        raise DataError(f'"package" is not a string: {where}')
    for split in SPLITS:
        if record.get("split") == split:
            return Text(text=text, split=split, package=package)
    raise DataError(f'"split" is {record.get("split")!r}, not train, validation or test: {where}')
