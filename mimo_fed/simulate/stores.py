"""What a simulated round keeps, in memory: journals, the coordinator's records, and entropy by seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from mimo_fed.round.records import Record
from mimo_fed.secagg import MemorySpool


class Stream:
    """Reproducible entropy: SHAKE-256 of a seed and of the number of the draw. For simulations alone.

    Args:
        seed: two streams of one seed give the same bytes.
    """

    def __init__(self, seed: str) -> None:
        self._seed, self._count = seed, 0

    def __call__(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        self._count += 1
        return hashlib.shake_256(f"{self._seed}/{self._count}".encode()).digest(size)

    def restart(self, seed: str) -> None:
        """Begin anew from another seed."""
        self._seed, self._count = seed, 0


class MemoryJournal:
    """A journal that ends with its process; see `mimo_fed.round.device.Journal`."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        """Return the value, or None."""
        return self.values.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Keep the value."""
        self.values[key] = value

    def erase(self, key: str) -> None:
        """Forget the value."""
        self.values.pop(key, None)

    def keys(self, prefix: str) -> tuple[str, ...]:
        """Return the keys that begin with the prefix, sorted."""
        return tuple(sorted(key for key in self.values if key.startswith(prefix)))

    def forget_rounds(self) -> None:
        """Forget contributions, members and prekeys; which manifest was agreed to last stays known."""
        for key in (*self.keys("round/"), *self.keys("prekey/")):
            self.erase(key)


@dataclass
class MemoryStore:
    """One round's records, dropped after the round; see `mimo_fed.round.records.RoundStore`."""

    kept: list[Record] = field(default_factory=list)
    spool: MemorySpool = field(default_factory=MemorySpool)

    def append(self, record: Record) -> None:
        """Keep an input."""
        self.kept.append(record)

    def records(self) -> tuple[Record, ...]:
        """Return what was appended, in order."""
        return tuple(self.kept)

    def contributions(self) -> Iterator[bytes]:
        """Yield the contributions in the spool."""
        yield from (self.spool.files[name] for name in sorted(self.spool.files))
