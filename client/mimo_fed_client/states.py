"""The agent's states: two tables, and a machine that refuses whatever is not a row.

Installing a release and taking part in a round are two machines; the agent runs one of them at a time. The
new state is stored before the act that it names, so that after a kill the agent knows what it was about to
do. `docs/states.md` is generated from these tables: `python -m mimo_fed_client.states > docs/states.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mimo_fed.errors import LocalProtocolError


class Row(NamedTuple):
    """In `state`, on `event`, go to `then`."""

    state: str
    event: str
    then: str
    meaning: str


INSTALL: tuple[Row, ...] = (
    Row("IDLE", "look", "CHECK", "the time has come, or the coordinator says that a channel moved"),
    Row("CHECK", "nothing", "IDLE", "no newer release, one marked bad, or no answer"),
    Row("CHECK", "found", "DOWNLOAD", "the signed pointer names a newer release"),
    Row("DOWNLOAD", "failed", "IDLE", "the connection broke; the part is kept and the next download goes on"),
    Row("DOWNLOAD", "downloaded", "VERIFY", "length and hash are those of the signed metadata"),
    Row("VERIFY", "failed", "ROLLBACK", "made for another base, basis or shape"),
    Row("VERIFY", "verified", "STAGE", "it fits this device"),
    Row("STAGE", "failed", "IDLE", "no room on the disk; the current slot was not touched"),
    Row("STAGE", "staged", "TRIAL", "the spare slot holds it, flushed to disk"),
    Row("TRIAL", "failed", "ROLLBACK", "a value is not finite, or the loss on held-out text is too high"),
    Row("TRIAL", "passed", "COMMIT", "the pointer moves to the slot, and the model takes it over"),
    Row("COMMIT", "done", "IDLE", "it serves"),
    Row("ROLLBACK", "done", "IDLE", "it is marked bad and never tried again; the one before it serves on"),
)
"""installing a release"""

TRAINING: tuple[Row, ...] = (
    Row("ELIGIBLE", "train", "TRAIN", "a manifest was accepted; training waits for a compute slot first"),
    Row("ELIGIBLE", "judge", "TRAIN", "the same for a round that judges a release"),
    Row("ELIGIBLE", "again", "UPLOAD", "asked once more for what is already sealed"),
    Row("TRAIN", "trained", "SEAL", "clip, encode, encrypt"),
    Row("TRAIN", "failed", "ELIGIBLE", "stopped, or training gave no usable number; nothing was sealed"),
    Row("SEAL", "sealed", "UPLOAD", "the sealed update is stored, and leaves with the answer"),
    Row("SEAL", "failed", "ELIGIBLE", "nothing left this device"),
    Row("UPLOAD", "answered", "ELIGIBLE", "the answer was handed to the transport"),
)
"""taking part in a round"""

TABLES = {"Installing a release": INSTALL, "Taking part in a round": TRAINING}


class Machine:
    """Follows one table.

    Args:
        rows: the table; its first state is where the machine starts.
        moved: called with the new state before anything is done in it; if it raises, nothing has changed.
    """

    def __init__(self, rows: tuple[Row, ...], moved: Callable[[str], None] = lambda state: None) -> None:
        self._next = {(row.state, row.event): row.then for row in rows}
        self._moved = moved
        self._state = rows[0].state

    @property
    def state(self) -> str:
        """Where it is."""
        return self._state

    def move(self, event: str) -> str:
        """Take a step and return the new state.

        Raises:
            LocalProtocolError: the table has no such row; the state is as it was.
        """
        then = self._next.get((self._state, event))
        if then is None:
            raise LocalProtocolError(f"no step {event!r} from state {self._state}")
        self._moved(then)
        self._state = then
        return then


def page() -> str:
    """Write both tables as diagrams and lists, in Markdown."""
    parts = [
        "# States of the agent",
        "Generated from `client/mimo_fed_client/states.py` by `python -m mimo_fed_client.states`.",
        "The new state is stored before the act that it names. A kill in any install state leaves the release"
        " that served before serving on, with one exception: a COMMIT that was begun is finished at the next"
        " start. A trial that ends with the process is repeated; after two such ends the release is bad.",
    ]
    for title, rows in TABLES.items():
        parts += [f"## {title}", _diagram(rows), _list(rows)]
    return "\n\n".join(parts) + "\n"


def _diagram(rows: tuple[Row, ...]) -> str:
    lines = [f"    {row.state} --> {row.then}: {row.event}" for row in rows]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {rows[0].state}", *lines, "```"])


def _list(rows: tuple[Row, ...]) -> str:
    lines = [f"| {row.state} | {row.event} | {row.then} | {row.meaning} |" for row in rows]
    return "\n".join(["| state | event | then | meaning |", "|---|---|---|---|", *lines])


if __name__ == "__main__":
    print(page(), end="")
