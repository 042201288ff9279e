"""The device's model with its held-out text: which adapter is in it, and what each one cost on that text."""

from __future__ import annotations

import hashlib

from mimo_fed.model import DeviceModel
from mimo_fed_client.corpus import PrivateCorpus

REMEMBERED = 8
"""losses kept"""


class Mounted:
    """A device model whose adapter is named by digest, so that no loss is measured twice.

    One thread at a time. What is served is whatever was mounted last; whoever mounts another adapter to
    measure or train mounts the old one again.

    Args:
        model: the base with its adapters.
        corpus: this device's text.
    """

    def __init__(self, model: DeviceModel, corpus: PrivateCorpus) -> None:
        self.model, self.corpus = model, corpus
        self._digest = model.installed_digest
        self._losses: dict[str, float] = {}

    @property
    def digest(self) -> str:
        """SHA-256 of the mounted adapter."""
        return self._digest

    def mount(self, adapter: bytes) -> None:
        """Put an adapter in place; every byte is checked first.

        Raises:
            AdapterError: it does not fit; the old one is in place.
            InstallError: a value is not finite; the old one is in place.
        """
        digest = hashlib.sha256(adapter).hexdigest()
        if digest != self._digest:
            self.model.install(adapter)
            self._digest = digest

    def loss(self, adapter: bytes) -> float:
        """Return nats per token of an adapter on the held-out text; it is mounted if it must be measured."""
        digest = hashlib.sha256(adapter).hexdigest()
        if digest not in self._losses:
            self.mount(adapter)
            self.remember(adapter, self.model.loss(self.corpus.held_out, "global").per_token)
        return self._losses[digest]

    def remember(self, adapter: bytes, loss: float) -> None:
        """Keep a loss that training has measured anyway."""
        digest = hashlib.sha256(adapter).hexdigest()
        self._losses.pop(digest, None)
        self._losses[digest] = loss
        while len(self._losses) > REMEMBERED:
            del self._losses[next(iter(self._losses))]
