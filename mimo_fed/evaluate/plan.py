"""What an evaluation does beyond its arms and users: the budget, the grid of rates, and what is fixed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from mimo_fed.adapter import AdapterSpec
from mimo_fed.config import (
    AdapterConfig,
    PrivacyConfig,
    RoundConfig,
    ScheduleConfig,
    SecureSumConfig,
    TrainConfig,
)
from mimo_fed.errors import ConfigError
from mimo_fed.evaluate.arms import Arm
from mimo_fed.evaluate.records import Json
from mimo_fed.simulate.settings import SimulateSettings

RATES: Final = (1e-3, 3e-3, 1e-2, 3e-2)
"""the grid that every arm chooses from, for shared and personal adapters alike"""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The learning rates of an arm.

    Attributes:
        shared: of the global adapter and those of cohorts.
        personal: of personal adapters.
    """

    shared: float
    personal: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of an evaluation.

    Raises:
        ConfigError: numbers out of range.
    """

    rounds: int = 8
    """of every arm that has rounds; with cohorts, each is followed by one for every cohort"""
    steps: int = 4
    """optimizer steps a user has for each round, of all adapters together"""
    devices_per_round: int = 0
    """how many are asked, by lot; 0: all"""
    seeds: tuple[int, ...] = (0, 1, 2)
    batch_size: int = 1
    """sequences per step"""
    seq_len: int = 128
    """tokens per sequence"""
    rates: tuple[float, ...] = RATES
    """the grid of learning rates"""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """of the global adapter"""
    cohort_adapter: AdapterConfig = field(default_factory=lambda: AdapterConfig(rank=8, shells=(4, 8)))
    personal_rank: int = 8
    n_min: int = 3
    """fewest devices in an opened sum; real fleets take 16 and more, small sets of users have not as many"""
    clip_norm: float = 0.0
    """0: as long as an update can well get, see `longest`, so that next to nobody is clipped"""
    pooled_batch: int = 16
    """the pooled trainer's batch, as a multiple of a device's; it takes as many times fewer steps"""
    intents_per_user: int = 6
    """test items of a user on which intents are told, drawn by lot"""

    def __post_init__(self) -> None:
        counts = (self.rounds, self.steps, self.batch_size, self.seq_len, self.n_min, self.pooled_batch)
        if min(*counts, self.intents_per_user, self.personal_rank) < 1 or self.devices_per_round < 0:
            raise ConfigError(f"an evaluation needs numbers of at least 1: {min(counts)}")
        if not self.rates or len(set(self.rates)) < len(self.rates) or min(self.rates) <= 0:
            raise ConfigError(f"the grid needs distinct positive rates: {self.rates}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(f"seeds must be distinct and not negative: {self.seeds}")

    def budget(self, num_federated: int) -> int:
        """Return S, optimizer steps a user; in expectation, if only some devices are asked in a round."""
        asked = min(self.devices_per_round or num_federated, num_federated)
        return max(1, round(self.rounds * self.steps * asked / num_federated))

    def shares(self, arm: Arm, num_federated: int) -> tuple[int, int, int]:
        """Share the budget out: (global steps a round, cohort's steps a round, personal steps in all).

        Raises:
            ConfigError: the steps of a round, or the budget, cannot be cut into the arm's parts.
        """
        if not arm.parts:
            return 0, 0, 0
        budget, (shared, cohort, personal) = self.budget(num_federated), arm.shares
        if self.steps % arm.parts or budget % arm.parts:
            raise ConfigError(
                f"{self.steps} steps a round cannot be cut into {arm.parts} parts for the arm: {arm.name}",
                hint="take a multiple of 4 as --steps",
            )
        return (
            self.steps * shared // arm.parts,
            self.steps * cohort // arm.parts,
            budget * personal // arm.parts,
        )

    def train(self, num_steps: int, rates: Rates) -> TrainConfig:
        """Return how devices train."""
        return TrainConfig(
            num_steps=num_steps,
            batch_size=self.batch_size,
            seq_len=self.seq_len,
            learning_rate=rates.shared,
            personal_rank=self.personal_rank,
            personal_learning_rate=rates.personal,
        )

    def shape(self, arm: Arm, min_rank: int) -> AdapterConfig:
        """Return the shape of an arm's global adapter."""
        return replace(self.adapter, rank=min_rank, shells=(min_rank,)) if arm.min_rank else self.adapter

    def simulation(
        self,
        arm: Arm,
        spec: AdapterSpec,
        rates: Rates,
        *,
        num_federated: int,
        cohorts: tuple[str, ...],
        seed: int,
    ) -> SimulateSettings:
        """Return the settings of an arm's rounds; personal steps come after them.

        Args:
            arm: which.
            spec: shape of its global adapter.
            rates: learning rates.
            num_federated: users that take part.
            cohorts: their names.
            seed: of everything that is drawn.
        """
        shared, cohort, _ = self.shares(arm, num_federated)
        longest = self.longest(arm, spec, rates, max(shared, cohort))
        schedule = ScheduleConfig(cycle=arm.cycle)
        return SimulateSettings(
            rounds=self.rounds,
            devices_per_round=min(self.devices_per_round, num_federated),
            schedule=schedule,
            round=RoundConfig(
                n_min=self.n_min,
                secure_sum=SecureSumConfig(committee="helper"),
                train=self.train(shared, rates),
                adapter=spec.config,
                privacy=PrivacyConfig(clip_norm=self.clip_norm or longest),
            ),
            encryption=arm.encrypted,
            method="sketch" if arm.kind == "sketch" else "federated",
            cohorts=cohorts,
            cohort_adapter=self.cohort_adapter,
            cohort_schedule=schedule,
            cohort_train=self.train(max(cohort, 1), rates),
            held_out_bytes=0,
            seed=seed,
        )

    def longest(self, arm: Arm, spec: AdapterSpec, rates: Rates, num_steps: int) -> float:
        """Return the length of an update whose every entry moves by the learning rate in every step.

        AdamW moves next to none by more. A clip norm that is much longer would cost encrypted rounds digits.

        Args:
            arm: which; a sketch is of products, whose factors move at once, and gets twice the length.
            spec: shape of its adapter.
            rates: learning rates.
            num_steps: of a round.
        """
        schedule = ScheduleConfig(cycle=arm.cycle)
        phases = {schedule.phase(index) for index in range(self.rounds)}
        entries = {phase: sum(spec.dim(shell, phase) for shell in spec.shells) for phase in phases}
        far = max(schedule.rate(phase) * math.sqrt(entries[phase]) for phase in phases)
        return (2.0 if arm.kind == "sketch" else 1.0) * rates.shared * num_steps * far

    def to_json(self) -> Json:
        """Return the settings as plain values."""
        plain: Json = json.loads(json.dumps(asdict(self)))
        return plain
