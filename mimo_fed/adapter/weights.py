"""The adapter as values and as the bytes that are released.

A release holds left, core and right of every module, float32, in safetensors, so that a phase starts from the
very factors that were signed. Left or right is left out while it is still the seed's: release 0 holds zero
cores alone. `lora` gives the two factors that a LoRA layer wants; `to_peft` writes them for stock PEFT.

The same values always give the same bytes, and only those bytes are read back: an adapter has one digest.
Safetensors writes its metadata in hash order, so all of ours is one JSON text under one key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from mimo_fed.adapter.basis import Factors, basis, left_basis
from mimo_fed.adapter.spec import AdapterSpec, Factor
from mimo_fed.config import Phase
from mimo_fed.errors import DigestMismatch, SpecMismatch

MAX_EPOCH: Final = (1 << 31) - 1
_KEY = "mimo_fed"
_SIDES: Final = ("left", "core", "right")


@dataclass(frozen=True, kw_only=True, eq=False)
class GlobalAdapter:
    """An adapter that devices share: dW = left @ core @ right of every module, scaling 1.

    Raises:
        SpecMismatch: names, shapes or types are not the spec's, a value is not finite, or the epoch is out of
            range.
    """

    spec: AdapterSpec
    epoch: int
    """how often the basis has changed; a delta is exact only in the basis it was trained in"""
    left: Factors
    """per module, float32, shape (out, R)"""
    core: Factors
    """per module, float32, shape (R, R)"""
    right: Factors
    """per module, float32, shape (R, inp)"""

    def __post_init__(self) -> None:
        if not 0 <= self.epoch <= MAX_EPOCH:
            raise SpecMismatch(f"adapter has no such basis epoch: {self.epoch}")
        rank = self.spec.config.rank
        for side in _SIDES:
            factors: Factors = getattr(self, side)
            if set(factors) != {module.name for module in self.spec.modules}:
                raise SpecMismatch(f"adapter has other modules than the spec: {len(factors)} given")
            for module in self.spec.modules:
                factor = factors[module.name]
                wanted = {"left": (module.out, rank), "core": (rank, rank), "right": (rank, module.inp)}[side]
                if factor.shape != wanted or factor.dtype != np.float32:
                    raise SpecMismatch(f"{side} of {module.name} is {factor.dtype} of shape {factor.shape}")
                if not np.isfinite(factor).all():
                    raise SpecMismatch(f"adapter holds a number that is not finite: {side} of {module.name}")

    @classmethod
    def zero(cls, spec: AdapterSpec) -> GlobalAdapter:
        """Return the adapter that changes nothing, on the basis of the seed: release 0."""
        core = {m.name: np.zeros((spec.config.rank,) * 2, np.float32) for m in spec.modules}
        return cls(spec=spec, epoch=0, left=left_basis(spec), core=core, right=basis(spec))

    def values(self, phase: Phase) -> dict[str, NDArray[np.float32]]:
        """Return X, what a phase trains. In AB the core is in B alone, so that the product of both is dW.

        Returns:
            Per part name, float32, shape (rows, cols).
        """
        if phase == "AB":
            return self.values("B") | {f"{module}.A": right for module, right in self.right.items()}
        return {part.name: self._value(part.factor, part.module) for part in self.spec.parts(phase)}

    def _value(self, factor: Factor, module: str) -> NDArray[np.float32]:
        core = self.core[module]
        if factor == "B":
            return _product(self.left[module], core)
        return _product(core, self.right[module]) if factor == "A" else core

    def with_values(self, phase: Phase, values: Mapping[str, NDArray[np.floating]]) -> GlobalAdapter:
        """Return the adapter with another X, and the factors that the phase leaves alone.

        For AB this is the product of the two, as FedIT takes it, and both old factors are gone.

        Args:
            phase: what `values` are of.
            values: per part name, floats, shape (rows, cols).

        Raises:
            SpecMismatch: other parts than the phase trains, another shape, or a value that is not finite.
        """
        if set(values) != {part.name for part in self.spec.parts(phase)}:
            raise SpecMismatch(f"values are of other parts than phase {phase} trains: {len(values)} given")
        given = {
            (part.factor, part.module): np.ascontiguousarray(values[part.name], dtype=np.float32)
            for part in self.spec.parts(phase)
        }
        new = {f: {m: value for (factor, m), value in given.items() if factor == f} for f in "BAM"}
        if phase == "M":
            return replace(self, core=new["M"])
        one = np.eye(self.spec.config.rank, dtype=np.float32)
        core = {module.name: one.copy() for module in self.spec.modules}
        return replace(self, left=new["B"] or self.left, core=core, right=new["A"] or self.right)

    def canonical(self) -> GlobalAdapter:
        """Return the same dW on the basis of its own singular vectors, one epoch on.

        Left has orthonormal columns, right orthonormal rows, core is diagonal and descends: the shells of a
        small device are the directions that matter most. Directions in which dW is zero are orthonormal too,
        so that they can still be trained. How: QR of both sides, SVD of the R x R product.

        Raises:
            SpecMismatch: there is no epoch after this one.
        """
        left: Factors = {}
        core: Factors = {}
        right: Factors = {}
        for name in (module.name for module in self.spec.modules):
            q_left, r_left = np.linalg.qr(self.left[name].astype(np.float64))
            q_right, r_right = np.linalg.qr(self.right[name].astype(np.float64).T)
            inner = r_left @ self.core[name].astype(np.float64) @ r_right.T
            u, singular, vt = np.linalg.svd(inner)
            left[name] = np.ascontiguousarray(q_left @ u, dtype=np.float32)
            core[name] = np.diag(singular).astype(np.float32)
            right[name] = np.ascontiguousarray(vt @ q_right.T, dtype=np.float32)
        return replace(self, epoch=self.epoch + 1, left=left, core=core, right=right)

    def lora(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return (lora_B, lora_A) of every module: left @ core and right, for a scaling of 1."""
        return {name: (_product(left, self.core[name]), self.right[name]) for name, left in self.left.items()}

    def to_safetensors(self) -> bytes:
        """Write the factors; equal values give equal bytes."""
        stored = ("core", *self._moved())
        tensors = {f"{m}.{side}": factor for side in stored for m, factor in getattr(self, side).items()}
        note = {
            "base_fingerprint": self.spec.base_fingerprint,
            "basis_epoch": self.epoch,
            "spec_digest": self.spec.digest(),
        }
        metadata = {_KEY: json.dumps(note, sort_keys=True, separators=(",", ":"))}
        ordered = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
        return safetensors_numpy.save(ordered, metadata=metadata)

    @classmethod
    def from_safetensors(cls, data: bytes, spec: AdapterSpec) -> GlobalAdapter:
        """Read what `to_safetensors` wrote for this spec, and nothing else.

        Raises:
            DigestMismatch: the bytes are not a whole safetensors file.
            SpecMismatch: another spec or base; other names, shapes or types; a value that is not finite; or
                bytes that `to_safetensors` would not have written.
        """
        tensors = read_tensors(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__")
        epoch = _epoch(metadata, spec)
        sides: dict[str, Factors] = {side: {} for side in _SIDES}
        for name, tensor in tensors.items():
            module, _, side = name.rpartition(".")
            if side not in sides:
                raise SpecMismatch(f"adapter has other tensors than the spec: {name}")
            sides[side][module] = tensor
        adapter = cls(
            spec=spec,
            epoch=epoch,
            left=sides["left"] or left_basis(spec),
            core=sides["core"],
            right=sides["right"] or basis(spec),
        )
        if adapter.to_safetensors() != data:
            raise SpecMismatch(f"adapter is not in canonical form: {len(data)} bytes")
        return adapter

    def digest(self) -> str:
        """SHA-256 of `to_safetensors`, hexadecimal."""
        return hashlib.sha256(self.to_safetensors()).hexdigest()

    def _moved(self) -> tuple[str, ...]:
        """Return the sides that are not those of the seed any more."""
        seeded = {"left": left_basis(self.spec), "right": basis(self.spec)}
        return tuple(
            side
            for side, first in seeded.items()
            if any(not np.array_equal(getattr(self, side)[m], factor) for m, factor in first.items())
        )


def read_tensors(data: bytes) -> dict[str, NDArray[Any]]:
    """Read the tensors of a safetensors file.

    Raises:
        DigestMismatch: not a whole safetensors file.
        SpecMismatch: numbers of a type that numpy lacks.
    """
    try:
        return safetensors_numpy.load(data)
    except (SafetensorError, ValueError, TypeError) as error:
        raise DigestMismatch(f"bytes are not a whole safetensors file: {error}") from None
    except KeyError as error:
        raise SpecMismatch(
            f"tensors are of a type that cannot be read: {error.args[0]}", hint="save them as float32"
        ) from None


def _product(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply in float64, round once."""
    product: NDArray[np.float32] = (one.astype(np.float64) @ other.astype(np.float64)).astype(np.float32)
    return product


def _epoch(metadata: Any, spec: AdapterSpec) -> int:
    """Check what the file says of itself, and return its basis epoch."""
    try:
        note = json.loads(metadata[_KEY])
        found, epoch = (note["base_fingerprint"], note["spec_digest"]), note["basis_epoch"]
    except (TypeError, KeyError, ValueError, RecursionError):
        raise SpecMismatch("adapter does not say what it was made for") from None
    if found != (spec.base_fingerprint, spec.digest()):
        raise SpecMismatch(f"adapter was made for another base or shape: {str(found[1])[:16]}")
    if type(epoch) is not int:
        raise SpecMismatch(f"adapter has no such basis epoch: {epoch!r}")
    return epoch
