"""The JSON files of vectors: how operations name bytes, and how an outcome is compared.

A file holds `bytes`, which are named; `anchors`, by name; `parties`, the secrets of devices; and
`operations`, to be done in order. A string in an operation that stands for bytes is hexadecimal, or "@" and a
name. Named bytes are hexadecimal, or a list of parts to be joined: hexadecimal, or [name, start, stop] for a
part of other named bytes. An operation with `as` gives its output that name. Operations whose name begins
with `bad_` fail, with the code in `error`, and change nothing. Long outputs are stated by SHA-256 and length:
whoever checks makes them himself. A total may differ by 2^-20.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("secagg")
FORMAT = "mimo-fed/vectors/secagg/v1"
LONG = 512
"""bytes; longer outputs are stated by hash"""
TOLERANCE = 2.0**-20
"""how far a total may be from the exact one, in units of one residue"""

Operation = dict[str, Any]


class Store:
    """The bytes of one file, by name."""

    def __init__(self, file: Mapping[str, Any], tolerance: float = TOLERANCE) -> None:
        self.tolerance = tolerance
        self.anchors: dict[str, Any] = file.get("anchors", {})
        self.parties: dict[str, Any] = file.get("parties", {})
        self._stated: dict[str, Any] = dict(file.get("bytes", {}))
        self._bytes: dict[str, bytes] = {}

    def get(self, value: str) -> bytes:
        """What a string in an operation stands for."""
        return self._named(value[1:]) if value.startswith("@") else bytes.fromhex(value)

    def _named(self, name: str) -> bytes:
        if name not in self._bytes:
            stated = self._stated[name]
            parts = [stated] if isinstance(stated, str) else stated
            self._bytes[name] = b"".join(map(self._part, parts))
        return self._bytes[name]

    def _part(self, part: Any) -> bytes:
        if isinstance(part, str):
            return bytes.fromhex(part)
        name, start, stop = part
        return self._named(name)[start:stop]

    def put(self, name: str, data: bytes) -> None:
        self._bytes[name] = data

    def find(self, name: str) -> bytes | None:
        """Named bytes, if there are any."""
        return self._named(name) if name in self._bytes or name in self._stated else None


Execute = Callable[[Operation, Store], Any]
"""Does an operation: returns its output, or raises an error that has a `code`."""


@dataclass
class Report:
    """What became of a file's operations."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)


def check(file: Mapping[str, Any], execute: Execute, tolerance: float = TOLERANCE) -> Report:
    """Do the operations of a file and compare."""
    store, report = Store(file, tolerance), Report()
    for operation in file["operations"]:
        if wrong := _wrong(operation, store, execute):
            report.failed.append(f"{operation['name']}: {wrong}")
        else:
            report.passed += 1
    return report


def _wrong(operation: Operation, store: Store, execute: Execute) -> str:
    """What is wrong with an outcome; nothing: it is as stated."""
    try:
        out = execute(operation, store)
    except Exception as error:
        if (code := getattr(error, "code", None)) is None:
            raise
        expected = operation.get("error", "success")
        return "" if code == expected else f"{expected} was expected: {error}"
    if not operation["success"]:
        return f"{operation['error']} was expected: success"
    if "as" in operation:
        store.put(operation["as"], out)
    return "" if agrees(operation.get("out"), out, store) else f"another output: {str(out)[:200]}"


def agrees(stated: Any, out: Any, store: Store) -> bool:
    """Compare an output with what a file states."""
    if isinstance(out, bytes):
        if isinstance(stated, Mapping):
            return stated == hashed(out)
        return isinstance(stated, str) and store.get(stated) == out
    if isinstance(out, Mapping):
        return (
            isinstance(stated, Mapping)
            and set(stated) == set(out)
            and all(agrees(stated[key], value, store) for key, value in out.items())
        )
    if isinstance(out, list | tuple):
        return (
            isinstance(stated, list)
            and len(stated) == len(out)
            and all(agrees(one, other, store) for one, other in zip(stated, out, strict=True))
        )
    if isinstance(stated, float) and not isinstance(out, int):
        return bool(abs(stated - out) <= store.tolerance)
    return bool(stated == out)


def hashed(data: bytes) -> dict[str, Any]:
    """State long bytes by their hash."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "length": len(data)}


def load(path: Path) -> dict[str, Any]:
    """Read a file of vectors."""
    file: dict[str, Any] = json.loads(path.read_text())
    if file["format"] != FORMAT:
        raise ValueError(f"vectors have another format: {file['format']}")
    return file


def paths() -> list[Path]:
    return sorted(FOLDER.glob("*.json"))
