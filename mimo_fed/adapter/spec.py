"""The shape of an adapter: which linears, which rank, cut into which shells, and what each phase trains.

Per module dW = left @ core @ right. A phase trains one factor X of it and leaves the others alone:

    B    X = left @ core   (out x R)    right is frozen
    A    X = core @ right  (R x inp)    left is frozen
    M    X = core          (R x R)      left and right are frozen
    AB   both B and A, averaged apart: inexact, a baseline

A shell is a range of the R directions: columns of B, rows of A, and of M the entries (a, b) with max(a, b) in
the range, an L. A device of rank r fills the shells up to r and leaves the others alone, so that each shell
is averaged over those who trained it.

Shapes: R rank of the adapter, D entries of one shell over all modules.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple

from mimo_fed.config import AdapterConfig, Phase, from_dict
from mimo_fed.errors import ConfigError, SpecMismatch


class Module(NamedTuple):
    """One linear of the base that the adapter adds to."""

    name: str
    """dotted path in the base model"""
    out: int
    """rows of its weight"""
    inp: int
    """columns of its weight"""


Factor = Literal["B", "A", "M"]
FACTORS: Final[dict[Phase, tuple[Factor, ...]]] = {"B": ("B",), "A": ("A",), "M": ("M",), "AB": ("B", "A")}
"""what a phase trains of every module"""


class Part(NamedTuple):
    """One matrix that a phase trains."""

    name: str
    """`MODULE.FACTOR`"""
    module: str
    factor: Factor
    rows: int
    cols: int


class Shell(NamedTuple):
    """Directions low..high-1 of every module."""

    name: str
    """`r1-4` for low 0, high 4: columns as people count them"""
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class AdapterSpec:
    """The shape of an adapter on one base.

    Raises:
        SpecMismatch: no modules, a module twice or smaller than the rank, or shells that do not ascend to the
            rank.
    """

    base_fingerprint: str
    """digest of the base's weights and tokenizer, hexadecimal"""
    modules: tuple[Module, ...]
    """in the order of the base; also the order of a shell's entries"""
    config: AdapterConfig
    """rank, shells, seed of the first factors"""

    def __post_init__(self) -> None:
        names = [module.name for module in self.modules]
        if not names or len(set(names)) != len(names):
            raise SpecMismatch(f"an adapter needs modules of distinct names: {len(names)} given")
        for module in self.modules:
            if min(module.out, module.inp) < self.config.rank:
                raise SpecMismatch(
                    f"module is smaller than the rank: {module.name} {module.out} x {module.inp}"
                )
        bounds = self.config.shells
        ascending = list(bounds) == sorted(set(bounds)) and min(bounds, default=0) >= 1
        if not ascending or bounds[-1] != self.config.rank:
            raise SpecMismatch(f"shells do not ascend to the rank {self.config.rank}: {bounds}")

    @cached_property
    def shells(self) -> tuple[Shell, ...]:
        """All shells, innermost first."""
        highs = self.config.shells
        lows = (0, *highs[:-1])
        return tuple(Shell(f"r{low + 1}-{high}", low, high) for low, high in zip(lows, highs, strict=True))

    def shells_of(self, rank: int) -> tuple[Shell, ...]:
        """Return the shells that a device of this rank fills.

        Raises:
            SpecMismatch: the rank is not the upper bound of a shell.
        """
        if rank not in self.config.shells:
            raise SpecMismatch(f"rank is not one of {self.config.shells}: {rank}")
        return tuple(shell for shell in self.shells if shell.high <= rank)

    def shell(self, name: str) -> Shell:
        """Find a shell by its name.

        Raises:
            SpecMismatch: there is none of that name.
        """
        for shell in self.shells:
            if shell.name == name:
                return shell
        raise SpecMismatch(f"shell is not one of {[s.name for s in self.shells]}: {name!r}")

    def parts(self, phase: Phase) -> tuple[Part, ...]:
        """Return what a phase trains, in the order of a shell's entries.

        Raises:
            SpecMismatch: no such phase.
        """
        if phase not in FACTORS:
            raise SpecMismatch(f"phase is not one of {', '.join(FACTORS)}: {phase!r}")
        rank = self.config.rank
        return tuple(
            Part(
                f"{module.name}.{factor}",
                module.name,
                factor,
                module.out if factor == "B" else rank,
                module.inp if factor == "A" else rank,
            )
            for factor in FACTORS[phase]
            for module in self.modules
        )

    def dim(self, shell: Shell, phase: Phase) -> int:
        """Return D, the number of entries of a shell over all that a phase trains."""
        low, high = shell.low, shell.high
        return sum(
            {"B": part.rows * (high - low), "A": part.cols * (high - low), "M": high**2 - low**2}[part.factor]
            for part in self.parts(phase)
        )

    def to_json(self) -> bytes:
        """Canonical bytes: sorted keys, no spaces; a module is [name, out, inp]."""
        raw = {
            "base_fingerprint": self.base_fingerprint,
            "modules": [list(module) for module in self.modules],
            "config": asdict(self.config),
        }
        return json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> AdapterSpec:
        """Read what `to_json` wrote.

        Raises:
            SpecMismatch: not JSON, a field missing or unknown, or shells and modules that do not fit.
        """
        try:
            raw = json.loads(data)
            spec = cls(
                base_fingerprint=raw["base_fingerprint"],
                modules=tuple(Module(name, out, inp) for name, out, inp in raw["modules"]),
                config=from_dict(AdapterConfig, raw["config"]),
            )
            same = json.loads(spec.to_json()) == raw
        except (ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
            raise SpecMismatch(f"not the spec of an adapter: {error}") from None
        if not same:
            raise SpecMismatch(f"spec of an adapter holds more than a spec does: {', '.join(sorted(raw))}")
        return spec

    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hexadecimal."""
        return hashlib.sha256(self.to_json()).hexdigest()
