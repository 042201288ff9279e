"""Settings of a helper organisation's service: one TOML file; an unknown key is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mimo_fed.round.layout import SUITE_OF
from mimo_fed.secagg import DevicePolicy
from mimo_fed_client.settings import N_MIN_FLOOR, Table, load_table

DAY_S = 24 * 3600.0

TEST_ONLY = (
    "TEST ONLY: this helper opens sums of fewer than 16 devices, or of a suite that hides nothing; "
    "such a sum may show what one device sent"
)


class HelperPolicy(Table):
    """What the organisation opens, whatever the coordinator asks; rounds of mode helper alone, always."""

    n_min_floor: Annotated[int, Field(ge=2)] = N_MIN_FLOOR
    """fewest devices in a sum that it opens"""
    suites: Annotated[tuple[Literal["hybrid", "classic", "reference"], ...], Field(min_length=1)] = (
        "hybrid",
    )
    """primitives; `reference` is not secure and for tests alone"""
    time_left_min_s: Annotated[float, Field(ge=0)] = 5.0
    """a round with less time left is refused"""
    time_left_max_s: Annotated[float, Field(gt=0)] = 2 * DAY_S
    """a round that may last longer is refused: its secrets would lie here as long"""
    interval_s: Annotated[float, Field(ge=0)] = 0.0
    """least time between votes in two rounds of one kind, train or evaluate; 0: no limit"""

    @model_validator(mode="after")
    def _times(self) -> Self:
        if self.time_left_min_s >= self.time_left_max_s:
            raise ValueError(f"time_left_min_s is not below time_left_max_s: {self.time_left_min_s}")
        return self

    @property
    def test_only(self) -> bool:
        """Whether sums may be opened that are too small to hide one device, or that hide nothing."""
        return self.n_min_floor < N_MIN_FLOOR or "reference" in self.suites

    @property
    def suite_names(self) -> tuple[str, ...]:
        """The suites as the protocol names them."""
        return tuple(SUITE_OF[name] for name in self.suites)

    def of_manifests(self) -> DevicePolicy:
        """Return the part that is judged from a manifest alone."""
        return DevicePolicy(n_min_floor=self.n_min_floor, suites=self.suite_names, modes=("helper",))


class HelperSettings(Table):
    """One helper organisation."""

    helper_id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """its name in its certificate; no device may have it too"""
    home: Path
    """key, journal, round log, events; one process at a time"""
    superlink: str
    """HOST:PORT of Flower's fleet API, or of the gate before it"""
    registry_url: str
    root_file: Path
    """pinned root of the registry's signed metadata"""
    authority_url: str = ""
    """where to enrol"""
    token_file: Path | None = None
    """one-time token for enrolment; `helper run` enrols by itself if there is no certificate yet"""
    root_certificates: Path | None = None
    """PEM file, for TLS to the SuperLink; plain text without it"""
    poll_s: Annotated[float, Field(gt=0)] = 60.0
    """seconds between looks at the registry: who is pinned, and whose certificate is revoked"""
    policy: HelperPolicy = HelperPolicy()

    @property
    def device_id(self) -> str:
        """The name in the certificate."""
        return self.helper_id


_PATHS = ("home", "root_file", "token_file", "root_certificates")


def load_helper_settings(path: Path) -> HelperSettings:
    """Read a helper's settings file; relative paths are from its folder.

    Raises:
        ConfigError: it cannot be read, is not TOML, or a key is unknown, missing or out of range.
    """
    return load_table(path, HelperSettings, _PATHS)
