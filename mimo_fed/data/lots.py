"""What is decided by lot: a hash of a name and a seed, so that nobody chooses and everybody can repeat it."""

from __future__ import annotations

import hashlib
from typing import Literal

Role = Literal["federated", "tuning", "cold"]

_ROLES: tuple[tuple[Role, float], ...] = (("federated", 0.70), ("tuning", 0.10), ("cold", 0.20))

RANKS = {"watch": 4, "fridge": 4, "phone": 8, "tablet": 16, "car": 16}
"""rank that a device of each class trains: about what its memory allows"""


def position(name: str, seed: str) -> float:
    """Return where a name lies, from 0 to below 1."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{name}".encode()).digest()[:8]) / 2**64


def role_of(author: str, seed: str) -> Role:
    """Say what part a user has in an evaluation.

    Of many users 70 in a hundred are federated: they take part in rounds. 10 are for tuning: learning rates
    and other settings are chosen on them alone. 20 are cold starts: they never take part, and are given
    the result.

    Args:
        author: what stands for the user; `DemoDevice.author`.
        seed: another seed gives other parts.
    """
    place = position(f"role|{author}", seed)
    edge = 0.0
    for role, share in _ROLES:
        edge += share
        if place < edge:
            return role
    return _ROLES[-1][0]


def device_class_of(author: str, seed: str) -> str:
    """Say which kind of device a user has, each kind as likely as the others."""
    classes = sorted(RANKS)
    return classes[int(position(f"class|{author}", seed) * len(classes))]
