"""Move the global adapter by the mean of a round, shell by shell.

A shell is averaged over the devices that trained it. Counting the others as zeros would shrink the outer
shells towards nothing, the more so the fewer devices are large. A shell that stayed closed keeps its value.

Shapes: D entries of a shell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import GlobalAdapter, shell_to_delta
from mimo_fed.errors import ConfigError, SpecMismatch


def step(
    adapter: GlobalAdapter, means: Mapping[str, NDArray[np.floating]], server_lr: float
) -> GlobalAdapter:
    """Take one step of the server: B[shell] += server_lr * mean[shell].

    Args:
        adapter: what the round started from; left as it is.
        means: per opened shell, floats, shape (D,): weighted sum of updates over sum of weights.
        server_lr: eta, positive; 1 is plain averaging.

    Returns:
        The next adapter, of the same spec.

    Raises:
        ConfigError: the rate is not positive and finite.
        SpecMismatch: no such shell, a mean of another length, or one that is not finite.
    """
    if not (math.isfinite(server_lr) and server_lr > 0):
        raise ConfigError(f"server_lr must be positive and finite: {server_lr}")
    factors = {name: factor.astype(np.float64) for name, factor in adapter.factors.items()}
    for shell_name, mean_D in means.items():
        shell = adapter.spec.shell(shell_name)
        if not np.isfinite(mean_D).all():
            raise SpecMismatch(f"mean of a shell is not finite: {shell_name}")
        for name, block in shell_to_delta(adapter.spec, shell_name, mean_D).items():
            factors[name][:, shell.low : shell.high] += server_lr * block.astype(np.float64)
    return GlobalAdapter(
        spec=adapter.spec, factors={name: factor.astype(np.float32) for name, factor in factors.items()}
    )
