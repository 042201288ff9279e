"""The settings that bind both ends of a round: frozen, keyword-only, with one digest.

`RoundConfig` travels inside the signed manifest (as canonical JSON), so that a device and the coordinator
that disagree on any of it find out before anything is trained.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

from mimo_fed.errors import ConfigError

T = TypeVar("T")

TARGETS = r"model\.layers\.\d+\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj"
"""Every linear of every decoder layer; anchored, so that `model.mtp_layers` stays out of the federation."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a device trains in one round."""

    phase: Literal["B"] = "B"
    """which LoRA factor is trained; the other is a shared constant"""
    num_steps: int = 4
    """optimizer steps on the global adapter, per round"""
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
    """seed of the fixed factor V0"""
    targets: str = TARGETS
    """regular expression (full match) over module names"""
    basis_epoch: int = 0
    """a delta is exact only in the basis it was trained in"""


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
    server_lr: float = 1.0
    """eta of the server's step"""
    staleness_exponent: float = 0.5
    """a mean that is s releases behind is scaled by (1 + s)^-this"""
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
            ConfigError: not JSON, an unknown key, or a value out of range.
        """
        try:
            raw = json.loads(data)
        except ValueError as error:
            raise ConfigError(f"round settings are not JSON: {error}") from None
        return from_dict(cls, raw)


_NESTED: dict[str, type[Any]] = {
    "train": TrainConfig,
    "adapter": AdapterConfig,
    "privacy": PrivacyConfig,
    "secure_sum": SecureSumConfig,
}


def from_dict(cls: type[T], raw: object) -> T:
    """Build a settings class from a mapping; an unknown key is an error.

    Raises:
        ConfigError: `raw` is not a mapping, has an unknown key, or lacks a required one.
    """
    if not isinstance(raw, dict):
        raise ConfigError(f"settings must be a table: {type(raw).__name__}")
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(raw) - known):
        raise ConfigError(f"unknown setting: {', '.join(unknown)}", hint=f"known: {', '.join(sorted(known))}")
    values = {k: from_dict(_NESTED[k], v) if k in _NESTED else v for k, v in raw.items()}
    if isinstance(values.get("shells"), list):
        values["shells"] = tuple(values["shells"])
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"settings are incomplete: {error}") from None
