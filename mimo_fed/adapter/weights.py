"""The global adapter as values and as the bytes that are released: a plain PEFT LoRA in safetensors.

The same values always give the same bytes, and only those bytes are read back: an adapter has one digest.
Safetensors writes its metadata in hash order, so all of ours is one JSON text under one key.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from mimo_fed.adapter.basis import basis
from mimo_fed.adapter.spec import AdapterSpec
from mimo_fed.errors import DigestMismatch, SpecMismatch

_KEY = "mimo_fed"
_PREFIX = "base_model.model."


@dataclass(frozen=True, kw_only=True, eq=False)
class GlobalAdapter:
    """The adapter that all devices share; lora_A is the basis of the spec and is not stored here.

    Raises:
        SpecMismatch: names, shapes or types are not the spec's, or a value is not finite.
    """

    spec: AdapterSpec
    factors: dict[str, NDArray[np.float32]]
    """B per module, float32, shape (out, R)"""

    def __post_init__(self) -> None:
        if set(self.factors) != {module.name for module in self.spec.modules}:
            raise SpecMismatch(f"adapter has other modules than the spec: {len(self.factors)} given")
        for module in self.spec.modules:
            factor = self.factors[module.name]
            if factor.shape != (module.out, self.spec.config.rank) or factor.dtype != np.float32:
                raise SpecMismatch(f"lora_B of {module.name} is {factor.dtype} of shape {factor.shape}")
            if not np.isfinite(factor).all():
                raise SpecMismatch(f"adapter holds a number that is not finite: lora_B of {module.name}")

    @classmethod
    def zero(cls, spec: AdapterSpec) -> GlobalAdapter:
        """Return the adapter that changes nothing: release 0."""
        rank = spec.config.rank
        return cls(spec=spec, factors={m.name: np.zeros((m.out, rank), np.float32) for m in spec.modules})

    def to_safetensors(self) -> bytes:
        """Write lora_A and lora_B of every module; equal values give equal bytes."""
        tensors = dict(sorted(self._tensors().items()))
        return safetensors_numpy.save(tensors, metadata={_KEY: _metadata(self.spec)})

    @classmethod
    def from_safetensors(cls, data: bytes, spec: AdapterSpec) -> GlobalAdapter:
        """Read what `to_safetensors` wrote for this spec, and nothing else.

        Raises:
            DigestMismatch: the bytes are not a whole safetensors file.
            SpecMismatch: another spec, base or basis; other names, shapes or types; a value that is not
                finite; or bytes that `to_safetensors` would not have written.
        """
        try:
            tensors = safetensors_numpy.load(data)
            length = int.from_bytes(data[:8], "little")
            metadata = json.loads(data[8 : 8 + length]).get("__metadata__")
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise DigestMismatch(f"bytes are not a whole safetensors file: {error}") from None
        _check_metadata(metadata, spec)
        names = {_name(module.name, factor) for module in spec.modules for factor in "AB"}
        if set(tensors) != names:
            odd = sorted(set(tensors) ^ names)
            raise SpecMismatch(f"adapter has other tensors than the spec: {', '.join(odd[:3])}")
        adapter = cls(spec=spec, factors={m.name: tensors[_name(m.name, "B")] for m in spec.modules})
        for module, factor in basis(spec).items():
            given = tensors[_name(module, "A")]
            if given.dtype != np.float32 or not np.array_equal(given, factor):
                raise SpecMismatch(f"lora_A is not the basis of seed {spec.config.seed}: {module}")
        if adapter.to_safetensors() != data:
            raise SpecMismatch(f"adapter is not in canonical form: {len(data)} bytes")
        return adapter

    def peft_config(self) -> dict[str, Any]:
        """Return what belongs in `adapter_config.json` beside the bytes, for stock PEFT."""
        rank = self.spec.config.rank
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": rank,
            "lora_alpha": rank,
            "use_rslora": False,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "target_modules": self.spec.config.targets,
            "base_model_name_or_path": None,
        }

    def digest(self) -> str:
        """SHA-256 of `to_safetensors`, hexadecimal."""
        return hashlib.sha256(self.to_safetensors()).hexdigest()

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        fixed = basis(self.spec)
        tensors = {_name(name, "A"): factor for name, factor in fixed.items()}
        return tensors | {_name(name, "B"): np.ascontiguousarray(b) for name, b in self.factors.items()}


def _name(module: str, factor: str) -> str:
    return f"{_PREFIX}{module}.lora_{factor}.weight"


def _metadata(spec: AdapterSpec) -> str:
    raw = {
        "base_fingerprint": spec.base_fingerprint,
        "basis_epoch": spec.config.basis_epoch,
        "spec_digest": spec.digest(),
    }
    return json.dumps(raw, sort_keys=True, separators=(",", ":"))


def _check_metadata(metadata: object, spec: AdapterSpec) -> None:
    try:
        given = json.loads(metadata[_KEY]) if isinstance(metadata, dict) else {}
    except (ValueError, KeyError, TypeError):
        given = {}
    if not isinstance(given, dict):
        given = {}
    for key, value in json.loads(_metadata(spec)).items():
        if given.get(key) != value:
            raise SpecMismatch(
                f"adapter was made for another {key.replace('_', ' ')} than {value}: {given.get(key)}"
            )
