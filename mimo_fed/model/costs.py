"""Costs already measured: the same text under the same adapters costs the same, and takes seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence

from mimo_fed.model.loss import Loss


class Costs:
    """The newest measured costs, by text and by what they were measured with.

    Args:
        size: costs kept.
    """

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._known: dict[tuple[bytes, Hashable], Loss] = {}

    def get(self, texts: Sequence[str], adapters: Hashable, measure: Callable[[], Loss]) -> Loss:
        """Return the cost of `texts` with `adapters`; calls `measure` if it is not known."""
        key = (_digest(texts), adapters)
        if key not in self._known:
            cost = measure()
            while len(self._known) >= self._size:
                del self._known[next(iter(self._known))]
            self._known[key] = cost
        return self._known[key]


def _digest(texts: Sequence[str]) -> bytes:
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()
