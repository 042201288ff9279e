"""What a simulation does: frozen, with one digest, so that no run is taken up with other settings."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from mimo_fed.config import AdapterConfig, Phase, RoundConfig, ScheduleConfig, TrainConfig
from mimo_fed.data import DemoDevice
from mimo_fed.errors import ConfigError
from mimo_fed.secagg import MAX_MEMBERS

Method = Literal["federated", "sketch"]
Trait = Literal["language", "device_class"]


@dataclass(frozen=True, kw_only=True)
class SimulateSettings:
    """The settings of a simulation.

    Raises:
        ConfigError: numbers out of range, or settings that do not go together.
    """

    rounds: int = 8
    """rounds on the global adapter; after each, one for every cohort"""
    devices_per_round: int = 0
    """how many are asked; 0: all that are there"""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """phases of the global adapter"""
    round: RoundConfig = field(default_factory=RoundConfig)
    """what every round fixes; phase, learning rate, `n_max` and `cohort` are set by the simulation"""
    encryption: bool = True
    """False: the same round with exact sums of floats, nothing rounded and nothing protected"""
    method: Method = "federated"
    """`sketch`: two sums a round, of a product of any two local factors (see `mimo_fed.aggregate.sketch`)"""
    cohorts: tuple[str, ...] = ()
    """names of the cohorts; none: no cohort adapters"""
    cohort_by: Trait = "language"
    """what a device declares: it begins in the cohort of that name, or in none"""
    cohort_adapter: AdapterConfig = field(default_factory=lambda: AdapterConfig(rank=8, shells=(4, 8)))
    cohort_schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    cohort_train: TrainConfig = field(default_factory=TrainConfig)
    choose_every: int = 0
    """rounds between two choices of a cohort by every device; 0: what it declares stays"""
    personal_steps: int = 0
    """personal steps that a device takes in each global round it is in, before the shared ones; 0: none"""
    refresh_steps: int = 0
    """personal steps of every device after a new release, before it picks lambda anew"""
    refresh_every: int = 0
    """rounds between two such refreshments of all devices; 0: only after the last round, the cheap way"""
    dropout: float = 0.0
    """share of the devices asked that vanish before they contribute"""
    step_shares: tuple[tuple[str, float], ...] = ()
    """(device class, share of the round's steps that it takes); a class that is not named takes all"""
    clip_target: float = 0.0
    """share of devices that should not be clipped: the clip norm follows, from round to round; 0: it stays"""
    held_out_bytes: int = 2048
    """most bytes of validation text on which a device measures its loss before and after a round"""
    seed: int = 0
    """of everything that is drawn"""

    def __post_init__(self) -> None:
        counts = (self.devices_per_round, self.choose_every, self.personal_steps, self.refresh_steps)
        if self.rounds < 1 or min(*counts, self.refresh_every, self.held_out_bytes) < 0:
            raise ConfigError(f"a simulation needs at least one round and no negative number: {self.rounds}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"share of devices that vanish must be in 0..1: {self.dropout}")
        if not 0 <= self.clip_target < 1:
            raise ConfigError(f"clip_target is a share below 1, or 0 for none: {self.clip_target}")
        if len(set(self.cohorts)) != len(self.cohorts) or "" in self.cohorts:
            raise ConfigError(f"cohorts need distinct names: {', '.join(self.cohorts)}")
        if bad := [name for name, share in self.step_shares if not 0 < share <= 1]:
            raise ConfigError(f"share of the steps must be above 0 and at most 1: {', '.join(bad)}")
        all_open = self.encryption and self.round.secure_sum.committee == "all"
        if all_open and self.devices_per_round > MAX_MEMBERS:
            raise ConfigError(
                f"at most {MAX_MEMBERS} devices can open a sum together: {self.devices_per_round}",
                hint="take the committee `helper` or `sampled`, or fewer devices per round",
            )
        plain_server = self.round.server.optimizer == "fedavg" and self.round.server.learning_rate == 1
        if self.method == "sketch" and (self.schedule.cycle != "AB" or not plain_server):
            raise ConfigError(
                f"a sketch trains both factors and adds their mean: cycle {self.schedule.cycle}",
                hint='take the cycle "AB", and fedavg with a rate of 1 as the server\'s optimizer',
            )

    def config_of(
        self, cohort: str, index: int, num_devices: int, clip_norm: float | None = None
    ) -> RoundConfig:
        """Return what round `index` of an adapter fixes.

        Args:
            cohort: whose adapter; empty: the global one.
            index: train rounds that moved this adapter so far.
            num_devices: in the population.
            clip_norm: where it has moved to; None: that of the settings.
        """
        config = replace(
            self.round, kind="train", cohort=cohort, n_max=self.devices_per_round or max(num_devices, 1)
        )
        if clip_norm is not None:
            config = replace(config, privacy=replace(config.privacy, clip_norm=clip_norm))
        if not cohort:
            return self.schedule.round(config, index)
        config = replace(config, adapter=self.cohort_adapter, train=self.cohort_train)
        return self.cohort_schedule.round(config, index)

    def phase(self, cohort: str, index: int) -> Phase:
        """Return the phase of round `index` of an adapter."""
        return (self.cohort_schedule if cohort else self.schedule).phase(index)

    def start(self, device: DemoDevice) -> str:
        """Return the cohort a device declares; empty if there is none of that name."""
        declared = str(getattr(device, self.cohort_by))
        return declared if declared in self.cohorts else ""

    def num_steps(self, device_class: str, asked: int) -> int:
        """Return how many of the steps asked for a device of that class takes, at least one."""
        return max(1, round(asked * dict(self.step_shares).get(device_class, 1.0)))

    def digest(self) -> str:
        """SHA-256 of the settings, hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
