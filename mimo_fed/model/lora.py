# mypy: disable-error-code="no-untyped-call"
"""The two LoRA branches of a device, as PEFT adapters on one frozen base.

y = W x + B_g V x + lambda * B_p A_p x. The global branch has the shared basis V as its A factor, which is
never trained; the personal branch never leaves the device. Scaling is 1 whatever the rank (`lora_alpha = r`),
so that devices of different rank compute the same function.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, basis
from mimo_fed.errors import SpecMismatch
from mimo_fed.model.base import Base

Arm = Literal["base", "global", "personal"]
Float32 = NDArray[np.float32]

_BRANCHES: dict[Arm, list[str]] = {"base": [], "global": ["global"], "personal": ["global", "personal"]}


class Branches:
    """The base with its branches; the base's tensors are shared with every other device model of the process.

    Args:
        base: the frozen base.
        spec: fixes the adapted modules, the rank and the basis.

    Raises:
        SpecMismatch: `spec` was made for another base, or names a module that this base lacks.
    """

    def __init__(self, base: Base, spec: AdapterSpec) -> None:
        if spec.base_fingerprint != base.fingerprint:
            raise SpecMismatch(f"the adapter is for another base: {spec.base_fingerprint[:12]}")
        if missing := sorted(set(spec.modules) - set(base.modules(spec.config.targets))):
            raise SpecMismatch(f"the base has no such linear layer: {missing[0]}")
        self._spec = spec
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            peft_model: Any = get_peft_model(
                _sharing(base.model), _lora_config(spec, spec.config.rank), adapter_name="global"
            )
        assert isinstance(peft_model, PeftModel)  # noqa: S101 - for the type checker
        self._peft = peft_model
        inner: Any = peft_model.base_model.model
        self.model: PreTrainedModel = inner
        modules = dict(inner.named_modules())
        self._layers: dict[str, LoraLayer] = {module.name: modules[module.name] for module in spec.modules}
        with torch.no_grad():
            for name, rows in basis(spec).items():
                self._weight(name, "A", "global").copy_(torch.from_numpy(rows))
                self._weight(name, "B", "global").zero_()
        self.personal_rank = 0
        self.personal_scale = 0.0
        self.use("global")
        inner.eval()

    def _weight(self, module: str, factor: Literal["A", "B"], branch: str) -> nn.Parameter:
        layer = self._layers[module]
        weight = (layer.lora_A if factor == "A" else layer.lora_B)[branch].weight
        assert isinstance(weight, nn.Parameter)  # noqa: S101 - for the type checker
        return weight

    def use(self, arm: Arm) -> None:
        """Let the forward pass run with the branches of `arm`, all frozen."""
        names = _BRANCHES[arm] if self.personal_rank else [n for n in _BRANCHES[arm] if n != "personal"]
        for layer in self._layers.values():
            layer.set_adapter(names, inference_mode=True)

    def trainable(self, branch: Literal["global", "personal"]) -> list[nn.Parameter]:
        """Unfreeze what a branch trains, after `use`: B of the global one, A and B of the personal one."""
        factors: Sequence[Literal["A", "B"]] = ("B",) if branch == "global" else ("A", "B")
        weights = [self._weight(name, factor, branch) for name in self._layers for factor in factors]
        for weight in weights:
            weight.requires_grad_(True)
        return weights

    def freeze(self) -> None:
        """Freeze both branches and drop their gradients."""
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None

    def set_global(self, adapter: GlobalAdapter) -> None:
        """Copy an adapter's factors, checked before, into the global branch."""
        with torch.no_grad():
            for name, factor in adapter.factors.items():
                self._weight(name, "B", "global").copy_(torch.from_numpy(np.array(factor, dtype=np.float32)))

    def global_factors(self, rank: int) -> dict[str, Float32]:
        """Return copies of the first `rank` columns of every global B."""
        return {
            name: self._weight(name, "B", "global").detach()[:, :rank].to("cpu", copy=True).numpy()
            for name in self._layers
        }

    def keep_columns(self, rank: int) -> None:
        """Zero the gradients of the global B beyond column `rank`: AdamW without decay leaves those alone."""
        for name in self._layers if rank < self._spec.config.rank else ():
            gradient = self._weight(name, "B", "global").grad
            if gradient is not None:
                gradient[:, rank:] = 0

    def start_personal(self, rank: int, seed: int) -> None:
        """Create the personal branch: A random from `seed`, B zero, so that it changes nothing yet."""
        if self.personal_rank:
            self._peft.delete_adapter("personal")
            self.personal_rank = 0
        self._peft.add_adapter("personal", _lora_config(self._spec, rank))
        self.personal_rank = rank
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name in self._layers:
                weight = self._weight(name, "A", "personal")
                bound = 1 / math.sqrt(weight.shape[1])
                weight.copy_((torch.rand(weight.shape, generator=generator) * 2 - 1) * bound)
                self._weight(name, "B", "personal").zero_()
        self.scale_personal(1.0)
        self.use("global")

    def drop_personal(self) -> None:
        """Forget the personal branch."""
        if self.personal_rank:
            self._peft.delete_adapter("personal")
        self.personal_rank, self.personal_scale = 0, 0.0

    def scale_personal(self, scale: float) -> None:
        """Set lambda, the personal branch's share."""
        for layer in self._layers.values():
            layer.set_scale("personal", scale)
        self.personal_scale = scale

    def personal_tensors(self) -> dict[str, torch.Tensor]:
        """Return copies of the personal factors by PEFT's names."""
        return {
            f"base_model.model.{name}.lora_{factor}.weight": self._weight(name, factor, "personal")
            .detach()
            .to("cpu", copy=True)
            for name in (self._layers if self.personal_rank else ())
            for factor in _FACTORS
        }

    def set_personal(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copy what `personal_tensors` returned, of the same rank, back into the branch."""
        with torch.no_grad():
            for name in self._layers:
                for factor in _FACTORS:
                    value = tensors[f"base_model.model.{name}.lora_{factor}.weight"]
                    self._weight(name, factor, "personal").copy_(value)


_FACTORS: tuple[Literal["A", "B"], ...] = ("A", "B")


def _lora_config(spec: AdapterSpec, rank: int) -> LoraConfig:
    return LoraConfig(
        r=rank,
        lora_alpha=rank,
        use_rslora=False,
        lora_dropout=0.0,
        bias="none",
        target_modules=spec.config.targets,
        task_type="CAUSAL_LM",
    )


def _sharing(model: PreTrainedModel) -> PreTrainedModel:
    """Copy the modules of `model` and share its tensors: PEFT replaces modules in place."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)
