"""How a simulation is watched: a bar on a terminal, a line a round elsewhere, and two tables at the end."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mimo_fed.simulate.state import Entry

NAMES = {"base": "base", "global": "global", "cohort": "+ cohort", "personal": "+ personal"}


class Watcher:
    """Tells how far a simulation is; see `mimo_fed.simulate.simulation.Progress`.

    Args:
        console: where to.
        rounds: how many there are.
        quiet: say nothing.
    """

    def __init__(self, console: Console, rounds: int, *, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("getting ready", total=rounds)

    def __enter__(self) -> Watcher:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def began(self, cohort: str, index: int, rounds: int, devices: int) -> None:
        """Say which round has begun, and among how many devices."""
        whose = f", cohort {cohort}" if cohort else ""
        self._bar.update(
            self._task, completed=index, description=f"round {index + 1}{whose}, {devices} devices there"
        )

    def ended(self, entry: Entry, rounds: int) -> None:
        """Say what the round gave."""
        if not self._quiet:
            self._console.print(line_of(entry, rounds), highlight=False, soft_wrap=True)


def line_of(entry: Entry, rounds: int) -> str:
    """Say in one line what a round gave."""
    whose = f" {entry['cohort']}" if entry["cohort"] else ""
    head = f"round {entry['round']}/{rounds}{whose}, phase {entry['phase']}: "
    if "aborted" in entry:
        return f"{head}{entry['aborted']}"
    return (
        f"{head}{entry['survivors']} of {entry['asked']} devices, "
        f"loss {entry['loss_before']:.3f} -> {entry['loss_after']:.3f}, "
        f"{entry['clipped']:.0%} clipped, {entry['bytes_up'] / 1000:.0f} kB up, {entry['seconds']:.1f} s"
    )


def show(report: dict[str, Any], console: Console) -> None:
    """Print the tables of a report: bits per byte by arm, and the loss of every round."""
    table = Table(title="bits per byte on test text", title_justify="left", **_STYLE)
    for heading in ("arm", "mean", "worst tenth", "better than base"):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    users = report["users"].values()
    for arm, values in report["bits_per_byte"].items():
        better = sum(user[arm] < user["base"] for user in users)
        table.add_row(
            NAMES[arm],
            f"{values['mean']:.4f}",
            f"{values['worst_decile']:.4f}",
            "" if arm == "base" else f"{better} of {len(users)}",
        )
    rounds = Table(title="loss by round, nats per token", title_justify="left", **_STYLE)
    for heading in ("round", "cohort", "phase", "devices", "before", "after", "kB up"):
        rounds.add_column(heading, justify="left" if heading == "cohort" else "right")
    for entry in report["history"]:
        lost = "aborted" in entry
        rounds.add_row(
            str(entry["round"]),
            entry["cohort"],
            entry["phase"],
            str(entry["survivors"]),
            *(
                ("", "", "")
                if lost
                else (
                    f"{entry['loss_before']:.4f}",
                    f"{entry['loss_after']:.4f}",
                    f"{entry['bytes_up'] / 1000:.0f}",
                )
            ),
        )
    console.print(rounds)
    console.print(table)


_STYLE: dict[str, Any] = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False}
