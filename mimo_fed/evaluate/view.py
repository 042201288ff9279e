"""What is shown while an evaluation runs: a bar on a terminal, elsewhere a line for every job done."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class View:
    """Shows how far a run is; a `with` block.

    Args:
        console: where; a bar only if it is a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("loading the base", total=None, left="")
        self._total = self._done = 0.0
        self._jobs: dict[str, tuple[float, float]] = {}
        self._began = time.monotonic()

    def __enter__(self) -> View:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Show a line that stays."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def expect(self, seconds: float) -> None:
        """Say how many seconds of work there are in all, over all workers."""
        self._total, self._began = max(seconds, 1e-6), time.monotonic()
        self._progress.update(self._task, total=self._total, description="working")

    def begin(self, title: str, seconds: float) -> None:
        """Say that a job is on its way, and how long it should take."""
        self._jobs[title] = (seconds, 0.0)

    def hear(self, title: str, seconds: float) -> None:
        """Hear that so many seconds of a job's work are done; never more than it should take."""
        whole, done = self._jobs.get(title, (0.0, 0.0))
        step = min(seconds, whole - done)
        self._jobs[title] = (whole, done + step)
        self._move(title, step)

    def finish(self, title: str) -> None:
        """Say that a job is done."""
        whole, done = self._jobs.pop(title)
        self._move(title, whole - done)
        if not self._console.is_terminal:
            self.say(f"{time.monotonic() - self._began:7.0f} s  {title}; {self._left()}")

    def _move(self, title: str, seconds: float) -> None:
        self._done += seconds
        self._progress.update(self._task, completed=self._done, description=title, left=self._left())

    def _left(self) -> str:
        spent = time.monotonic() - self._began
        if self._done <= 0:
            return ""
        return f"{duration(spent * (self._total - self._done) / self._done)} left"


def duration(seconds: float) -> str:
    """Write seconds as people say them."""
    if seconds < 90:
        return f"about {max(seconds, 0):.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
