"""What the coordinator pays: adding a contribution, and lifting the mask of the sum, whoever dropped out.

Ten devices are asked; none, two or four of them never contribute. What is opened is compared with the plain
sum before anything is timed. Shapes: D parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.bench.clock import Piece, Samples, single, thread_seconds
from mimo_fed.bench.contributor import WORD_BITS, make_encoding
from mimo_fed.bench.parties import VECTOR, Parties, open_session
from mimo_fed.bench.plain import PLAIN
from mimo_fed.errors import LocalProtocolError
from mimo_fed.secagg import MODULUS, Arithmetic, Backend, Coordinator, MemorySpool
from mimo_fed.secagg.words import empty_sum, error_bound

Json = dict[str, Any]
NUM_DEVICES: Final = 10
DROPOUTS: Final = {"0": 0, "0.2": 2, "0.4": 4}
"""fraction that never contributes, and how many that is"""
SUMS: Final = {"u16": 16, "u32": 24}
"""type of the sum, and bits of the words that are added to it"""
_ACCEPT: Final = "coordinator takes a contribution"


class CoordinatorWork:
    """A coordinator of a round with seven helpers, so that contributors may vanish.

    Args:
        vector_D: float32, shape (D,), of norm below 12; every device contributes it.
        backend: of devices and coordinator.

    Raises:
        LocalProtocolError: what was opened is not the sum.
    """

    def __init__(self, vector_D: NDArray[np.float32], backend: Backend) -> None:
        self._num_params = len(vector_D)
        self._arithmetic = Arithmetic(backend=backend)
        values_D = make_encoding(len(vector_D), NUM_DEVICES).encode(vector_D, 1)
        self._parties = Parties({VECTOR: len(values_D)}, NUM_DEVICES, "helper")
        messages = [
            self._parties.contribution(device, {VECTOR: values_D}, self._arithmetic)
            for device in self._parties.devices
        ]
        self._message = messages[0]
        self._sessions = {}
        for fraction, gone in DROPOUTS.items():
            self._sessions[fraction] = open_session(self._parties, messages[gone:], self._coordinator())
            self._check(fraction, values_D, NUM_DEVICES - gone)

    def pieces(self) -> list[Piece]:
        """Return what is timed."""
        return [
            *(self._add_piece(name, bits) for name, bits in SUMS.items()),
            Piece(name=_ACCEPT, run=single(lambda: self._coordinator().add(self._message), thread_seconds)),
            *(
                Piece(name=_unmask(fraction), run=single(partial(self._open, fraction), thread_seconds))
                for fraction in DROPOUTS
            ),
        ]

    def figures(self, samples: Mapping[str, Samples]) -> Json:
        """Read the figures of a run."""
        plain, per_param = samples[PLAIN].median(), 1e9 / self._num_params
        return {
            "unmask_ns_per_param": {f: samples[_unmask(f)].median() * per_param for f in DROPOUTS},
            "add_ns_per_param": {name: samples[_add(name)].median() * per_param for name in SUMS},
            "plain_sum_ns_per_param": plain * per_param,
            "add_vs_plain_sum": {name: samples[_add(name)].median() / plain for name in SUMS},
            "accept_ns_per_param": samples[_ACCEPT].median() * per_param,
        }

    def _coordinator(self) -> Coordinator:
        return Coordinator(self._parties.signed, self._parties.anchors, MemorySpool(), self._arithmetic)

    def _add_piece(self, name: str, word_bits: int) -> Piece:
        total_D = empty_sum(self._num_params, word_bits)
        words = np.random.default_rng(2).bytes(self._num_params * word_bits // 8)
        add = partial(self._arithmetic.backend.add, total_D, words, word_bits)
        return Piece(name=_add(name), run=single(add, thread_seconds))

    def _open(self, fraction: str) -> NDArray[np.float64]:
        """Open the sums; the session itself stays as it was, so that it can be opened again."""
        return copy.copy(self._sessions[fraction]).result().sums[VECTOR].total_D

    def _check(self, fraction: str, values_D: NDArray[np.uint32], num_devices: int) -> None:
        centred_D = np.where(values_D > MODULUS // 2, values_D - float(MODULUS), values_D)
        wrong = np.abs(self._open(fraction) - num_devices * centred_D).max()
        if wrong > error_bound(num_devices, WORD_BITS):
            raise LocalProtocolError(f"what was opened is not the sum; it is off by: {wrong:.0f}")


def _add(name: str) -> str:
    return f"add, {name}"


def _unmask(fraction: str) -> str:
    return f"unmask, {float(fraction):.0%} dropped out"
