"""The random groups of a round with a robust mean (docs/protocol.md 5.12).

Each device is in one group; its updates go to that group's sums, and the coordinator sees one sum a group.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from mimo_fed.secagg.crypto import digest

MIN_GROUPS: Final = 5


def assign_groups(cohort: Collection[str], beacon: bytes, num_groups: int) -> dict[str, int]:
    """Put each device in a group by the rank of a hash: sizes differ by at most one; nobody chooses.

    Args:
        cohort: ids of all devices that may contribute.
        beacon: the round's.
        num_groups: g.

    Returns:
        Device id to its group, 1 to g.
    """
    ranked = sorted(cohort, key=lambda device_id: digest("group", beacon + device_id.encode()))
    return {device_id: 1 + rank % num_groups for rank, device_id in enumerate(ranked)}
