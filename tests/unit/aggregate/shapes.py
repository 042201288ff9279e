"""Small adapters with values, and what they add to a base."""

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, Module
from mimo_fed.config import AdapterConfig

SPEC = AdapterSpec(
    base_fingerprint="ab" * 32,
    modules=(Module("model.layers.0.x", 12, 9), Module("model.layers.1.x", 8, 14)),
    config=AdapterConfig(rank=6, shells=(2, 6), seed=5),
)


def filled(spec: AdapterSpec = SPEC, seed: int = 3) -> GlobalAdapter:
    """An adapter of random factors, on no particular basis."""
    rng = np.random.default_rng(seed)
    rank = spec.config.rank
    return GlobalAdapter(
        spec=spec,
        epoch=2,
        left={m.name: rng.normal(size=(m.out, rank)).astype(np.float32) for m in spec.modules},
        core={m.name: rng.normal(size=(rank, rank)).astype(np.float32) for m in spec.modules},
        right={m.name: rng.normal(size=(rank, m.inp)).astype(np.float32) for m in spec.modules},
    )


def product(adapter: GlobalAdapter) -> NDArray[np.float64]:
    """Return dW of all modules, one after another."""
    return np.concatenate(
        [
            (
                adapter.left[m].astype(np.float64)
                @ adapter.core[m].astype(np.float64)
                @ adapter.right[m].astype(np.float64)
            ).ravel()
            for m in adapter.left
        ]
    )
