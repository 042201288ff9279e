"""Collects one file of vectors: does each operation with the package and keeps what came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.vectors.replay import Package
from tests.vectors.store import FORMAT, LONG, Operation, Store, hashed

NOW_S = 1_800_000_000
DEADLINE_AT_S = NOW_S + 600
PEER, LOCAL, ABORTED = "protocol.peer", "protocol.local", "protocol.aborted"
Arguments = dict[str, Any]
"""fields of an operation"""
_GAP = 24
"""equal bytes between two edits that are not worth keeping them apart"""


def seeded(label: str, length: int) -> bytes:
    """Bytes that stand for random ones: the same in every run."""
    return hashlib.shake_256(f"mimo-fed vectors/{label}".encode()).digest(length)


class Book:
    """One file.

    Args:
        about: what is in it.
        previous: the file as it was; recorded bytes are taken from it.
    """

    def __init__(self, about: str, previous: Mapping[str, Any] | None = None) -> None:
        self.about = about
        self.anchors: dict[str, Any] = {}
        self.parties: dict[str, Any] = {}
        self.operations: list[Operation] = []
        self.package = Package(fresh=True)
        self.store = Store({"anchors": self.anchors, "parties": self.parties})
        self._bytes: dict[str, Any] = {}
        self._previous = Store(previous) if previous else Store({})

    def recorded(self, name: str) -> bytes:
        """Named bytes of the file as it was; nothing, if it had none."""
        return self._previous.find(name) or b""

    def put(self, name: str, data: bytes) -> str:
        """Name bytes."""
        if name in self._bytes:
            raise AssertionError(f"two have one name: {name}")
        self._bytes[name] = data.hex()
        self.store.put(name, data)
        return f"@{name}"

    def edited(self, name: str, of: str, data: bytes) -> str:
        """Name bytes that differ a little from others that have a name."""
        old, at, parts = self.store.get(of), 0, list[Any]()
        for start, size, put in edits(old, data):
            parts += [[of[1:], at, start]] * (start > at) + [put.hex()] * bool(put)
            at = start + size
        parts += [[of[1:], at, len(old)]] * (at < len(old))
        return self._join(name, parts, data)

    def composed(self, name: str, chunks: Sequence[bytes], sources: Sequence[str]) -> str:
        """Name bytes that are made of chunks, the longer of which stand in other named bytes."""
        parts = [self._chunk(chunk, sources) for chunk in chunks]
        return self._join(name, parts, b"".join(chunks))

    def _chunk(self, chunk: bytes, sources: Sequence[str]) -> Any:
        for source in sources if len(chunk) > _GAP else ():
            if (start := self.store.get(source).find(chunk)) >= 0:
                return [source[1:], start, start + len(chunk)]
        return chunk.hex()

    def _join(self, name: str, parts: list[Any], data: bytes) -> str:
        if name in self._bytes:
            raise AssertionError(f"two have one name: {name}")
        self._bytes[name] = parts
        self.store.put(name, data)
        return f"@{name}"

    def do(self, op: str, name: str, *, keep: str = "", **arguments: Any) -> Any:
        """An operation that succeeds; `keep` names its output, and what is returned then is that name."""
        operation: Operation = {"name": name, "op": op, "success": True, **arguments}
        if keep:
            operation["as"] = keep
        out = self.package.execute(operation, self.store)
        operation["out"] = operation.get("out", stated(out))
        self._add(operation)
        if not keep:
            return out
        self.store.put(keep, out)
        return f"@{keep}"

    def bad(self, op: str, name: str, *, error: str = PEER, **arguments: Any) -> None:
        """An operation that is refused."""
        operation: Operation = {
            "name": f"bad_{name}",
            "op": op,
            "success": False,
            "error": error,
            **arguments,
        }
        try:
            self.package.execute(operation, self.store)
        except Exception as failure:
            if getattr(failure, "code", None) != error:
                raise
        else:
            raise AssertionError(f"it is not refused: {name}")
        self._add(operation)

    def _add(self, operation: Operation) -> None:
        if any(known["name"] == operation["name"] for known in self.operations):
            raise AssertionError(f"two operations have one name: {operation['name']}")
        self.operations.append(operation)

    def text(self) -> str:
        """The file: one line for each name and operation."""
        parts = [f' "format": {json.dumps(FORMAT)}', f' "about": {json.dumps(self.about)}']
        fields = {"anchors": self.anchors, "parties": self.parties, "bytes": self._bytes}
        parts.extend(_lines(field, values) for field, values in fields.items() if values)
        rows = ",\n".join(f"  {json.dumps(operation)}" for operation in self.operations)
        parts.append(f' "operations": [\n{rows}\n ]')
        return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(field: str, values: Mapping[str, Any]) -> str:
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in values.items())
    return f' "{field}": {{\n{rows}\n }}'


def stated(out: Any) -> Any:
    """An output as JSON; long bytes by their hash."""
    if isinstance(out, bytes):
        return hashed(out) if len(out) > LONG else out.hex()
    if isinstance(out, Mapping):
        return {key: stated(value) for key, value in out.items()}
    if isinstance(out, list | tuple):
        return [stated(value) for value in out]
    return out


def edits(old: bytes, new: bytes) -> list[tuple[int, int, bytes]]:
    """How one becomes the other: (position, bytes to cut, bytes to put there)."""
    if len(old) != len(new):
        start = next(
            (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
        )
        end = 0
        while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
            end += 1
        return [(start, len(old) - start - end, new[start : len(new) - end])]
    runs: list[tuple[int, int]] = []
    for i in (i for i in range(len(old)) if old[i] != new[i]):
        start = runs.pop()[0] if runs and i - runs[-1][1] <= _GAP else i
        runs.append((start, i + 1))
    return [(start, end - start, new[start:end]) for start, end in runs]
