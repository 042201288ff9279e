"""What the coordinator saw of one device: the bytes it holds, and how little they say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimo_fed.errors import DataError

SHOWN_BYTES = 64
SHOWN_FROM = 4096
"""past the header, the certificate and the sealed shares' lengths: inside the masked words"""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One contribution as the coordinator stored it.

    Attributes:
        shown: bytes from `shown_from` on.
        entropy_bits: Shannon estimate per byte over the whole contribution; 8 is the most there can be.
        quorum_digest: SHA-256 of the quorum certificate under which the sum was opened, once.
    """

    device: str
    round_id: str
    num_bytes: int
    shown_from: int
    shown: bytes
    entropy_bits: float
    num_survivors: int
    quorum_digest: str
    votes: int

    def lines(self) -> tuple[str, ...]:
        """Say it in plain lines."""
        rows = [self.shown[i : i + 32].hex(" ", 4) for i in range(0, len(self.shown), 32)]
        return (
            f"What the coordinator saw of {self.device} in round {self.round_id}:",
            f"  {self.num_bytes:,} bytes, {self.entropy_bits:.4f} of 8 bits of entropy per byte; "
            f"from byte {self.shown_from:,}:",
            *(f"    {row}" for row in rows),
            f"  and the sum of {self.num_survivors} such devices, opened once: "
            f"{self.votes} votes, quorum certificate {self.quorum_digest}",
        )


def look(home: Path, record: Mapping[str, Any], device: str) -> Sight:
    """Read one device's contribution from the coordinator's spool.

    Args:
        home: the coordinator's folder.
        record: the round's public record.
        device: the device's id.

    Raises:
        DataError: the spool holds no contribution of that device.
    """
    path = home / "spool" / str(record["round_id"]) / f"{device}.m2"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"the coordinator holds no contribution: {path} ({error.strerror})") from None
    start = min(SHOWN_FROM, len(data) // 2)
    return Sight(
        device=device,
        round_id=str(record["round_id"]),
        num_bytes=len(data),
        shown_from=start,
        shown=data[start : start + SHOWN_BYTES],
        entropy_bits=entropy_bits(data),
        num_survivors=len(record["survivors"]),
        quorum_digest=str(record["quorum_digest"]),
        votes=int(record["votes"]),
    )


def entropy_bits(data: bytes) -> float:
    """Estimate Shannon entropy per byte from byte frequencies; 0 for nothing."""
    counts = [data.count(bytes((value,))) for value in range(256)]
    return -math.fsum(c / len(data) * math.log2(c / len(data)) for c in counts if c) + 0.0
