"""Bring your own text: a folder of JSON Lines files, one a device.

A line is `{"text": "..."}`, or `{"messages": [{"role": "user", "content": "..."}, ...]}`, which becomes one
text with a line `role: content` for every message. `"split"` is optional. The first line may say what the
device is: `{"device": {"language": "it", "device_class": "phone", "rank": 8}}`; what is left out is `und`,
`phone`, 16.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mimo_fed.data.corpus import SPLITS, DemoDevice, Split, Text
from mimo_fed.data.extract import MANIFEST, load_extract
from mimo_fed.data.lots import RANKS
from mimo_fed.data.people import hashed
from mimo_fed.data.splits import Piece, split_pieces
from mimo_fed.errors import DataError

_DEVICE: Mapping[str, Any] = {"language": "und", "device_class": "phone", "rank": 16}
_KEYS = frozenset({"text", "messages", "split"})
_HINT = 'one JSON object a line: {"text": "..."} or {"messages": [{"role": "user", "content": "..."}]}'


def load_devices(folder: Path, *, seed: str = "mimo-fed") -> tuple[DemoDevice, ...]:
    """Load the devices of a folder: a set with a manifest, or one JSON Lines file a device.

    Args:
        folder: where they are; without a manifest, every `*.jsonl` in it is one device of that name.
        seed: decides the split of texts that do not say theirs: 60, 15 and 25 in a hundred, by a hash
            of the text. A file of fewer than three such texts is trained on as a whole.

    Raises:
        DataError: there are none, or a line is malformed; the message names file and line.
    """
    if (folder / MANIFEST).exists():
        return load_extract(folder)
    paths = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    if not paths:
        raise DataError(
            f"no devices, neither a {MANIFEST} nor a *.jsonl: {folder}",
            hint="build a set with `mimo-fed data build`, or give one JSON Lines file a device",
        )
    return tuple(_device(path, seed) for path in paths)


def _device(path: Path, seed: str) -> DemoDevice:
    records = _records(path)
    about = dict(_DEVICE)
    if records and "device" in records[0][1]:
        where, record = records.pop(0)
        about |= _about(record, where)
    texts = [(_text(record, where), _split(record, where)) for where, record in records]
    if not texts:
        raise DataError(f"no texts: {path}", hint=_HINT)
    lots = _lots([text for text, split in texts if split is None], seed)
    return DemoDevice(
        name=path.stem,
        author=hashed(path.stem, seed),
        translated=False,
        texts=tuple(Text(text=text, split=split or lots[text]) for text, split in texts),
        **about,
    )


def _records(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return every line that is not empty, with where it stands."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"cannot read texts: {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"texts are not UTF-8 at byte {error.start}: {path}") from error
    records = []
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"not JSON: {where}", hint=_HINT) from error
        if not isinstance(record, dict):
            raise DataError(f"not a JSON object: {where}", hint=_HINT)
        records.append((where, record))
    return records


def _about(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    about = record["device"]
    if not isinstance(about, dict) or len(record) > 1:
        raise DataError(f'"device" is an object on a line of its own: {where}')
    if unknown := sorted(about.keys() - _DEVICE.keys()):
        raise DataError(f"unknown key {unknown[0]!r} of a device: {where}")
    about = {**_DEVICE, **about}
    if not isinstance(about["language"], str) or not about["language"]:
        raise DataError(f"language is not a code such as it: {about['language']!r}: {where}")
    if about["device_class"] not in RANKS:
        raise DataError(
            f"no such device class: {about['device_class']!r}: {where}", hint=f"one of {', '.join(RANKS)}"
        )
    if type(about["rank"]) is not int or about["rank"] < 1:
        raise DataError(f"rank is not a whole number above 0: {about['rank']!r}: {where}")
    return about


def _text(record: Mapping[str, Any], where: str) -> str:
    if unknown := sorted(record.keys() - _KEYS):
        raise DataError(f"unknown key {unknown[0]!r}: {where}", hint=_HINT)
    if ("text" in record) == ("messages" in record):
        raise DataError(f'a line has "text" or "messages": {where}', hint=_HINT)
    text = record["text"] if "text" in record else _conversation(record["messages"], where)
    if not isinstance(text, str) or not text.strip():
        raise DataError(f'no text under "text": {where}', hint=_HINT)
    return text


def _conversation(messages: object, where: str) -> str:
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise DataError(f'"messages" is not a list of messages: {where}', hint=_HINT)
    lines = []
    for message in messages:
        role, content = (
            (message.get("role"), message.get("content")) if isinstance(message, dict) else ("", "")
        )
        if not (isinstance(role, str) and role.strip() and isinstance(content, str) and content.strip()):
            raise DataError(f"a message has a role and a content, both text: {where}", hint=_HINT)
        lines.append(f"{role}: {content}")
    return "\n".join(lines)


def _split(record: Mapping[str, Any], where: str) -> Split | None:
    if "split" not in record:
        return None
    for split in SPLITS:
        if record["split"] == split:
            return split
    raise DataError(f'"split" is {record["split"]!r}, not train, validation or test: {where}')


def _lots(texts: Sequence[str], seed: str) -> dict[str, Split]:
    """Return the split of every text; the same text is in one split however often it occurs."""
    different = dict.fromkeys(texts)
    if len(different) < len(SPLITS):
        return dict.fromkeys(different, "train")
    pieces = [Piece(author="", source=text, text=text) for text in different]
    return {piece.text: split for split, found in split_pieces(pieces, seed).items() for piece in found}
