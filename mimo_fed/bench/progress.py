"""The bar that is drawn while the bench runs; it draws between pieces alone, never while one is timed."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Bar:
    """Counts the steps of a run.

    Args:
        console: where it is drawn; nothing is, unless that is a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("getting ready", total=None)
        self._begun = 0

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def expect(self, steps: int) -> None:
        """Say how many steps there will be."""
        self._progress.update(self._task, total=steps, refresh=True)

    def step(self, name: str) -> None:
        """Say that the next step begins; the one before it is done."""
        self._progress.update(self._task, completed=self._begun, description=name, refresh=True)
        self._begun += 1
