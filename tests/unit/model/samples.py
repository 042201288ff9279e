"""Adapters to install, and the whole state of a device's model to compare."""

from __future__ import annotations

import numpy as np
import torch

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.model import DeviceModel

NAME = "model.layers.0.mlp.up_proj"


def random_adapter(spec: AdapterSpec, seed: int, size: float = 0.02) -> GlobalAdapter:
    """B from N(0, size^2) on the right factor of the seed."""
    generator = np.random.default_rng(seed)
    zero = GlobalAdapter.zero(spec)
    shapes = {name: values.shape for name, values in zero.values("B").items()}
    return zero.with_values("B", {n: generator.normal(size=shape) * size for n, shape in shapes.items()})


def state(device: DeviceModel) -> dict[str, torch.Tensor]:
    """Copies of every tensor of the model and its branches."""
    return {name: tensor.clone() for name, tensor in device._branches.model.state_dict().items()}


def assert_same(now: dict[str, torch.Tensor], before: dict[str, torch.Tensor]) -> None:
    """The same tensors, bit for bit."""
    assert now.keys() == before.keys()
    assert not [name for name in now if not torch.equal(now[name], before[name])]
