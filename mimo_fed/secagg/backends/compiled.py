"""The kernels, compiled for this machine or read from numba's cache on disk.

The cache lies in NUMBA_CACHE_DIR, else beside the code, else in the user's cache directory. One that was
filled when an image was built (`python -m mimo_fed.secagg.backends`) serves where files can only be read.
Where there is none and none can be written, each process compiles for itself, in a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numba
from numba import types
from numba.core.caching import InTreeCacheLocator, UserProvidedCacheLocator

from mimo_fed.secagg.backends import kernels

Kernel = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """Compiled loops; `kernels` says what each does.

    Attributes:
        refused: finds words that are no residues.
        first_sweep: the product by the secret and the first two levels of the inverse transform.
        sweeps: the other nine levels, in order.
        add: adds residues.
        add_binomial: adds residues and errors.
        rounders: word size to the loop that rounds.
        add_packed: adds words of 24 bits to a sum.
        lifters: word size to the loop that lifts a mask.
    """

    refused: Kernel
    first_sweep: Kernel
    sweeps: tuple[Kernel, ...]
    add: Kernel
    add_binomial: Kernel
    rounders: dict[int, Kernel]
    add_packed: Kernel
    lifters: dict[int, Kernel]


@cache
def compile_kernels() -> Kernels:
    """Compile, or read what was compiled before; once for a process."""
    try:
        with _cache_on_disk():
            return _compile(on_disk=True)
    except (RuntimeError, OSError):  # numba finds no place for a cache, or cannot write to it
        return _compile(on_disk=False)


def _compile(*, on_disk: bool) -> Kernels:
    row, out = _array(types.uint32), _array(types.uint32, writable=True)
    positions, total = _array(types.int64, writable=True), _array(types.float64, writable=True)
    words, data = _array(types.uint16), _array(types.uint16, writable=True)
    octets = _array(types.uint8, writable=True)

    def build(function: Kernel, *arguments: Any, returns: Any = types.void) -> Kernel:
        compiled: Kernel = numba.njit(returns(*arguments), cache=on_disk, nogil=True)(function)
        return compiled

    return Kernels(
        refused=build(kernels.refused, row, positions, returns=types.int64),
        first_sweep=build(kernels.first_sweep, row, row, row, row, row, out),
        sweeps=tuple(build(kernels.sweeper(distance), row, row, out) for distance in (4, 32, 256)),
        add=build(kernels.add, out, row),
        add_binomial=build(kernels.add_binomial, out, row, _array(types.uint64)),
        rounders={16: build(kernels.rounder(16), row, data), 24: build(kernels.rounder(24), row, octets)},
        add_packed=build(kernels.add_packed, out, row),
        lifters={
            16: build(kernels.lifter(16), words, row, total),
            24: build(kernels.lifter(24), row, row, total),
        },
    )


def _array(item: Any, *, writable: bool = False) -> Any:
    """Name the type of a contiguous vector; one that is only read may be either."""
    return types.Array(item, 1, "C", readonly=not writable)


class _MayBeReadOnly:
    """Accept a cache that holds the kernels, whether or not it can be written."""

    def ensure_cache_path(self) -> None:
        """Check that the cache can be used.

        Raises:
            OSError: it neither holds the kernels nor can be written.
        """
        folder = Path(self.get_cache_path())  # type: ignore[attr-defined]
        if not any(folder.glob("kernels.*.nbi")):
            super().ensure_cache_path()  # type: ignore[misc]


class ProvidedCache(_MayBeReadOnly, UserProvidedCacheLocator):
    """The cache in NUMBA_CACHE_DIR."""


class CacheBesideCode(_MayBeReadOnly, InTreeCacheLocator):
    """The cache in `__pycache__`."""


_LOCATORS: Final = (
    f"{__name__}.{ProvidedCache.__name__}",
    f"{__name__}.{CacheBesideCode.__name__}",
    "UserWideCacheLocator",
)


@contextmanager
def _cache_on_disk() -> Iterator[None]:
    """Let numba look for its cache in these places, unless its own setting names others."""
    config: Any = numba.config
    before = config.CACHE_LOCATOR_CLASSES
    config.CACHE_LOCATOR_CLASSES = before or ",".join(_LOCATORS)
    try:
        yield
    finally:
        config.CACHE_LOCATOR_CLASSES = before
