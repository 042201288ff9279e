"""Flower's own SecAgg+ client, driven through its four stages: the functions of the installed package.

One client is timed: it makes its keys, shares them with its neighbours, masks its vector with a stream for
each neighbour and one of its own, and hands out shares for the unmasking. Its neighbours do, outside the
clock, what it needs of them. Message objects, state kept between stages and the network are left out, in its
favour.

The stages are called by their private names, as flwr 1.41 has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from flwr.app import ConfigRecord
from flwr.client.mod.secure_aggregation.secaggplus_mod import (
    SecAggPlusState,
    _collect_masked_vectors,
    _setup,
    _share_keys,
    _unmask,
)
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.ndarrays_arithmetic import parameters_multiply
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_constants import Key
from numpy.typing import NDArray

from mimo_fed.bench.clock import Piece, Seconds, process_seconds

NEIGHBOURS: Final = (8, 32)
QUANTIZE: Final = "quantize"
"""the part of a run that turns floats to integers, timed again by itself"""
MASKING: Final = ("mask",)
"""the part that touches the vector, without quantising"""
CLIPPING_RANGE: Final = 8.0
TARGET_RANGE: Final = 1 << 22
MODULUS: Final = 1 << 32
_MAX_WEIGHT: Final = 1000.0
"""the defaults of Flower's workflow, all four"""
_THRESHOLD: Final = 2 / 3
Answer = dict[str, Any]


def flower_name(neighbours: int) -> str:
    """Name the piece with so many neighbours."""
    return f"Flower SecAgg+, {neighbours} neighbours"


def flower_piece(run: FlowerRun) -> Piece:
    """Time one client: all of its processor time, since Flower splits secrets in threads."""
    warm = FlowerRun(run.vector_D[: 1 << 16], run.neighbours)
    return Piece(name=flower_name(run.neighbours), run=run, warm=warm)


class FlowerRun:
    """A client and its neighbours; calling it is one whole aggregation on the client's side.

    Args:
        vector_D: float32, shape (D,).
        neighbours: k; secrets are split into k + 1 shares, two thirds of which restore them.
    """

    def __init__(self, vector_D: NDArray[np.float32], neighbours: int) -> None:
        self.vector_D, self.neighbours = vector_D, neighbours
        self._others = [Client(nid, 2) for nid in range(2, neighbours + 2)]
        for other in self._others:
            other.make_keys()
        self.num_bytes = 0
        """uploaded in the last run, all four stages"""

    def __call__(self) -> Seconds:
        """Run once; returns the seconds of each stage, quantising apart."""
        client = Client(1, self.neighbours + 1)
        everybody = [client, *self._others]
        parameters = ndarrays_to_parameters([self.vector_D])
        clock = _Parts()
        answers = [clock.time("setup", client.make_keys)]
        answers.append(clock.time("share keys", lambda: client.share_keys(everybody)))
        received = {other.nid: other.share_with(client) for other in self._others}
        answers.append(clock.time("mask", lambda: client.mask(parameters, received)))
        answers.append(clock.time("unmask", lambda: client.unmask([c.nid for c in everybody])))
        clock.time(QUANTIZE, lambda: _quantize(parameters))
        clock.seconds["mask"] -= clock.seconds[QUANTIZE]
        self.num_bytes = sum(ConfigRecord(answer).count_bytes() for answer in answers)
        return clock.seconds


class Client:
    """One party of SecAgg+, in Flower's functions.

    Args:
        nid: its node id.
        num_shares: how many shares its secrets are split into.
    """

    def __init__(self, nid: int, num_shares: int) -> None:
        self.nid = nid
        self.public: Answer = {}
        self._state = SecAggPlusState()
        self._state.nid = nid
        self._num_shares = num_shares

    @property
    def own_seed(self) -> bytes:
        """The seed of its own mask."""
        return self._state.rd_seed

    def make_keys(self) -> Answer:
        """Stage 0: two key pairs."""
        settings: Answer = {
            Key.SAMPLE_NUMBER: self._num_shares,
            Key.SHARE_NUMBER: self._num_shares,
            Key.THRESHOLD: max(2, round(_THRESHOLD * self._num_shares)),
            Key.CLIPPING_RANGE: CLIPPING_RANGE,
            Key.TARGET_RANGE: TARGET_RANGE,
            Key.MOD_RANGE: MODULUS,
            Key.MAX_WEIGHT: _MAX_WEIGHT,
        }
        self.public = _setup(self._state, ConfigRecord(settings))
        return self.public

    def share_keys(self, clients: Sequence[Client]) -> Answer:
        """Stage 1: shares of its seed and key, encrypted for each of the others."""
        keys: Answer = {str(c.nid): [c.public[Key.PUBLIC_KEY_1], c.public[Key.PUBLIC_KEY_2]] for c in clients}
        return _share_keys(self._state, ConfigRecord(keys))

    def share_with(self, client: Client) -> bytes:
        """Stage 1 between two: return what is for `client`."""
        answer: Answer = self.share_keys([self, client])
        sealed: bytes = answer[Key.CIPHERTEXT_LIST][0]
        return sealed

    def mask(self, parameters: Any, received: dict[int, bytes]) -> Answer:
        """Stage 2: the vector, quantised and masked; `received` is sealed shares by their sender."""
        record = ConfigRecord({Key.SOURCE_LIST: list(received), Key.CIPHERTEXT_LIST: list(received.values())})
        return _collect_masked_vectors(self._state, record, 1, parameters)

    def unmask(self, nids: list[int]) -> Answer:
        """Stage 3: its shares of everybody's seed; nobody has dropped out."""
        record: Answer = {Key.ACTIVE_NODE_ID_LIST: nids, Key.DEAD_NODE_ID_LIST: []}
        return _unmask(self._state, ConfigRecord(record))


def masked_arrays(answer: Answer) -> list[NDArray[np.int64]]:
    """Read the arrays of stage 2: the weight, and the vector."""
    return [bytes_to_ndarray(data) for data in answer[Key.MASKED_PARAMETERS]]


class _Parts:
    """Seconds of processor time by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, part: str, work: Callable[[], Answer]) -> Answer:
        answer: Answer = {}
        self.seconds[part] = process_seconds(lambda: answer.update(work()))
        return answer


def _quantize(parameters: Any) -> Answer:
    """Do what stage 2 does before it masks."""
    arrays = parameters_multiply(parameters_to_ndarrays(parameters), 1 / _MAX_WEIGHT)
    return {"arrays": quantize(arrays, CLIPPING_RANGE, TARGET_RANGE)}
