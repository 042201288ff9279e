"""What a helper took part in, for its auditors: one JSON object a line, kept for good.

    joined   it took a place: round, kind, sequence, manifest's hash, n_min of each sum
    voted    the one vote: how many devices are in each opened sum
    opened   it gave its sums of shares, against a quorum's votes

A line is on the disk before the answer it tells of leaves, and stands once however often a coordinator asks.
It names no device.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from mimo_fed.errors import ConfigError, InstallError

Line = dict[str, Any]


class RoundLog:
    """The log of one helper's process.

    Args:
        path: the file; a last line that a kill tore is cut off.

    Raises:
        ConfigError: another line cannot be read: an audit log is not repaired by its owner's program.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        lines = read_log(path)
        self._known = {(line["kind"], line["mh"]) for line in lines}
        self._voted = [
            (line["round_kind"], line["mh"], line["at"]) for line in lines if line["kind"] == "voted"
        ]
        if path.exists():
            with path.open("r+b") as file:
                file.truncate(file.read().rfind(b"\n") + 1)

    def has(self, kind: str, mh: str) -> bool:
        """Whether this was written already."""
        return (kind, mh) in self._known

    def last_vote_at_s(self, round_kind: str, *, but: str) -> float | None:
        """Return when the last vote in a round of a kind was, one round left out; None: there was none."""
        return max((at for kind, mh, at in self._voted if kind == round_kind and mh != but), default=None)

    def add(self, kind: str, mh: str, *, at_s: float, **fields: Any) -> None:
        """Write a line, unless it stands there; it is durable when this returns.

        Raises:
            InstallError: the disk is full or read-only; the answer must not leave then.
        """
        with self._lock:
            if self.has(kind, mh):
                return
            line = {"at": round(at_s, 3), "kind": kind, "mh": mh, **fields}
            self._append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            self._known.add((kind, mh))
            if kind == "voted":
                self._voted.append((fields["round_kind"], mh, at_s))

    def _append(self, line: bytes) -> None:
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                whole = os.fstat(descriptor).st_size
                if os.write(descriptor, line) != len(line):
                    os.ftruncate(descriptor, whole)
                    raise InstallError(f"round log cannot be written (disk is full): {self._path}")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise InstallError(f"round log cannot be written ({error.strerror}): {self._path}") from error


def read_log(path: Path) -> list[Line]:
    """Read every whole line; the process that writes it may run.

    Raises:
        ConfigError: a line is damaged; names its number.
    """
    if not path.exists():
        return []
    lines: list[Line] = []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    for number, text in enumerate(whole.splitlines(), start=1):
        try:
            line = json.loads(text)
            lines.append({**line, "at": float(line["at"]), "kind": str(line["kind"]), "mh": str(line["mh"])})
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"round log is damaged at line {number}: {path}",
                hint="keep the file, and find out who changed it",
            ) from None
    return lines


def rounds_of(lines: list[Line]) -> list[Line]:
    """Put what is logged of each round together, in the order in which they were joined."""
    rounds: dict[str, Line] = {}
    for line in lines:
        found = rounds.setdefault(
            line["mh"], {"mh": line["mh"], "voted_at": None, "opened_at": None, "sums": {}}
        )
        facts = {k: v for k, v in line.items() if k not in ("at", "kind", "mh")}
        found.update({f"{line['kind']}_at": line["at"], **facts})
    return list(rounds.values())
