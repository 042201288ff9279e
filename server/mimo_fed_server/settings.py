"""Settings of the coordinator: one TOML file, unknown keys are errors."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from mimo_fed.config import RoundConfig, ScheduleConfig, from_dict
from mimo_fed.errors import ConfigError
from mimo_fed.round.cohort import Pace
from mimo_fed.secagg import HELPER_SIZES, MAX_MEMBERS, MIN_GROUPS, MIN_MEMBERS, SAMPLED_SIZE, Anchors
from mimo_fed.secagg.manifest import MAX_COHORT, MAX_SUMS


@dataclass(frozen=True, kw_only=True)
class CoordinatorSettings:
    """Where the coordinator's things are, and what its rounds are like."""

    home: str
    """folder for its database, spool, lock and event log"""
    key_file: str
    """the coordinator's signing key, hexadecimal; readable by its owner alone"""
    anchors_file: str
    """JSON: the keys that certificates are checked with; the registry's `anchors.json`"""
    spec_file: str
    """JSON: shape of the global adapter on the fleet's base"""
    registry_url: str
    """http(s)://host:port"""
    registry_token_file: str
    """the registry's admin token"""
    superlink: str
    """host:port of the SuperLink"""
    root_certificates: str = ""
    """PEM file for TLS to the SuperLink; empty: no TLS, for a private network alone"""
    rounds: int = 3
    """train rounds; each is followed by an evaluate round, promotion and a notice to the devices"""
    min_devices: int = 16
    """fewest devices that must be there before a round begins"""
    patience_s: float = 3.0
    """how long the last answers of a short stage are waited for once there are enough"""
    pace: Pace = field(default_factory=Pace)
    """when devices that a round does not need come back"""
    test_plaintext: str = ""
    """tests alone: folder for the opened sums"""
    round: RoundConfig = field(default_factory=RoundConfig)
    """what a train round fixes; its phase and learning rate are those of the schedule"""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """which factor each train round trains"""
    clip_target: float = 0.0
    """share of devices that should not be clipped: the clip norm follows, from round to round; 0: it stays"""


def load_settings(path: Path) -> CoordinatorSettings:
    """Read a settings file.

    Raises:
        ConfigError: it is missing, not TOML, has an unknown or missing key, or values with which no round
            could begin or open.
    """
    try:
        raw = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"settings cannot be read: {path} ({error.strerror})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"settings are not TOML: {path} ({error})") from None
    nested = {
        "round": from_dict(RoundConfig, raw.pop("round", {}), where="round."),
        "pace": from_dict(Pace, raw.pop("pace", {}), where="pace."),
        "schedule": from_dict(ScheduleConfig, raw.pop("schedule", {}), where="schedule."),
    }
    settings = from_dict(CoordinatorSettings, {**raw, **nested})
    _check_numbers(settings)
    _check_secure_sum(settings)
    _check_anchors(settings)
    return settings


def _check_numbers(settings: CoordinatorSettings) -> None:
    """Refuse numbers with which no round could begin or open."""
    num = settings.round
    most = MAX_MEMBERS if num.secure_sum.committee == "all" else MAX_COHORT
    if not 1 <= num.n_min <= num.n_max <= most or settings.min_devices < MIN_MEMBERS:
        raise ConfigError(
            f"no round could have these n_min, n_max, min_devices: "
            f"{num.n_min}, {num.n_max}, {settings.min_devices}",
            hint=f"n_min is at most n_max, n_max at most {most} in mode {num.secure_sum.committee}, "
            f"min_devices at least {MIN_MEMBERS}",
        )
    if not 0 <= settings.clip_target < 1:
        raise ConfigError(f"clip_target is a share below 1, or 0 for none: {settings.clip_target}")
    if settings.min_devices < num.n_min:
        raise ConfigError(
            f"min_devices is below n_min, so no sum could ever open: {settings.min_devices}",
            hint=f"set min_devices to {num.n_min} or more",
        )


def _check_secure_sum(settings: CoordinatorSettings) -> None:
    """Refuse groups that devices are too few for, or a robust mean without any."""
    config, secure = settings.round, settings.round.secure_sum
    groups = secure.num_groups
    if not groups:
        if secure.robust != "mean":
            raise ConfigError(
                f"a robust mean is over random groups, and there are none: {secure.robust}",
                hint=f"set round.secure_sum.num_groups to {MIN_GROUPS} or more",
            )
        return
    most = (MAX_SUMS - 1) // len(config.adapter.shells)
    if not MIN_GROUPS <= groups <= most:
        raise ConfigError(f"random groups are {MIN_GROUPS} to {most} with these shells, or none: {groups}")
    needed = groups * config.n_min
    if needed > min(config.n_max, settings.min_devices):
        raise ConfigError(
            f"{groups} groups of {config.n_min} need {needed} devices, more than n_max or min_devices: "
            f"{config.n_max}, {settings.min_devices}"
        )


def _check_anchors(settings: CoordinatorSettings) -> None:
    """Refuse a committee that the fleet's signed anchors, in the coordinator's copy, do not allow."""
    committee = settings.round.secure_sum.committee
    if committee == "all":
        return
    try:
        anchors = Anchors.from_json(Path(settings.anchors_file).read_bytes())
    except OSError as error:
        raise ConfigError(
            f"trust anchors cannot be read: {settings.anchors_file} ({error.strerror})"
        ) from None
    if committee == "helper" and len(anchors.helpers) not in HELPER_SIZES:
        raise ConfigError(
            f"committee helper needs {', '.join(map(str, HELPER_SIZES))} pinned helpers, "
            f"and {settings.anchors_file} pins: {len(anchors.helpers)}",
            hint="`mimo-fed registry pin-helper` pins them; then give the coordinator its anchors.json",
        )
    if committee == "sampled" and anchors.population < SAMPLED_SIZE:
        raise ConfigError(
            f"committee sampled draws {SAMPLED_SIZE} of the enrolled devices, "
            f"and {settings.anchors_file} counts: {anchors.population}",
            hint="`mimo-fed registry set-population` sets it; then give the coordinator its anchors.json",
        )
