"""committees.json: the rule for each mode and size, lottery, beacon, groups (docs/protocol.md 5.12, 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.vectors.making.book import LOCAL, Book


def make(previous: Mapping[str, Any] | None) -> Book:
    """Collect the file."""
    book = Book("Committees, lottery and groups: docs/protocol.md 5.12 and 6.", previous)
    for mode, sizes in {"all": range(3, 65), "sampled": (64,), "helper": (3, 5, 7)}.items():
        for size in sizes:
            book.do("committee", f"{mode}, {size}", mode=mode, size=size)
    for mode, size in (
        ("all", 0), ("all", 2), ("all", 65), ("sampled", 63), ("sampled", 65), ("helper", 1), ("helper", 4),
        ("helper", 9), ("none", 3), ("", 3), ("ALL", 3),
    ):  # fmt: skip
        book.bad("committee", f"{mode or 'no mode'}, {size}", mode=mode, size=size)
    for population in (1, 255, 256, 257, 1000, 10**6, 2**64):
        book.do("lottery.bound", f"bound for {population}", population=population)
    book.bad("lottery.bound", "population not known", error=LOCAL, population=0)
    drawn = book.do("beacon", "beacon", base_digest="ab" * 32).hex()
    other = book.do("beacon", "beacon of another base", base_digest="cd" * 32).hex()
    for i in range(4):
        book.do("lottery.number", f"number of device-{i}", beacon=drawn, device=f"device-{i}")
    cohort = [f"device-{i:02}" for i in range(17)]
    book.do("groups", "17 devices in 5 groups", cohort=cohort, beacon=drawn, groups=5)
    book.do("groups", "another beacon", cohort=cohort, beacon=other, groups=5)
    book.do("groups", "7 groups", cohort=cohort, beacon=drawn, groups=7)
    return book
