"""One nano base, and small populations of devices with made-up text, for all simulations."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mimo_fed.config import AdapterConfig, PrivacyConfig, RoundConfig, SecureSumConfig, TrainConfig
from mimo_fed.data import DemoDevice, Text
from mimo_fed.model import Base, load_base

ADAPTER = AdapterConfig(rank=8, shells=(4, 8))
TRAIN = TrainConfig(num_steps=2, batch_size=1, seq_len=32, learning_rate=5e-3, personal_rank=2)
ROUND = RoundConfig(
    n_min=3,
    adapter=ADAPTER,
    train=TRAIN,
    privacy=PrivacyConfig(clip_norm=0.5, weight_max=4, word_bits=24),
    secure_sum=SecureSumConfig(suite="classic"),
)
LANGUAGES = ("it", "it", "it", "fr", "fr", "fr", "de", "it")
WORDS = {"it": "il gatto dorme sul tetto", "fr": "le chat dort sur le toit", "de": "die Katze schläft"}
CLASSES = {4: "watch", 8: "phone"}


@pytest.fixture(scope="session")
def nano() -> Base:
    return load_base("mimo-nano")


def device_of(number: int, language: str, *, rank: int = 8) -> DemoDevice:
    """One device with its own text: more of it the higher its number."""
    name = f"device-{number}"
    train = [f"{WORDS[language]} {number}-{i}. " * 4 for i in range(2 + 3 * number)]
    texts = [Text(text=text, split="train") for text in train]
    texts.append(Text(text=f"{WORDS[language]}, {number}.", split="validation"))
    texts.append(Text(text=f"{number}: {WORDS[language]}!", split="test"))
    return DemoDevice(
        name=name,
        author=name,
        language=language,
        translated=False,
        device_class=CLASSES[rank],
        rank=rank,
        texts=tuple(texts),
    )


@pytest.fixture
def devices() -> Callable[..., list[DemoDevice]]:
    """Make a population; every other device is small."""

    def make(languages: tuple[str, ...] = LANGUAGES) -> list[DemoDevice]:
        return [device_of(i, language, rank=4 if i % 2 else 8) for i, language in enumerate(languages)]

    return make
