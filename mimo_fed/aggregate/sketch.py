"""The mean of any low-rank updates from two secure sums, without one shared factor.

Device k holds P_k = B_k @ A_k, whatever rank and factors it trained. With O a random matrix that all know:

    first sum     Y = sum of w_k P_k O      (out, S)     then everyone computes Q, a basis of Y's columns
    second sum    Z = sum of w_k Q^T P_k    (S, inp)     then dW = Q Z / N, N = sum of w_k

Exact iff the sketch is at least as wide as the rank of the mean, which is up to the sum of the devices'
ranks; narrower, it keeps the directions that matter most, nearly. P_k is never formed (it is out x inp).
The mean is then cut to the adapter's rank.

Shapes: R rank of the adapter, S width of the sketch, r rank of a device, out and inp of a module.
Ref: FedASK (2025; two sketches); Halko, Martinsson, Tropp 2011 (random range finding).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, Module
from mimo_fed.errors import ConfigError, SpecMismatch

Floats = NDArray[np.floating]
Matrices = Mapping[str, Floats]
F64 = NDArray[np.float64]
_DOMAIN = "mimo-fed/sketch/v1"


def signs(module: Module, width: int, seed: int) -> F64:
    """Derive O of a module: random signs, alike for every party.

    Args:
        module: its `inp` is the number of rows.
        width: S.
        seed: public; another one each round.

    Returns:
        float64, shape (inp, S), entries +-1.

    Raises:
        ConfigError: the width is not positive.
    """
    if width < 1:
        raise ConfigError(f"width of a sketch must be positive: {width}")
    count = module.inp * width
    text = f"{_DOMAIN}\n{seed}\n{module.name}\n{width}".encode()
    stream = hashlib.shake_256(text).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8), count=count, bitorder="little")
    values: F64 = 1.0 - 2.0 * bits.astype(np.float64)
    return values.reshape(module.inp, width)


def first_upload(
    spec: AdapterSpec, product: Mapping[str, tuple[Floats, Floats]], width: int, seed: int
) -> dict[str, F64]:
    """Compute what a device adds to the first sum, before its weight: P O = B (A O).

    Args:
        spec: names and sizes of the modules.
        product: per module, B (out, r) and A (r, inp).
        width: S.
        seed: public.

    Returns:
        Per module, float64, shape (out, S).

    Raises:
        SpecMismatch: other modules or shapes.
    """
    _check(spec, product)
    return {
        module.name: product[module.name][0] @ (product[module.name][1] @ signs(module, width, seed))
        for module in spec.modules
    }


def basis_of(first_sum: Matrices) -> dict[str, F64]:
    """Compute Q, an orthonormal basis of the columns of an opened first sum.

    Args:
        first_sum: per module, shape (out, S), S at most out.

    Returns:
        Per module, float64, shape (out, S).

    Raises:
        SpecMismatch: the sketch is wider than the module is tall, or a number is not finite.
    """
    basis: dict[str, F64] = {}
    for name, total in first_sum.items():
        if total.shape[1] > total.shape[0] or not np.isfinite(total).all():
            raise SpecMismatch(f"no basis can be made of this sum: {name} of shape {total.shape}")
        basis[name] = np.linalg.qr(np.asarray(total, np.float64))[0]
    return basis


def second_upload(
    spec: AdapterSpec, product: Mapping[str, tuple[Floats, Floats]], basis: Matrices
) -> dict[str, F64]:
    """Compute what a device adds to the second sum, before its weight: Q^T P = (Q^T B) A.

    Args:
        spec: names and sizes of the modules.
        product: per module, B (out, r) and A (r, inp); the same as in the first sum.
        basis: per module, Q, shape (out, S).

    Returns:
        Per module, float64, shape (S, inp).

    Raises:
        SpecMismatch: other modules or shapes.
    """
    _check(spec, product)
    return {
        name: (np.asarray(basis[name], np.float64).T @ b) @ a.astype(np.float64)
        for name, (b, a) in product.items()
    }


def join(
    spec: AdapterSpec, basis: Matrices, second_sum: Matrices, *, weight: float, epoch: int
) -> GlobalAdapter:
    """Make the adapter of dW = Q Z / N, cut to its rank.

    Args:
        spec: shape of the adapter; R at most S.
        basis: per module, Q, shape (out, S).
        second_sum: per module, the opened Z, shape (S, inp).
        weight: N, positive.
        epoch: basis epoch of the result.

    Returns:
        The best adapter of rank R for that dW: left and right orthonormal, core diagonal and descending.

    Raises:
        SpecMismatch: the sketch is narrower than the adapter, or other modules or shapes.
    """
    if not weight > 0:
        raise SpecMismatch(f"a mean needs a positive weight: {weight}")
    rank = spec.config.rank
    left, core, right = {}, {}, {}
    for module in spec.modules:
        q, z = np.asarray(basis[module.name], np.float64), np.asarray(second_sum[module.name], np.float64)
        if q.shape[1] < rank or q.shape[0] != module.out or z.shape != (q.shape[1], module.inp):
            raise SpecMismatch(f"sketch does not fit the adapter: {module.name} of width {q.shape[1]}")
        u, singular, vt = np.linalg.svd(z / weight, full_matrices=False)
        left[module.name] = np.ascontiguousarray(q @ u[:, :rank], dtype=np.float32)
        core[module.name] = np.diag(singular[:rank]).astype(np.float32)
        right[module.name] = np.ascontiguousarray(vt[:rank], dtype=np.float32)
    return GlobalAdapter(spec=spec, epoch=epoch, left=left, core=core, right=right)


def num_floats(spec: AdapterSpec, width: int) -> int:
    """Count the floats that a device uploads in both sums."""
    return sum(width * (module.out + module.inp) for module in spec.modules)


def _check(spec: AdapterSpec, product: Mapping[str, tuple[Floats, Floats]]) -> None:
    if set(product) != {module.name for module in spec.modules}:
        raise SpecMismatch(f"update has other modules than the spec: {len(product)} given")
    for module in spec.modules:
        b, a = product[module.name]
        if b.shape[0] != module.out or a.shape[1] != module.inp or b.shape[1] != a.shape[0]:
            raise SpecMismatch(f"factors of {module.name} do not fit: {b.shape} and {a.shape}")
