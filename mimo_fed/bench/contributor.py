"""What a contributor pays: masking the vector, by each back end, and the whole of its one message.

The committee is a sampled one of 64, the largest there is, so that the message has as many sealed shares as
it ever has. Shapes: D parameters.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.bench.clock import Piece, Samples, Seconds, single, thread_seconds, wall_seconds
from mimo_fed.bench.parties import VECTOR, Parties
from mimo_fed.errors import ConfigError
from mimo_fed.privacy import VectorEncoding
from mimo_fed.secagg import BINOMIAL, Arithmetic, Backend, choose
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.ring import RING, uniform

Json = dict[str, Any]
WORD_BITS: Final = 16
NUM_THREADS: Final = 2
_CLIP_NORM: Final = 12.0
_WHOLE, _QUANTIZE, _THREADS = "contribute", "quantise", "protect, wall time"


def find_backends() -> list[Backend]:
    """Return the back ends that a device may have, the fastest first, ready to be used."""
    found = []
    for name in ("numba", "numpy"):
        try:
            found.append(choose(name))
        except ConfigError:
            continue
        found[-1].prepare()
    return found


def make_vector(num_params: int) -> NDArray[np.float32]:
    """Draw an update: normal, of an L2 norm that needs no clipping."""
    vector_D = np.random.default_rng(1).normal(0, 1, num_params).astype(np.float32)
    vector_D *= np.float32(0.9 * _CLIP_NORM / np.linalg.norm(vector_D))
    return vector_D


def make_encoding(num_params: int, n_max: int) -> VectorEncoding:
    """Choose how the vector is written as integers."""
    return VectorEncoding(dim=num_params, seed=b"bench", clip_norm=_CLIP_NORM, n_max=n_max, weight_max=1)


class Contributor:
    """One device of a round with a sampled committee.

    Args:
        vector_D: float32, shape (D,), of norm below 12.
        backends: from `find_backends`.
    """

    def __init__(self, vector_D: NDArray[np.float32], backends: Sequence[Backend]) -> None:
        self._vector_D, self._backends = vector_D, backends
        self._encoding = make_encoding(len(vector_D), 64)
        self._values_D = self._encoding.encode(vector_D, 1)
        self._parties = Parties({VECTOR: len(self._values_D)}, 64, "sampled")
        self._message = b""

    def pieces(self) -> list[Piece]:
        """Return what is timed."""
        masking = [
            Piece(name=_protect(b.name), run=single(partial(self._mask, b), thread_seconds), rounds=_slow(b))
            for b in self._backends
        ]
        return [
            *masking,
            Piece(name=_WHOLE, run=single(self._contribute, thread_seconds)),
            Piece(name=_QUANTIZE, run=single(self._quantize, thread_seconds), rounds=3),
            Piece(name=_THREADS, run=self._one_and_two_threads, rounds=_slow(self._backends[0])),
        ]

    def figures(self, samples: Mapping[str, Samples]) -> Json:
        """Read the figures of a run."""
        num_params = len(self._vector_D)
        protect = {b.name: samples[_protect(b.name)].median() / num_params * 1e9 for b in self._backends}
        whole, words = samples[_WHOLE].median(), num_params * WORD_BITS // 8
        threads = samples[_THREADS]
        return {
            "protect_ns_per_param": {"numba": None, "numpy": None} | protect,
            "protect_wall_ratio_2_threads": threads.median("two") / threads.median("one"),
            "control_wall_ratio_2_threads": threads.median("control two") / threads.median("control one"),
            "quantize_ns_per_param": samples[_QUANTIZE].median() / num_params * 1e9,
            "contribute_ns_per_param": whole / num_params * 1e9,
            "upload_overhead": len(self._message) / words - 1,
            "client": {
                "s": whole,
                "bytes": len(self._message),
                "messages": 1,
                "masking_s": samples[_protect(self._backends[0].name)].median(),
                "quantize_s": samples[_QUANTIZE].median(),
                "backend": self._backends[0].name,
                "says": "masking, hashing, shares sealed for 64 members, proof and signature",
            },
        }

    def _mask(self, backend: Backend, run: Callable[..., None] | None = None) -> None:
        """Mask the vector under a fresh key."""
        backend.protect(
            public=bytes(32),
            secret=uniform(Keystream(os.urandom(32)), RING),
            errors_key=os.urandom(32),
            error=BINOMIAL,
            values_D=self._values_D,
            word_bits=WORD_BITS,
            **({"run": run} if run else {}),
        )

    def _contribute(self) -> None:
        arithmetic = Arithmetic(backend=self._backends[0])
        device = self._parties.devices[0]
        self._message = self._parties.contribution(device, {VECTOR: self._values_D}, arithmetic)

    def _quantize(self) -> None:
        self._encoding.encode(self._vector_D, 1)

    def _one_and_two_threads(self) -> Seconds:
        """Mask on one thread and on two; as a control, hash twice, which two threads do at once."""
        backend = self._backends[0]
        hashing = [partial(hashlib.sha256, self._values_D.data)] * NUM_THREADS
        self._mask(backend)  # so that neither finds a colder cache
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            return {
                "one": wall_seconds(lambda: self._mask(backend)),
                "two": wall_seconds(lambda: self._mask(backend, partial(_on_pool, pool))),
                "control one": wall_seconds(lambda: [work() for work in hashing]),
                "control two": wall_seconds(lambda: _on_pool(pool, hashing)),
            }


def _on_pool(pool: ThreadPoolExecutor, pieces: Iterable[Callable[[], object]]) -> None:
    for done in [pool.submit(piece) for piece in pieces]:
        done.result()


def _protect(backend: str) -> str:
    return f"protect, {backend}"


def _slow(backend: Backend) -> int:
    return 0 if backend.name == "numba" else 3
