"""Three back ends for the arithmetic of the masks, behind one interface.

Goes in: keys, a secret, a vector of residues or of summed words. Comes out: words, or a total in the clear.
`plain` is Python integers, to be read; `numpy` runs everywhere; `numba` compiles and is the fastest. All give
the same bits. A back end knows nothing of rounds, devices or messages.
"""

from __future__ import annotations

from typing import Final

from mimo_fed.errors import ConfigError
from mimo_fed.secagg.backends.interface import Backend, Run, in_turn
from mimo_fed.secagg.backends.numpy_backend import NumpyBackend
from mimo_fed.secagg.backends.plain import PlainBackend
from mimo_fed.secagg.ring import BINOMIAL, NO_ERROR, ErrorTerm

NAMES: Final = ("auto", "numba", "numpy", "plain")

__all__ = ["BINOMIAL", "NAMES", "NO_ERROR", "Backend", "ErrorTerm", "Run", "choose", "in_turn"]


def choose(name: str = "auto") -> Backend:
    """Return a back end by name; `auto` is numba where it can be imported, else numpy.

    Call its `prepare` when the process starts.

    Raises:
        ConfigError: no back end has that name, or numba cannot be imported.
    """
    if name == "plain":
        return PlainBackend()
    if name == "numpy":
        return NumpyBackend()
    if name not in NAMES:
        raise ConfigError(f"no such back end: {name}", hint=f"choose one of {', '.join(NAMES)}")
    try:
        from mimo_fed.secagg.backends.numba_backend import NumbaBackend
    except ImportError as error:
        if name == "auto":
            return NumpyBackend()
        raise ConfigError(f"back end cannot be used: {name}", hint=f"pip install numba ({error})") from error
    return NumbaBackend()
