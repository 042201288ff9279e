"""The settings that bind both ends of a round: frozen, keyword-only, with one digest.

`RoundConfig` travels inside the signed manifest (as canonical JSON), so that a device and the coordinator
that disagree on any of it find out before anything is trained.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any, Final, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from mimo_fed.errors import ConfigError

T = TypeVar("T")

Phase = Literal["B", "A", "M", "AB"]
"""Which factor of dW = left @ core @ right a round trains: B = left @ core, A = core @ right, or M = core.
AB trains B and A at once and averages them apart, which is inexact: FedIT, there to be compared with."""

SPARE_CYCLE: Final = "BAMMMMMM"
"""A quarter of the upload of B and A in turn, or less: most rounds move the cores alone. It learns less a
round (docs/adr/0024-b-and-a-in-turn.md)."""

TARGETS = r"model\.layers\.\d+\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj"
"""Every linear of every decoder layer; anchored, so that `model.mtp_layers` stays out of the federation."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a device trains in one round."""

    phase: Phase = "B"
    """which factor is trained; the others are shared constants"""
    num_steps: int = 4
    """optimizer steps on the global adapter, per round"""
    normalise_steps: bool = False
    """FedNova: a device that takes fewer steps than `num_steps` does not pull the mean towards nothing"""
    num_personal_steps: int = 4
    """optimizer steps on the personal adapter, per round; never sent"""
    batch_size: int = 2
    """sequences per step"""
    seq_len: int = 128
    """tokens per sequence"""
    learning_rate: float = 1e-3
    """AdamW, fresh state each round"""
    personal_rank: int = 8
    """rank of the personal adapter"""
    personal_learning_rate: float = 1e-3
    """AdamW"""
    personal_weight_decay: float = 0.01
    """Ditto's proximal term, as decay of B_u A_u"""
    branch_dropout: float = 0.5
    """probability that a global step runs without the personal branch"""


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """The shape of the global adapter."""

    rank: int = 16
    """R, columns of every B"""
    shells: tuple[int, ...] = (4, 8, 16)
    """upper rank of each shell; the last equals rank. A device of rank r fills the shells up to r."""
    seed: int = 20261123
    """seed of the factors U0 and V0 that an adapter begins with"""
    targets: str = TARGETS
    """regular expression (full match) over module names"""


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """What an update may look like before it is sealed."""

    profile: Literal["research"] = "research"
    """`research`: no differential privacy; said loudly in every report"""
    clip_norm: float = 1.0
    """C, L2 over the whole update, before weighting"""
    weight_max: int = 16
    """w_max, the largest integer weight"""
    word_bits: int = 16
    """b, bits of an uploaded word: 16 or 24"""
    loss_bound: float = 16.0
    """statistics: a loss (nats per token) is clipped to [0, loss_bound]"""


