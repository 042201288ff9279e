"""Two slots for the installed adapter, and a pointer to the one that serves.

A release is written to the spare slot and flushed; only then does the pointer move, by one rename. So at
every moment, also in the middle of a kill, there is a whole adapter to serve, or none if there never was one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mimo_fed.errors import InstallError, ReleaseError
from mimo_fed.release import ReleaseInfo
from mimo_fed_client.durable import remove_durably, write_durably

SPARE = {"a": "b", "b": "a"}


@dataclass(frozen=True)
class Installed:
    """A release in a slot, whole."""

    data: bytes
    info: ReleaseInfo


class Slots:
    """The adapter that serves, the spare slot, and the releases that failed here.

    Args:
        folder: its own; made at the first install.
        damaged: called with a sentence when a slot turns out not to be whole.
    """

    def __init__(self, folder: Path, damaged: Callable[[str], None] = lambda what: None) -> None:
        self._folder, self._damaged = folder, damaged

    def current(self) -> Installed | None:
        """Return what serves; if its slot is damaged, what the other slot holds; None if there is nothing."""
        name = self._pointer()
        if name is None:
            return None
        if (installed := self._read(name)) is not None:
            return installed
        other = self._other(name)
        what = f"release {other.info.number} of the other slot" if other else "nothing"
        self._damaged(f"slot {name} is damaged; {what} serves instead")
        return other

    def stage(self, data: bytes, info: ReleaseInfo) -> None:
        """Write a release to the spare slot; what serves is not touched.

        Raises:
            InstallError: the bytes are not the release's, or the disk is full or read-only.
        """
        if hashlib.sha256(data).hexdigest() != info.digest:
            raise InstallError(f"bytes are not those of release {info.number}: {info.digest}")
        self._repair()
        name = self._spare()
        write_durably(self._bytes(name), data)
        write_durably(self._info(name), info.to_json())

    def commit(self, number: int) -> None:
        """Let the spare slot serve from now on; this cannot be half done.

        Raises:
            InstallError: the spare slot does not hold that release, whole.
        """
        name = self._spare()
        staged = self._read(name)
        if staged is None or staged.info.number != number:
            raise InstallError(f"spare slot does not hold release {number}, whole")
        write_durably(self._folder / "serving", name.encode())

    def bad(self) -> dict[int, str]:
        """Return the releases that failed on this device, with the reasons."""
        try:
            raw = json.loads((self._folder / "bad.json").read_bytes())
            return {int(number): str(reason) for number, reason in raw.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError):
            self._damaged("list of bad releases is damaged; it starts anew")
            return {}

    def mark_bad(self, number: int, reason: str) -> None:
        """Never try this release again."""
        known = self.bad() | {number: reason}
        text = json.dumps({str(n): known[n] for n in sorted(known)})
        write_durably(self._folder / "bad.json", text.encode())

    def _pointer(self) -> str | None:
        try:
            name = (self._folder / "serving").read_text(errors="replace")
        except FileNotFoundError:
            return None
        if name not in SPARE:
            self._damaged("pointer to the serving slot is damaged; slot a is tried first")
            return "a"
        return name

    def _spare(self) -> str:
        """Name the slot to write to."""
        pointer = self._pointer()
        return SPARE[pointer] if pointer else "a"

    def _other(self, name: str) -> Installed | None:
        """Return what the other slot holds, if it may serve."""
        other = self._read(SPARE[name])
        return None if other is None or other.info.number in self.bad() else other

    def _repair(self) -> None:
        """Let the pointer say what really serves, so that nothing serves by being written."""
        name = self._pointer()
        if name is None or self._read(name) is not None:
            return
        if self._other(name) is not None:
            write_durably(self._folder / "serving", SPARE[name].encode())
        else:
            remove_durably(self._folder / "serving")

    def _read(self, name: str) -> Installed | None:
        try:
            info = ReleaseInfo.from_json(self._info(name).read_bytes())
            data = self._bytes(name).read_bytes()
        except (OSError, ReleaseError):
            return None
        return Installed(data, info) if hashlib.sha256(data).hexdigest() == info.digest else None

    def _bytes(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"

    def _info(self, name: str) -> Path:
        return self._folder / f"{name}.json"
