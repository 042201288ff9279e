"""What a round keeps: its plan, and every accepted input in order (docs/adr/0016)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mimo_fed.config import RoundConfig
from mimo_fed.round.cohort import Candidate
from mimo_fed.secagg import Spool


@dataclass(frozen=True)
class Record:
    """One stored input of a round: its stage, whose it is ('' for the coordinator's own), and its bytes."""

    stage: str
    device_id: str
    data: bytes


class RoundStore(Protocol):
    """Where one round is kept; whatever was appended is there after a kill."""

    @property
    def spool(self) -> Spool:
        """Where contributions are kept."""
        ...

    def append(self, record: Record) -> None:
        """Store an input; durable when it returns."""
        ...

    def records(self) -> tuple[Record, ...]:
        """Return what was appended, in order."""
        ...

    def contributions(self) -> Iterator[bytes]:
        """Yield the contributions in the spool, one at a time."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a round is about.

    Attributes:
        round_id: unique, letters, digits and hyphens.
        sequence: greater than that of every earlier round.
        config: what it fixes.
        base_digest: SHA-256 of the adapter to train from, or to judge.
        min_devices: fewest devices that must be there to begin.
        patience_s: how long the last answers of a short stage are waited for once there are enough.
        known: what earlier rounds say of devices, for a fair draw of the cohort.
    """

    round_id: str
    sequence: int
    config: RoundConfig
    base_digest: str
    min_devices: int
    patience_s: float = 3.0
    known: Mapping[str, Candidate] = field(default_factory=dict)
