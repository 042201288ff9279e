"""How pieces of work are timed: in processor time, warmed up, interleaved, and the median taken.

Processor time leaves out what other processes take, but not what they do to caches and memory: two figures
are comparable only if they were taken in turn. So all pieces run once in each round, and every other round
runs them backwards.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Seconds = Mapping[str, float]
"""part of a piece to the seconds that it took"""
Clock = Callable[[Callable[[], object]], float]
"""does a piece of work and returns seconds"""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One thing to time.

    Attributes:
        name: how its figures are found again.
        run: does the work once and says how long each part of it took, seconds of processor time.
        warm: done once before anything is timed; `run` where nothing shorter will do.
        rounds: at most so many repetitions; 0 for as many as are asked for.
    """

    name: str
    run: Callable[[], Seconds]
    warm: Callable[[], object] | None = None
    rounds: int = 0


@dataclass(kw_only=True)
class Samples:
    """What the repetitions of one piece took: seconds of each part, in order."""

    parts: dict[str, list[float]] = field(default_factory=dict)

    def add(self, seconds: Seconds) -> None:
        """Keep one repetition."""
        for part, spent in seconds.items():
            self.parts.setdefault(part, []).append(spent)

    def median(self, *parts: str) -> float:
        """Return the median repetition of these parts together; of all of them if none is named."""
        return statistics.median(self._together(parts))

    def extremes(self, *parts: str) -> tuple[float, float]:
        """Return the shortest and the longest repetition of these parts together, or of all."""
        together = self._together(parts)
        return min(together), max(together)

    def _together(self, parts: tuple[str, ...]) -> list[float]:
        chosen = [self.parts[part] for part in parts or self.parts]
        return [sum(repetition) for repetition in zip(*chosen, strict=True)]


def thread_seconds(work: Callable[[], object]) -> float:
    """Do work that stays in this thread; return the seconds the processor gave to it."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def process_seconds(work: Callable[[], object]) -> float:
    """Do work that may start threads; return the seconds the processor gave to all of them."""
    start = time.process_time()
    work()
    return time.process_time() - start


def wall_seconds(work: Callable[[], object]) -> float:
    """Do work of several threads; return the seconds until it was done."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def single(work: Callable[[], object], clock: Clock) -> Callable[[], Seconds]:
    """Make a piece's `run` of work that has one part."""
    return lambda: {"all": clock(work)}


def num_runs(pieces: Iterable[Piece], repeat: int) -> int:
    """Count the steps of `interleave`: every warming and every repetition."""
    return sum(1 + _rounds(piece, repeat) for piece in pieces)


def interleave(pieces: Sequence[Piece], repeat: int, on_step: Callable[[str], object]) -> dict[str, Samples]:
    """Run all pieces in turn, `repeat` times, and every other time backwards.

    Args:
        pieces: with distinct names.
        repeat: at least 1.
        on_step: told the name of each piece before it runs, warming included.

    Returns:
        The samples of each piece, by its name.
    """
    samples = {piece.name: Samples() for piece in pieces}
    for piece in pieces:
        on_step(piece.name)
        (piece.warm or piece.run)()
    for number in range(repeat):
        for piece in pieces if number % 2 == 0 else pieces[::-1]:
            if number < _rounds(piece, repeat):
                on_step(piece.name)
                samples[piece.name].add(piece.run())
    return samples


def _rounds(piece: Piece, repeat: int) -> int:
    return min(repeat, piece.rounds) if piece.rounds else repeat
