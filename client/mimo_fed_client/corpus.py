"""The private text of one device. It is read here, used by training on this device, and goes nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mimo_fed.data import read_corpus
from mimo_fed.data.weight import num_bytes, weight_of


@dataclass(frozen=True, kw_only=True)
class PrivateCorpus:
    """Text by split; its repr shows sizes only."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> PrivateCorpus:
        """Read a corpus file.

        Raises:
            DataError: it cannot be read, or holds no training text.
        """
        read = read_corpus(path)
        return cls(train=read.train, validation=read.validation, test=read.test)

    @cached_property
    def train_bytes(self) -> int:
        """UTF-8 bytes to train on."""
        return num_bytes(self.train)

    @property
    def held_out(self) -> tuple[str, ...]:
        """What decisions are made on: the validation text; the last piece to train on if there is none."""
        return self.validation or self.train[-1:]

    @property
    def reported_on(self) -> tuple[str, ...]:
        """What figures are reported on: the test text; the held-out text if there is none."""
        return self.test or self.held_out

    def weight(self, weight_max: int) -> int:
        """How much this device counts in a mean: by its amount of training text, 1 to `weight_max`."""
        return weight_of(self.train_bytes, weight_max)

    def __repr__(self) -> str:
        sizes = len(self.train), len(self.validation), len(self.test)
        return f"PrivateCorpus(texts by split: {sizes}, {self.train_bytes} bytes to train on)"
