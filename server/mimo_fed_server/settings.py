"""Settings of the coordinator: one TOML file, unknown keys are errors."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from mimo_fed.config import RoundConfig, from_dict
from mimo_fed.errors import ConfigError
from mimo_fed.round.cohort import Pace
from mimo_fed.secagg import MAX_MEMBERS, MIN_MEMBERS


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
    """what a train round fixes"""


def load_settings(path: Path) -> CoordinatorSettings:
    """Read a settings file.

    Raises:
        ConfigError: it is missing, not TOML, or has an unknown or missing key.
    """
    try:
        raw = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"settings cannot be read: {path} ({error.strerror})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"settings are not TOML: {path} ({error})") from None
    nested = {
        "round": from_dict(RoundConfig, raw.pop("round", {})),
        "pace": from_dict(Pace, raw.pop("pace", {})),
    }
    settings = from_dict(CoordinatorSettings, {**raw, **nested})
    num = settings.round
    if not 1 <= num.n_min <= num.n_max <= MAX_MEMBERS or settings.min_devices < MIN_MEMBERS:
        raise ConfigError(
            f"no round could have these n_min, n_max, min_devices: "
            f"{num.n_min}, {num.n_max}, {settings.min_devices}",
            hint=f"n_min is at most n_max, n_max at most {MAX_MEMBERS}, min_devices at least {MIN_MEMBERS}",
        )
    if settings.min_devices < num.n_min:
        raise ConfigError(
            f"min_devices is below n_min, so no sum could ever open: {settings.min_devices}",
            hint=f"set min_devices to {num.n_min} or more",
        )
    return settings
