"""round_reference.json: exact totals, and a member that is lost (docs/protocol.md 2.2, 6.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mimo_fed.secagg import REFERENCE, SumSpec
from tests.vectors.making.book import Book
from tests.vectors.making.stage import Cast, Stage

IDS = [f"device-{i}" for i in range(4)]
Q = 2147352577


def make(previous: Mapping[str, Any] | None) -> Book:
    """Collect the file."""
    book = Book(
        "A round of the reference suite, whose totals are exact: docs/protocol.md 2.2, 3.5.", previous
    )
    cast = Cast(book, "reference", REFERENCE)
    cast.enter(IDS)
    sums = [SumSpec(name="exact", dim=30, n_min=3)]
    stage = Stage(cast, cast.manifest(IDS, sums, "all", n_max=4, word_bits=32))
    stage.add(*(stage.contribute(d, ["exact"]) for d in IDS[:3]))
    stage.close()
    stage.check(IDS)
    ballot = stage.ballot()
    stage.vote(IDS[1:], ballot)
    quorum = stage.quorum()
    for device_id in IDS[1:]:
        stage.take(stage.open(device_id, quorum))
    stage.result()
    _check_total(stage)
    return book


def _check_total(stage: Stage) -> None:
    """What is written down is the sum of the inputs."""
    inputs = [stage.inputs(d, ["exact"])["exact"] for d in IDS[:3]]
    expected = [sum(column) % Q for column in zip(*inputs, strict=True)]
    result = next(op for op in stage.book.operations if op["op"] == "coordinator.result")
    if [v % Q for v in result["out"]["totals"]["exact"]] != expected:
        raise AssertionError("a total is not the sum of its inputs")
