"""Who opens a round's sums, and how many of them must (docs/protocol.md 6).

all       every contributor is a member; 3 to 64
sampled   64 members, drawn by lottery from all enrolled devices
helper    3, 5 or 7 pinned organisations; contributors may all vanish

The rule is a function of mode and size alone, and both ends evaluate it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from mimo_fed.errors import LocalProtocolError, PeerProtocolError
from mimo_fed.secagg.crypto import digest

Mode = Literal["all", "sampled", "helper"]
MODES: Final = get_args(Mode)
MIN_MEMBERS: Final = 3
MAX_MEMBERS: Final = 64
LOTTERY_FACTOR: Final = 4
"""k: about k times as many devices are eligible as a sampled committee has members"""
LOTTERY_SPAN: Final = 1 << 64


@dataclass(frozen=True, kw_only=True)
class Committee:
    """How the keys of sums are shared.

    Attributes:
        size: C, members.
        quorum: Q, votes that make a certificate.
        threshold: r, members whose openings give a sum's key.
        corrupt: f, members that may side with the coordinator.
        packing: l, values in one share polynomial; f = r - l shares tell nothing.
    """

    size: int
    quorum: int
    threshold: int
    corrupt: int
    packing: int

    @property
    def losses(self) -> int:
        """How many members may be lost after all have taken their shares."""
        return self.size - max(self.quorum, self.threshold)


_SAMPLED: Final = Committee(size=64, quorum=48, threshold=48, corrupt=31, packing=17)
_HELPER: Final = {
    3: Committee(size=3, quorum=3, threshold=2, corrupt=1, packing=1),
    5: Committee(size=5, quorum=4, threshold=3, corrupt=2, packing=1),
    7: Committee(size=7, quorum=6, threshold=4, corrupt=3, packing=1),
}
SAMPLED_SIZE: Final = _SAMPLED.size
HELPER_SIZES: Final = tuple(_HELPER)


def committee_rule(mode: str, size: int) -> Committee:
    """Fix the committee from its mode and size (docs/protocol.md 6.1).

    Raises:
        PeerProtocolError: unknown mode, or a size it does not allow.
    """
    if mode == "all" and MIN_MEMBERS <= size <= MAX_MEMBERS:
        threshold = (7 * size + 9) // 10
        corrupt = 2 * threshold - size - 1
        return Committee(
            size=size, quorum=threshold, threshold=threshold, corrupt=corrupt, packing=threshold - corrupt
        )
    if mode == "sampled" and size == _SAMPLED.size:
        return _SAMPLED
    if mode == "helper" and size in _HELPER:
        return _HELPER[size]
    if mode in MODES:
        raise PeerProtocolError(f"committee of mode {mode} cannot have this many members: {size}")
    raise PeerProtocolError(f"committee mode is not known: {mode[:40]!r}")


def as_mode(value: str) -> Mode:
    """Return a mode that `committee_rule` has accepted."""
    return cast("Mode", value)


def beacon(base_digest: str) -> bytes:
    """Name the draws of a round: from what the registry has signed, not from the manifest (6.5)."""
    return digest("beacon", base_digest.encode())


def lottery_bound(population: int) -> int:
    """Return the largest threshold a manifest may set: about 4 x 64 of `population` devices are eligible.

    Raises:
        LocalProtocolError: the population is not known, so there is no lottery.
    """
    if population < 1:
        raise LocalProtocolError(f"trust anchors do not say how many devices are enrolled: {population}")
    return min(LOTTERY_SPAN - 1, LOTTERY_SPAN * LOTTERY_FACTOR * SAMPLED_SIZE // population)


def lottery_number(draw: bytes, device_id: str) -> int:
    """Return a device's number in the draw; it is eligible below the manifest's threshold."""
    return int.from_bytes(digest("lottery", draw + device_id.encode())[:8], "big")