@dataclass(frozen=True, kw_only=True)
class SecureSumConfig:
    """How a round's sums are protected and opened (docs/protocol.md)."""

    suite: Literal["hybrid", "classic", "reference"] = "hybrid"
    """primitives; `reference` is not secure and for tests alone"""
    committee: Literal["all", "sampled", "helper"] = "all"
    """who opens the sums: every contributor (at most 64), 64 devices drawn by lot, or pinned organisations"""
    num_groups: int = 0
    """random groups for a robust mean, at least 5; 0: none"""
    robust: Literal["mean", "trimmed", "median"] = "mean"
    """how the groups' means become one: `mean` tolerates no corrupt group, the others do"""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """What the coordinator does with a round's mean (Reddi et al. 2021, adaptive federated optimization)."""

    optimizer: Literal["fedavg", "fedavgm", "fedadam", "fedyogi"] = "fedavg"
    """fedavg adds the mean; fedavgm adds a decaying sum of means; the others scale each entry besides"""
    learning_rate: float = 1.0
    """eta of the server's step"""
    momentum: float = 0.9
    """beta1, all but fedavg"""
    second_momentum: float = 0.99
    """beta2, fedadam and fedyogi"""
    adaptivity: float = 1e-3
    """tau, added to the root of the second moment: the larger, the closer to fedavgm"""
    staleness_exponent: float = 0.5
    """a mean that is s releases behind is scaled by (1 + s)^-this"""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Which phase each train round has.

    Raises:
        ConfigError: the cycle is not made of B, A and M, nor AB, or a rate is not positive.
    """

    cycle: str = "BA"
    """phases, over and over; `AB` alone is FedIT"""
    a_rate: float = 1.0
    """learning rate of phase A, as a multiple of `train.learning_rate`"""
    m_rate: float = 2.0
    """the same of phase M: its R x R entries are few, and AdamW moves each entry about as far"""

    def __post_init__(self) -> None:
        if self.cycle != "AB" and (not self.cycle or set(self.cycle) - set("BAM")):
            raise ConfigError(
                f"cycle is not made of the phases B, A, M: {self.cycle!r}", hint="for example BAMMMMMM, BA, B"
            )
        if not (0 < self.a_rate < math.inf and 0 < self.m_rate < math.inf):
            raise ConfigError(f"rates must be positive and finite: {self.a_rate}, {self.m_rate}")

    def phase(self, index: int) -> Phase:
        """Return the phase of train round `index`, from 0."""
        return "AB" if self.cycle == "AB" else cast(Phase, self.cycle[index % len(self.cycle)])

    def rate(self, phase: Phase) -> float:
        """Return by what the learning rate is multiplied in this phase."""
        return {"A": self.a_rate, "M": self.m_rate}.get(phase, 1.0)

    def round(self, config: RoundConfig, index: int) -> RoundConfig:
        """Return the settings of train round `index`: phase and learning rate are those of the schedule."""
        phase = self.phase(index)
        rate = config.train.learning_rate * self.rate(phase)
        return replace(config, train=replace(config.train, phase=phase, learning_rate=rate))


@dataclass(frozen=True, kw_only=True)
class RoundConfig:
    """Everything one round fixes beyond its identity."""

    kind: Literal["train", "evaluate"] = "train"
    n_min: int = 16
    """fewest contributors for which a sum is opened; 3 is a test-only value"""
    n_max: int = 64
    """most contributors in one sum"""
    open_at: int = 0
    """an asynchronous round takes contributions until it has this many, or until its deadline nears;
    0: once a quorum is in, the rest of the cohort is waited for as long again"""
    over_selection: float = 1.3
    """devices asked for each of `open_at` (0: of `n_max`) contributions wanted"""
    deadline_s: float = 600.0
    """wall time from the manifest to the opening; hours in an asynchronous round"""
    cohort: str = ""
    """whose adapter is trained: the global one, or that of the cohort of this name, on a frozen global one"""
    server: ServerConfig = field(default_factory=ServerConfig)
    secure_sum: SecureSumConfig = field(default_factory=SecureSumConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)

    def to_json(self) -> bytes:
        """Canonical bytes: sorted keys, no spaces."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hexadecimal."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @classmethod
    def from_json(cls, data: bytes) -> RoundConfig:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: not JSON, an unknown key, or a value of another kind: text for a number, an unknown
                word, a number that is not finite. Its range is checked by whoever uses it.
        """
        try:
            raw = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"round settings are not JSON: {error}") from None
        return from_dict(cls, raw)


_NESTED: dict[str, type[Any]] = {
    "train": TrainConfig,
    "adapter": AdapterConfig,
    "privacy": PrivacyConfig,
    "secure_sum": SecureSumConfig,
    "server": ServerConfig,
}


_KINDS: Final = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_INT_MAX: Final = 1 << 63


def from_dict(cls: type[T], raw: object, *, where: str = "") -> T:
    """Build a settings class from a mapping; an unknown key is an error, and so is a value of another kind.

    Args:
        cls: the class.
        raw: from JSON or TOML; may come from a peer.
        where: what stands before a key in messages: `round.`, for instance.

    Raises:
        ConfigError: `raw` is not a mapping, has an unknown key, lacks a required one, or a value has another
            type than the setting, is not one of its words, or is not finite.
    """
    if not isinstance(raw, dict):
        raise ConfigError(f"settings must be a table: {type(raw).__name__}")
    kinds = _kinds(cast(Any, cls))
    if unknown := sorted(set(raw) - set(kinds)):
        raise ConfigError(f"unknown setting: {', '.join(unknown)}", hint=f"known: {', '.join(sorted(kinds))}")
    values = {
        k: from_dict(_NESTED[k], v, where=f"{where}{k}.") if k in _NESTED else v for k, v in raw.items()
    }
    if isinstance(values.get("shells"), list):
        values["shells"] = tuple(values["shells"])
    for name, value in values.items():
        _check(f"{where}{name}", kinds[name], value)
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"settings are incomplete: {error}") from None


@cache
def _kinds(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls)


def _check(name: str, kind: Any, value: object) -> None:
    """Refuse a value of another kind than the setting's."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigError(
                f"{name} is not known: {repr(value)[:80]}", hint=f"known: {', '.join(get_args(kind))}"
            )
    elif not _is(kind, value):
        raise ConfigError(f"{name} is not {_KINDS.get(kind, 'what it must be')}: {repr(value)[:80]}")


def _is(kind: Any, value: object) -> bool:
    """Say whether a value is of a kind; a whole number is a number too, and none is endless."""
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is(get_args(kind)[0], one) for one in value)
    if kind is float and type(value) is float:
        return math.isfinite(value)
    if kind in (int, float):
        return type(value) is int and abs(value) < _INT_MAX
    return isinstance(value, kind)
