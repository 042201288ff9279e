"""What the device's driver needs of the device it runs on: a journal, and something that trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import AdapterSpec
from mimo_fed.config import RoundConfig, TrainConfig
from mimo_fed.errors import PeerProtocolError
from mimo_fed.round.layout import SUITE_OF
from mimo_fed.secagg import DevicePolicy


class Journal(Protocol):
    """Small durable records; a value put is there after a power cut."""

    def get(self, key: str) -> bytes | None:
        """Return the value, or None."""
        ...

    def put(self, key: str, value: bytes) -> None:
        """Store the value; durable when it returns."""
        ...

    def erase(self, key: str) -> None:
        """Forget the value; nothing happens if there is none."""
        ...

    def keys(self, prefix: str) -> tuple[str, ...]:
        """Return the keys that begin with the prefix, sorted."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainedUpdate:
    """What training gives.

    Attributes:
        delta: per part that the round's phase trains, float32: X after minus X before, of the shape that
            `mimo_fed.adapter.prefix` leaves for the device's rank.
        weight: integer in 1..weight_max, by the amount of text.
        num_steps: optimizer steps taken; at least 1 and at most what the round asks for.
        loss_before: nats per token on the device's validation text, with the adapter it started from.
        loss_after: the same, with the delta added.
    """

    delta: Mapping[str, NDArray[np.float32]]
    weight: int
    num_steps: int
    loss_before: float
    loss_after: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What judging a release gives: nats per token on the device's validation text.

    Attributes:
        weight: as in `TrainedUpdate`.
        loss_current: with the adapter that serves now.
        loss_candidate: with the adapter to be judged.
    """

    weight: int
    loss_current: float
    loss_candidate: float


class Device(Protocol):
    """The device: its text, its model, and its way to releases."""

    @property
    def rank(self) -> int:
        """Rank of this device's class."""
        ...

    @property
    def spec(self) -> AdapterSpec:
        """Shape of the global adapter on this device's base."""
        ...

    @property
    def cohort(self) -> str:
        """Name of the cohort that this device has chosen; empty: none."""
        ...

    def fetch_base(self, digest: str) -> bytes:
        """Return the verified release with this digest; raise if the registry has signed no such release."""
        ...

    def train(self, base: bytes, config: RoundConfig, seed: str) -> TrainedUpdate:
        """Train from the adapter `base` on this device's text; `seed` names the draw of its steps.

        No two manifests have the same seed: an update that is sent twice could be told from the difference of
        two sums (docs/protocol.md 8.6).
        """
        ...

    def evaluate(self, candidate: bytes, config: RoundConfig) -> Evaluation:
        """Judge the adapter `candidate` on this device's text."""
        ...

    def installed(self, request: bytes) -> bytes:
        """Look for a new release, try it, keep it or roll back; say which (JSON)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the owner of the device allows, whatever the coordinator asks.

    Attributes:
        n_min_floor: fewest devices in a sum this device takes part in.
        clip_norm_max: longest update that may leave, L2.
        word_bits_min: coarsest word; fewer bits would drown the update.
        tokens_max: most tokens it trains on for one round, counted with its personal adapter's.
        seq_len_max: most tokens of one sequence; memory grows with it.
        personal_rank_max: largest rank of a personal adapter; so does memory with this.
        suites: primitives it takes part with: hybrid, classic; `reference` is not secure and for tests alone.
        committees: who may open the sums it is in: all, sampled, helper.
    """

    n_min_floor: int = 16
    clip_norm_max: float = 4.0
    word_bits_min: int = 16
    tokens_max: int = 1 << 18
    seq_len_max: int = 4096
    personal_rank_max: int = 64
    suites: tuple[str, ...] = ("hybrid",)
    committees: tuple[str, ...] = ("all", "sampled", "helper")

    def of_manifests(self) -> DevicePolicy:
        """Return the part that can be judged without knowing the round's settings."""
        return DevicePolicy(
            n_min_floor=self.n_min_floor,
            suites=tuple(SUITE_OF[name] for name in self.suites),
            modes=self.committees,
        )

    def check(self, config: RoundConfig) -> None:
        """Raise PeerProtocolError if the round asks for more than this policy allows."""
        if config.n_min < self.n_min_floor:
            raise PeerProtocolError(
                f"round would open a sum of {config.n_min} devices, policy asks for {self.n_min_floor}",
                hint="the owner of this device may lower policy.n_min_floor in its settings",
            )
        self._check_training(config.train)
        if not 0 < config.privacy.clip_norm <= self.clip_norm_max:
            raise PeerProtocolError(
                f"round's clip norm is over this device's {self.clip_norm_max}: {config.privacy.clip_norm}"
            )
        if config.privacy.word_bits < self.word_bits_min:
            raise PeerProtocolError(f"round's words are too short: {config.privacy.word_bits} bits")

    def _check_training(self, train: TrainConfig) -> None:
        steps = (train.num_steps, train.num_personal_steps)
        tokens = sum(steps) * train.batch_size * train.seq_len
        if min(steps) < 0 or min(train.batch_size, train.seq_len) < 1 or tokens > self.tokens_max:
            raise PeerProtocolError(
                f"round's training is over this device's {self.tokens_max} tokens, or of none: {tokens}",
                hint="the owner of this device may raise policy.tokens_max in its settings",
            )
        if train.seq_len > self.seq_len_max:
            raise PeerProtocolError(
                f"round's sequences are over this device's {self.seq_len_max} tokens: {train.seq_len}",
                hint="the owner of this device may raise policy.seq_len_max in its settings",
            )
        if not 1 <= train.personal_rank <= self.personal_rank_max:
            raise PeerProtocolError(
                f"round's personal rank is not 1 to this device's {self.personal_rank_max}: "
                f"{train.personal_rank}",
                hint="the owner of this device may raise policy.personal_rank_max in its settings",
            )
