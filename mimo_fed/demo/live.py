"""The view of a run: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mimo_fed.demo.board import Board, megabytes
from mimo_fed.events import read_events

REFRESH_S = 0.25
LAST_LINES = 8


class View:
    """Shows a board, and lines as they come; a `with` block.

    Args:
        console: where to; a live table if it is a terminal.
        board: what to show.
    """

    def __init__(self, console: Console, board: Board) -> None:
        self.board = board
        self._console = console
        self._began = time.monotonic()
        self._lines: list[str] = []
        self._live: Live | None = None

    def __enter__(self) -> View:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        """Show one line, with the seconds since the start."""
        stamped = f"{time.monotonic() - self._began:7.1f} s  {line}"
        self._lines.append(stamped)
        if self._live is None:
            self._console.print(stamped, highlight=False, markup=False, soft_wrap=True)
        else:
            self.refresh()

    def refresh(self) -> None:
        """Draw the table again, if there is one."""
        if self._live is not None:
            lines = Text("\n".join(self._lines[-LAST_LINES:]), style="dim", no_wrap=True, overflow="ellipsis")
            self._live.update(Group(render(self.board), lines), refresh=True)


class Tail:
    """Reads what is new in the event files and feeds it to a board.

    Args:
        coordinator: the coordinator's event file.
        devices: each device's, by name.
    """

    def __init__(self, coordinator: Path, devices: Mapping[str, Path]) -> None:
        self._sources: list[tuple[str | None, Path]] = [(None, coordinator), *devices.items()]
        self._offsets = dict.fromkeys((path for _, path in self._sources), 0)

    def read(self, board: Board) -> list[str]:
        """Take in all whole lines that are new; return what people should read, oldest first."""
        lines: list[tuple[float, str]] = []
        for name, path in self._sources:
            for offset, event in read_events(path, self._offsets[path]):
                self._offsets[path] = offset
                line = board.coordinator(event) if name is None else board.device(name, event)
                if line is not None:
                    lines.append((float(event.get("at", 0.0)), line))
        return [line for _, line in sorted(lines, key=lambda pair: pair[0])]


def follow(view: View, tail: Tail, *, ended: Callable[[], bool]) -> None:
    """Show events until the board is done and `ended` says so; `ended` may raise to stop it."""
    while True:
        over = ended()
        for line in tail.read(view.board):
            view.say(line)
        view.refresh()
        if over:
            return
        time.sleep(REFRESH_S)


def render(board: Board) -> Group:
    """Draw the board."""
    head = Text.assemble(
        ("training rounds ", "dim"),
        f"{board.trained}/{board.rounds}   ",
        ("now ", "dim"),
        f"{board.round_id or '-'}   ",
        ("stage ", "dim"),
        f"{board.stage}   ",
        ("contributions ", "dim"),
        f"{board.contributions}/{board.cohort}   ",
        ("serving release ", "dim"),
        str(board.stable),
    )
    devices = Table(box=None, pad_edge=False)
    for title in ("device", "state", "progress", "loss", "sent", "received", "release"):
        devices.add_column(title, header_style="dim")
    for name, device in board.devices.items():
        bar = ProgressBar(total=max(1, device.num_steps), completed=device.step, width=16)
        devices.add_row(
            name,
            device.state,
            bar,
            "" if device.loss is None else f"{device.loss:.4f}",
            megabytes(device.bytes_up),
            megabytes(device.bytes_down),
            "" if device.release is None else str(device.release),
        )
    losses = Text(style="cyan")
    for past in board.past:
        losses.append(f"{past.round_id}  loss {past.loss_before:.4f} -> {past.loss_after:.4f}\n")
    return Group(head, Text(), devices, Text(), losses)
