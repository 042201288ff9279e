"""The devices as the coordinator's driver sees them: ask, and answers arrive.

A device is named by its certificate's id, never by a transport's node id: a device that went away and came
back under another node is the same device, and is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from mimo_fed.secagg import Certificate


@dataclass(frozen=True)
class Answer:
    """What one device answered.

    Attributes:
        device_id: whose answer, as proven by its hello.
        payload: the enveloped bytes; open with `envelope.unwrap`.
    """

    device_id: str
    payload: bytes


class Fleet(Protocol):
    """The devices that can be reached. Two implementations: Flower, and the one the tests run in memory."""

    def discover(self, *, deadline_at_s: float) -> tuple[Certificate, ...]:
        """Return the certificates of the devices that are there now, by id; each has proven it is its own."""
        ...

    def ask(
        self, stage: str, requests: Mapping[str, bytes], *, deadline_at_s: float, stop: Callable[[], bool]
    ) -> Iterator[Answer]:
        """Send each device its request and yield answers as they arrive.

        Ends when all have answered, at the deadline (seconds since the epoch), or when `stop` says so; it is
        asked at every poll, several times a second. A device may be asked the same thing twice; it answers
        with the same bytes.
        """
        ...
