"""The agent's way to releases and keys: one updater for all threads, patient with a registry that is away.

Keys that were verified before go on being trusted for a while when the registry cannot be reached: a round
must not die of a registry that restarts. Forged or rolled back metadata is never answered from memory.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from mimo_fed.errors import SpecMismatch, TransportError
from mimo_fed.release import ReleaseInfo
from mimo_fed.round.device import Journal
from mimo_fed.secagg import Anchors
from mimo_fed_client.updater import Updater
from mimo_fed_client.usage import Usage

T = TypeVar("T")
Progress = Callable[[int, int], None]

ANCHORS_MAX_AGE_S = 24 * 3600.0
"""how long verified keys are trusted without a word from the registry"""

LOOKS, LOOK_PAUSE_S = 5, 0.5
"""a release that was just signed may be a moment away"""

BEHIND = 8
"""releases before the newest that a round may still train from"""

_KEY = "anchors"


class Releases:
    """Releases and keys, verified.

    Args:
        updater: follows the registry.
        journal: keeps the last verified keys.
        patience_s: how long a round waits for a registry that cannot be reached.
        usage: counts the seconds.
        now_s: seconds since the epoch.
        stop: polled while waiting.
    """

    def __init__(
        self,
        updater: Updater,
        journal: Journal,
        *,
        patience_s: float,
        usage: Usage,
        now_s: Callable[[], float] = time.time,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._updater, self._journal, self._usage = updater, journal, usage
        self._patience_s, self._now_s, self._stop = patience_s, now_s, stop
        self._lock = threading.RLock()

    @property
    def bytes_down(self) -> int:
        """Bytes that came from the registry in this process's life."""
        return self._updater.bytes_down

    def anchors(self) -> Anchors:
        """Return the keys to trust; the last verified ones while the registry cannot be reached.

        Raises:
            TransportError: it cannot be reached, and the last word is too old or there is none.
            VerificationError: what it says is forged, expired or older than what was seen.
        """
        with self._lock:
            try:
                anchors = self._updater.anchors()
            except TransportError:
                return self._remembered()
            self._remember(anchors)
            return anchors

    def _remember(self, anchors: Anchors) -> None:
        record = {"at_s": int(self._now_s()), "anchors": anchors.to_json().decode()}
        kept = self._journal.get(_KEY)
        if kept is not None:
            old = json.loads(kept)
            if old["anchors"] == record["anchors"] and 0 <= record["at_s"] - old["at_s"] < 600:
                return
        self._journal.put(_KEY, json.dumps(record).encode())

    def _remembered(self) -> Anchors:
        kept = self._journal.get(_KEY)
        if kept is None:
            raise TransportError("registry cannot be reached, and its keys were never seen")
        record = json.loads(kept)
        age_s = self._now_s() - record["at_s"]
        if not -ANCHORS_MAX_AGE_S <= age_s <= ANCHORS_MAX_AGE_S:
            raise TransportError(f"registry cannot be reached, and its keys were last seen {age_s:.0f} s ago")
        return Anchors.from_json(record["anchors"].encode())

    def latest(self, channel: str) -> ReleaseInfo | None:
        """Look now; return the release that a channel points to.

        Raises:
            TransportError: the registry cannot be reached.
            VerificationError: what it says is forged, expired or goes back.
        """
        with self._lock, self._usage.timed("network"):
            self._updater.refresh()
            return self._updater.latest(channel)

    def fetch(self, info: ReleaseInfo, progress: Progress | None = None) -> bytes:
        """Return a release's adapter; a broken download goes on at the next call.

        Raises:
            TransportError: the connection broke.
            VerificationError: the bytes are not those that were signed.
            InstallError: there is no room on the disk.
        """
        with self._lock, self._usage.timed("network"):
            return self._updater.fetch(info, progress)

    def base(self, digest: str) -> bytes:
        """Return the adapter that a round names, if it is among the newest on channel dev.

        An asynchronous round is open for hours, and its adapter need not be the newest any more.

        Raises:
            SpecMismatch: channel dev is on another release, and the round's is not shortly before it.
            TransportError: the registry stayed away for longer than our patience.
            VerificationError: what it says is forged.
        """
        seen = "no release"
        for look in range(LOOKS):
            if look:
                time.sleep(LOOK_PAUSE_S)
            newest = self._patiently(partial(self.latest, "dev"))
            if newest is None:
                continue
            if (info := self._recent(newest, digest)) is not None:
                return self._patiently(partial(self.fetch, info))
            seen = newest.digest
        raise SpecMismatch(f"round's adapter is not among the newest of channel dev, {seen}: {digest}")

    def _recent(self, newest: ReleaseInfo, digest: str) -> ReleaseInfo | None:
        """Find the release with a digest among the newest of its channel."""
        if newest.digest == digest:
            return newest
        with self._lock:
            for number in range(newest.number - 1, newest.number - 1 - BEHIND, -1):
                info = self._updater.find(newest, number) if number >= 0 else None
                if info is not None and info.digest == digest:
                    return info
        return None

    def _patiently(self, act: Callable[[], T]) -> T:
        """Try again while the registry cannot be reached."""
        end_s, pause_s = time.monotonic() + self._patience_s, 0.2
        while True:
            try:
                return act()
            except TransportError:
                if self._stop() or time.monotonic() + pause_s > end_s:
                    raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 2.0)
