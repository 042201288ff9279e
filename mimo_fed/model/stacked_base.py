# mypy: disable-error-code="no-untyped-call"
"""The base as many devices see it at once: its tensors shared, its target linears able to carry branches."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.errors import ConfigError, SpecMismatch
from mimo_fed.model.base import Base
from mimo_fed.model.frozen_norm import FrozenNorm
from mimo_fed.model.stacked_linear import Lift, StackedBranch, StackedLinear


class StackedBase:
    """A base whose linears take the branches of a pass.

    Args:
        base: the frozen base; nothing of it changes.
        modules: names of the linears.

    Raises:
        SpecMismatch: the base has no linear of such a name.
        ConfigError: the base is not of float32, so that products would be rounded as no single device rounds
            them, or not in the processor's memory, where the branches are.
    """

    def __init__(self, base: Base, modules: Iterable[str]) -> None:
        if base.model.dtype != torch.float32:
            raise ConfigError(
                f"many devices at once are computed in float32, not {base.model.dtype}",
                hint="load the base with dtype float32",
            )
        if base.model.device.type != "cpu":
            raise ConfigError(
                f"many devices at once are computed on the processor, not on {base.model.device}"
            )
        shared = {id(tensor): tensor for tensor in (*base.model.parameters(), *base.model.buffers())}
        self.model: PreTrainedModel = copy.deepcopy(base.model, shared)
        self._linears: dict[str, StackedLinear] = {}
        known = dict(self.model.named_modules())
        for name in modules:
            linear = known.get(name)
            if not isinstance(linear, nn.Linear):
                raise SpecMismatch(f"the base has no such linear layer: {name}")
            parent, _, own = name.rpartition(".")
            self._linears[name] = StackedLinear(linear)
            setattr(known[parent], own, self._linears[name])

        for name, norm in known.items():
            if isinstance(norm, Qwen2RMSNorm):
                parent, _, own = name.rpartition(".")
                setattr(known[parent], own, FrozenNorm(norm))

    def fold(self, adapter: GlobalAdapter | None) -> None:
        """Let an adapter that all devices share and nobody trains be a part of the base; None: no adapter."""
        lora = {} if adapter is None else adapter.lora()
        for name, linear in self._linears.items():
            product = None
            if name in lora:
                left, right = (torch.from_numpy(factor.copy()) for factor in lora[name])
                product = left @ right
            linear.fold(product)

    def mount(
        self,
        num_devices: int,
        trained: Mapping[str, StackedBranch],
        frozen: Sequence[Mapping[str, StackedBranch]] = (),
    ) -> None:
        """Put the branches of a pass on the linears, in place of those of the pass before.

        Args:
            num_devices: N; the first dimension of a batch is a multiple of it.
            trained: one branch a module, or none.
            frozen: more branches, each a device's own.
        """
        for name, linear in self._linears.items():
            others = [branches[name] for branches in frozen if name in branches]
            lift = Lift(num_devices=num_devices, trained=trained.get(name), frozen=others)
            linear.lift = lift if lift.branches else None

    def clear(self) -> None:
        """Take all branches away and let go of their memory."""
        self.mount(1, {})
        self.fold(None)
