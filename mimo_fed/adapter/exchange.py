"""An adapter as others keep one: the two files of a PEFT LoRA.

lora_B = left @ core and lora_A = right, with a scaling of 1: stock PEFT computes what a device computes, to
float32's last digit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from safetensors import numpy as safetensors_numpy

from mimo_fed.adapter.basis import Factors
from mimo_fed.adapter.spec import AdapterSpec
from mimo_fed.adapter.weights import GlobalAdapter, read_tensors
from mimo_fed.errors import SpecMismatch

_PREFIX = "base_model.model."


def to_peft(adapter: GlobalAdapter) -> tuple[bytes, dict[str, Any]]:
    """Write an adapter for stock PEFT.

    Returns:
        What belongs in `adapter_model.safetensors`, and in `adapter_config.json`.
    """
    rank = adapter.spec.config.rank
    tensors = {}
    for module, (lora_b, lora_a) in adapter.lora().items():
        tensors[_name(module, "A")] = np.ascontiguousarray(lora_a)
        tensors[_name(module, "B")] = np.ascontiguousarray(lora_b)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "use_rslora": False,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": adapter.spec.config.targets,
        "base_model_name_or_path": None,
    }
    return safetensors_numpy.save(dict(sorted(tensors.items())), metadata={"format": "pt"}), config


def from_peft(data: bytes, spec: AdapterSpec) -> GlobalAdapter:
    """Read an `adapter_model.safetensors` of this rank and scaling 1, and put it on its own basis.

    Args:
        data: the file.
        spec: shape of the adapter; says the rank.

    Returns:
        The same dW, canonical, in basis epoch 1: nothing was trained in an earlier one.

    Raises:
        DigestMismatch: not a whole safetensors file.
        SpecMismatch: other names or shapes, not floats, or a value that is not finite.
    """
    tensors = read_tensors(data)
    names = {_name(module.name, factor) for module in spec.modules for factor in "AB"}
    if set(tensors) != names:
        raise SpecMismatch(
            f"LoRA has other tensors than the spec: {', '.join(sorted(set(tensors) ^ names)[:3])}"
        )
    if odd := sorted(name for name, tensor in tensors.items() if tensor.dtype.kind != "f"):
        raise SpecMismatch(f"LoRA holds a tensor that is not of floats: {odd[0]}")
    one = np.eye(spec.config.rank, dtype=np.float32)

    def side(factor: str) -> Factors:
        with np.errstate(over="ignore"):
            return {m.name: tensors[_name(m.name, factor)].astype(np.float32) for m in spec.modules}

    core = {module.name: one.copy() for module in spec.modules}
    return GlobalAdapter(spec=spec, epoch=0, left=side("B"), core=core, right=side("A")).canonical()


def _name(module: str, factor: str) -> str:
    return f"{_PREFIX}{module}.lora_{factor}.weight"
