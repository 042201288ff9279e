# mypy: disable-error-code="no-untyped-call"
"""The three LoRA branches of a device, as PEFT adapters on one frozen base.

y = W x + B_g A_g x + B_c A_c x + lambda * B_p A_p x: the global branch, that of the device's cohort (if it is
in one), and the personal one, which never leaves the device. The first two hold released adapters: B is
left @ core, A is right. Scaling is 1 whatever the rank (`lora_alpha = r`), so that devices of different rank
compute the same function.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.errors import SpecMismatch
from mimo_fed.model.base import Base

Arm = Literal["base", "global", "cohort", "personal"]
Shared = Literal["global", "cohort"]
Factor = Literal["A", "B"]
Float32 = NDArray[np.float32]

_BRANCHES: dict[Arm, tuple[str, ...]] = {
    "base": (),
    "global": ("global",),
    "cohort": ("global", "cohort"),
    "personal": ("global", "cohort", "personal"),
}
_FACTORS: tuple[Factor, ...] = ("A", "B")


class Branches:
    """The base with its branches; the base's tensors are shared with every other device model of the process.

    Args:
        base: the frozen base.
        spec: fixes the modules of the global and of the personal branch.
        cohort_spec: fixes those of the cohort branch; None if the device takes part in no cohort.
        checkpointing: in training, forget what a decoder layer computed and compute it again in the backward
            pass: less memory, about a third more time, the same results.

    Raises:
        SpecMismatch: a spec was made for another base, or names a module that this base lacks.
    """

    def __init__(
        self,
        base: Base,
        spec: AdapterSpec,
        cohort_spec: AdapterSpec | None = None,
        *,
        checkpointing: bool = False,
    ) -> None:
        for one in (spec, cohort_spec):
            if one is not None:
                _check(base, one)
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
        self._checkpointing = checkpointing
        if checkpointing:
            inner.activation_checkpointing_enable({"use_reentrant": False})
        self._layers: dict[str, LoraLayer] = {}
        self._find_layers()
        self.has_cohort = False
        self.personal_rank = 0
        self.personal_scale = 0.0
        self.set_shared("global", GlobalAdapter.zero(spec))
        inner.eval()

    def _find_layers(self) -> None:
        self._layers = {
            name: module for name, module in self.model.named_modules() if isinstance(module, LoraLayer)
        }

    def weight(self, module: str, factor: Factor, branch: str) -> nn.Parameter:
        """Return one factor as the forward pass uses it: A (R, inp) or B (out, R)."""
        layer = self._layers[module]
        weight = (layer.lora_A if factor == "A" else layer.lora_B)[branch].weight
        assert isinstance(weight, nn.Parameter)  # noqa: S101 - for the type checker
        return weight

    def use(self, arm: Arm) -> None:
        """Let the forward pass run with those branches of `arm` that are there, all frozen."""
        there = {"global": True, "cohort": self.has_cohort, "personal": self.personal_scale != 0}
        names = [name for name in _BRANCHES[arm] if there[name]]
        for layer in self._layers.values():
            layer.set_adapter(names, inference_mode=True)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Take training steps inside; afterwards nothing is trainable or has a gradient."""
        layers = [m for m in self.model.modules() if isinstance(m, GradientCheckpointingLayer)]
        try:
            for layer in layers if self._checkpointing else ():
                layer.training = True
            yield
        finally:
            for layer in layers:
                layer.training = False
            for parameter in self.model.parameters():
                parameter.requires_grad_(False)
                parameter.grad = None

    def set_shared(self, branch: Shared, adapter: GlobalAdapter | None) -> None:
        """Make a branch be an adapter, checked before; None (of a cohort) takes the branch away."""
        if branch == "cohort" and (adapter is not None) != self.has_cohort:
            self._toggle_cohort(adapter)
        for name, (b, a) in adapter.lora().items() if adapter is not None else ():
            self.write(name, "A", branch, a)
            self.write(name, "B", branch, b)
        self.use("global")

    def _toggle_cohort(self, adapter: GlobalAdapter | None) -> None:
        self.use("global")
        if adapter is None:
            self._peft.delete_adapter("cohort")
        else:
            self._peft.add_adapter("cohort", _lora_config(adapter.spec, adapter.spec.config.rank))
            self._find_layers()
        self.has_cohort = adapter is not None

    def write(self, module: str, factor: Factor, branch: str, values: Float32) -> None:
        """Copy values into one factor."""
        with torch.no_grad():
            self.weight(module, factor, branch).copy_(torch.from_numpy(np.array(values, dtype=np.float32)))

    def personal_weights(self) -> list[nn.Parameter]:
        """Return the parameters of the personal branch, unfrozen."""
        weights = [self.weight(m.name, factor, "personal") for m in self._spec.modules for factor in _FACTORS]
        for weight in weights:
            weight.requires_grad_(True)
        return weights

    def start_personal(self, rank: int, seed: int) -> None:
        """Create the personal branch: A random from `seed`, B zero, so that it changes nothing yet."""
        self.drop_personal()
        self._peft.add_adapter("personal", _lora_config(self._spec, rank))
        self._find_layers()
        self.personal_rank = rank
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for module in self._spec.modules:
                weight = self.weight(module.name, "A", "personal")
                bound = 1 / math.sqrt(weight.shape[1])
                weight.copy_((torch.rand(weight.shape, generator=generator) * 2 - 1) * bound)
                self.weight(module.name, "B", "personal").zero_()
        self.scale_personal(1.0)
        self.use("global")

    def drop_personal(self) -> None:
        """Forget the personal branch."""
        if self.personal_rank:
            self.use("global")
            self._peft.delete_adapter("personal")
        self.personal_rank, self.personal_scale = 0, 0.0

    def scale_personal(self, scale: float) -> None:
        """Set lambda, the personal branch's share."""
        for module in self._spec.modules:
            self._layers[module.name].set_scale("personal", scale)
        self.personal_scale = scale

    def personal_tensors(self) -> dict[str, torch.Tensor]:
        """Return copies of the personal factors by PEFT's names."""
        return {
            f"base_model.model.{module.name}.lora_{factor}.weight": self.weight(
                module.name, factor, "personal"
            )
            .detach()
            .to("cpu", copy=True)
            for module in (self._spec.modules if self.personal_rank else ())
            for factor in _FACTORS
        }

    def set_personal(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copy what `personal_tensors` returned, of the same rank, back into the branch."""
        with torch.no_grad():
            for module in self._spec.modules:
                for factor in _FACTORS:
                    value = tensors[f"base_model.model.{module.name}.lora_{factor}.weight"]
                    self.weight(module.name, factor, "personal").copy_(value)


def _check(base: Base, spec: AdapterSpec) -> None:
    if spec.base_fingerprint != base.fingerprint:
        raise SpecMismatch(f"the adapter is for another base: {spec.base_fingerprint[:12]}")
    if missing := sorted(set(spec.modules) - set(base.modules(spec.config.targets))):
        raise SpecMismatch(f"the base has no such linear layer: {missing[0]}")


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
