from __future__ import annotations

import time
from collections.abc import Callable

from mimo_fed.bench.clock import (
    Piece,
    Samples,
    Seconds,
    interleave,
    num_runs,
    process_seconds,
    single,
    thread_seconds,
)


class Journal:
    def __init__(self) -> None:
        self.ran: list[str] = []

    def piece(self, name: str, rounds: int = 0) -> Piece:
        return Piece(name=name, run=self._run(name), warm=self._run(f"warm {name}"), rounds=rounds)

    def _run(self, name: str) -> Callable[[], Seconds]:
        def run() -> Seconds:
            self.ran.append(name)
            return {"all": 1.0}

        return run


def test_pieces_warm_up_and_then_alternate_their_order() -> None:
    journal = Journal()
    interleave([journal.piece("a"), journal.piece("b")], 3, lambda name: None)
    assert journal.ran == ["warm a", "warm b", "a", "b", "b", "a", "a", "b"]


def test_warming_is_not_among_the_samples() -> None:
    seconds = iter([100.0, 1.0, 2.0, 3.0])
    piece = Piece(name="a", run=lambda: {"all": next(seconds)})
    assert interleave([piece], 3, lambda name: None)["a"].parts == {"all": [1.0, 2.0, 3.0]}


def test_a_slow_piece_is_repeated_no_more_often_than_it_allows() -> None:
    journal = Journal()
    pieces = [journal.piece("fast"), journal.piece("slow", rounds=1)]
    told: list[str] = []
    interleave(pieces, 3, told.append)
    assert journal.ran.count("slow") == 1
    assert journal.ran.count("fast") == 3
    assert len(told) == num_runs(pieces, 3)


def test_the_median_is_of_the_parts_asked_for_together() -> None:
    samples = Samples()
    for mask, quantize in ((1.0, 10.0), (5.0, 0.0), (3.0, 30.0)):
        samples.add({"mask": mask, "quantize": quantize})
    assert samples.median("mask") == 3.0
    assert samples.median() == 11.0
    assert samples.extremes() == (5.0, 33.0)
    assert samples.extremes("mask") == (1.0, 5.0)


def test_waiting_costs_no_processor_time() -> None:
    assert thread_seconds(lambda: time.sleep(0.05)) < 0.02
    assert process_seconds(lambda: time.sleep(0.05)) < 0.02


def test_work_costs_processor_time() -> None:
    spent = single(lambda: sum(range(2_000_000)), thread_seconds)()
    assert spent["all"] > 0.002
