"""Settings of one device's agent: one TOML file; an unknown key is an error."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mimo_fed.errors import ConfigError
from mimo_fed.round.device import Policy

N_MIN_FLOOR = 16
"""a device asks for at least this many in a sum; a lower floor is for tests alone, and said loudly"""


class Table(BaseModel):
    """A table of a settings file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PolicySettings(Table):
    """What the owner allows, whatever the coordinator asks."""

    n_min_floor: Annotated[int, Field(ge=2)] = N_MIN_FLOOR
    """fewest devices in a sum that this one takes part in"""
    clip_norm_max: Annotated[float, Field(gt=0)] = 4.0
    """longest update that may leave, L2"""
    word_bits_min: Annotated[int, Field(ge=8, le=32)] = 16
    """coarsest word of an upload"""
    tokens_max: Annotated[int, Field(gt=0)] = 1 << 18
    """most tokens it trains on for one round, the personal adapter's among them"""
    seq_len_max: Annotated[int, Field(ge=8)] = 4096
    """most tokens of one sequence"""
    personal_rank_max: Annotated[int, Field(ge=1)] = 64
    """largest rank of the personal adapter"""
    suites: tuple[Literal["hybrid", "classic", "reference"], ...] = ("hybrid",)
    """primitives it takes part with; `reference` is not secure and for tests alone"""
    committees: tuple[Literal["all", "sampled", "helper"], ...] = ("all", "sampled", "helper")
    """who may open the sums it is in"""

    @property
    def test_only(self) -> bool:
        """Whether sums may be opened that are too small to hide one device, or that hide nothing."""
        return self.n_min_floor < N_MIN_FLOOR or "reference" in self.suites

    def policy(self) -> Policy:
        """Return what the round's driver checks."""
        return Policy(**self.model_dump())


class InstallSettings(Table):
    """How a release is tried and settled in."""

    loss_bound: Annotated[float, Field(ge=0)] = 0.05
    """a release may raise the loss on this device's held-out text by this share"""
    tries: Annotated[int, Field(ge=1)] = 2
    """a trial that ends with the process is repeated; after so many the release is bad"""
    personal_steps: Annotated[int, Field(ge=0)] = 4
    """optimizer steps on the personal adapter after the last release of a run"""
    measure: bool = False
    """write report.json after every install, not only after the last of a run"""


class TrainingSettings(Table):
    """What the device can afford when it trains for a round."""

    max_steps: Annotated[int, Field(ge=1)] | None = None
    """most steps on the shared adapter, however many a round asks for; without it, as many as asked"""
    checkpointing: bool = False
    """compute activations again instead of keeping them: less memory, more time"""
    forward_only: bool = False
    """no backward pass: takes part in rounds of phase M alone, and has no personal adapter"""


class AgentSettings(Table):
    """One device."""

    device_id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
    home: Path
    """keys, journal, slots, events; one agent at a time"""
    corpus: Path
    """the device's text, JSON Lines"""
    superlink: str
    """HOST:PORT of Flower's fleet API"""
    registry_url: str
    root_file: Path
    """pinned root of the registry's signed metadata"""
    base: str = "mimo-smol"
    """name or folder of the frozen base"""
    precision: Literal["float32", "fast"] = "float32"
    """of the base's arithmetic; fast: bfloat16 where this processor computes with it, else float32"""
    rank: Annotated[int, Field(ge=1)] = 4
    """of this device's class; the upper bound of one of the adapter's shells"""
    device_class: str = "phone"
    authority_url: str = ""
    """where to enrol"""
    token_file: Path | None = None
    """one-time token for enrolment; `agent run` enrols by itself if there is no certificate yet"""
    root_certificates: Path | None = None
    """PEM file, for TLS to the SuperLink; plain text without it"""
    compute_slots: Annotated[int, Field(ge=0)] = 0
    """how many agents of this machine train at once; 0: as many as there are"""
    compute_dir: Path | None = None
    """folder of those slots, shared; `compute` beside the home if not given"""
    poll_s: Annotated[float, Field(gt=0)] = 60.0
    """seconds between looks at the registry"""
    patience_s: Annotated[float, Field(ge=0)] = 60.0
    """how long a round waits for a registry that cannot be reached, seconds"""
    policy: PolicySettings = PolicySettings()
    install: InstallSettings = InstallSettings()
    training: TrainingSettings = TrainingSettings()

    @property
    def slots_folder(self) -> Path:
        """Folder of the machine's compute slots."""
        return self.compute_dir or self.home.parent / "compute"


T = TypeVar("T", bound=Table)

_PATHS = ("home", "corpus", "root_file", "token_file", "root_certificates", "compute_dir")


def load_settings(path: Path) -> AgentSettings:
    """Read an agent's settings file; relative paths are from its folder.

    Raises:
        ConfigError: it cannot be read, is not TOML, or a key is unknown, missing or out of range.
    """
    return load_table(path, AgentSettings, _PATHS)


def load_table(path: Path, kind: type[T], paths: tuple[str, ...]) -> T:
    """Read a settings file.

    Args:
        path: the TOML file.
        kind: what it holds.
        paths: keys whose values are paths, relative to the file's folder.

    Raises:
        ConfigError: it cannot be read, is not TOML, or a key is unknown, missing or out of range.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"settings cannot be read ({error.strerror}): {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"settings are not TOML ({error}): {path}") from None
    for key in paths:
        if isinstance(raw.get(key), str):
            raw[key] = (path.resolve().parent / Path(raw[key]).expanduser()).resolve()
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(error, path), hint=f"known: {', '.join(kind.model_fields)}") from None


def _explain(error: ValidationError, path: Path) -> str:
    said = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return f"settings are wrong ({'; '.join(said)}): {path}"
