"""Asking devices one question, and when to stop waiting for answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from mimo_fed.errors import MimoFedError
from mimo_fed.events import EventLog
from mimo_fed.round import envelope
from mimo_fed.round.fleet import Answer, Fleet

MIN_PATIENCE_S: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Patience:
    """When enough devices have answered, and how long the rest is waited for then.

    Attributes:
        enough: says so.
        after_s: seconds after that; None: as long as it took until then, from `since_s`.
        since_s: when the question was first asked.
    """

    enough: Callable[[], bool]
    after_s: float | None = None
    since_s: float = 0.0

    def wait_s(self, enough_at_s: float) -> float:
        """Return how long to wait, given when there were enough."""
        return enough_at_s - self.since_s if self.after_s is None else self.after_s


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Asks, and hands each good answer on; a bad one is an event, and costs the others nothing.

    Attributes:
        fleet: the devices.
        now_s: seconds since the epoch.
        events: for the people watching.
    """

    fleet: Fleet
    now_s: Callable[[], float]
    events: EventLog

    def ask(
        self,
        stage: str,
        requests: Mapping[str, bytes],
        take: Callable[[Answer, bytes], None],
        *,
        end_at_s: float,
        patience: Patience | None = None,
    ) -> None:
        """Ask each device its request until all have answered, patience ends or time is up."""
        if not requests:
            return
        stop = self._stop(patience) if patience else _never
        for answer in self.fleet.ask(stage, requests, deadline_at_s=end_at_s, stop=stop):
            try:
                take(answer, envelope.unwrap(answer.payload))
            except MimoFedError as error:
                self.events.emit(
                    "refusal", stage=stage, device=answer.device_id, code=error.code, message=error.message
                )

    def _stop(self, patience: Patience) -> Callable[[], bool]:
        enough_at_s: list[float] = []

        def stop() -> bool:
            now_s = self.now_s()
            if not enough_at_s and patience.enough():
                enough_at_s.append(now_s)
            if not enough_at_s:
                return False
            return now_s > enough_at_s[0] + max(MIN_PATIENCE_S, patience.wait_s(enough_at_s[0]))

        return stop


def _never() -> bool:
    return False
