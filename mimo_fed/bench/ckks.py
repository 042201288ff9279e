"""TenSEAL's CKKS: homomorphic encryption of the same vector, as federated learning often proposes it.

Each ciphertext holds N/2 = 4096 parameters. Encryption is with the public key; serialising is part of it,
since the ciphertext has to be sent. One thread. Two chains of moduli: the one TenSEAL's own tutorial uses,
and the shortest that still adds with 40 bits of scale, which is faster and smaller.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import tenseal  # type: ignore[import-untyped, import-not-found, unused-ignore]
from numpy.typing import NDArray

from mimo_fed.bench.clock import Piece, Seconds, process_seconds

RING: Final = 8192
SLOTS: Final = RING // 2
CHAINS: Final = {"ckks": (60, 40, 40, 60), "ckks_short": (60, 40, 60)}
"""bits of the moduli, by key in the report"""
_SCALE_BITS: Final = 40


def ckks_name(chain: tuple[int, ...]) -> str:
    """Name the piece with this chain."""
    return f"TenSEAL CKKS, {'-'.join(map(str, chain))}"


def ckks_piece(run: CkksRun) -> Piece:
    """Time encrypting the vector; all processor time, whatever threads there are."""
    warm = CkksRun(run.vector_D[: 4 * SLOTS], run.chain)
    return Piece(name=ckks_name(run.chain), run=run, warm=warm, rounds=1)


class CkksRun:
    """A context with keys, and a vector; calling it encrypts and serialises the vector once.

    Args:
        vector_D: float32, shape (D,).
        chain: bits of the coefficient moduli, 218 together at most.
    """

    def __init__(self, vector_D: NDArray[np.float32], chain: tuple[int, ...]) -> None:
        self.vector_D, self.chain = vector_D, chain
        self.context = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS, RING, coeff_mod_bit_sizes=list(chain), n_threads=1
        )
        self.context.global_scale = 2**_SCALE_BITS
        self.num_bytes = 0
        """of the ciphertexts of the last run"""

    def __call__(self) -> Seconds:
        """Encrypt all of it; returns the seconds of encrypting and of serialising."""
        spent = {"encrypt": 0.0, "serialize": 0.0}
        self.num_bytes = 0
        for start in range(0, len(self.vector_D), SLOTS):
            held: list[Any] = []
            chunk = self.vector_D[start : start + SLOTS]
            spent["encrypt"] += process_seconds(lambda: held.append(self.encrypt(chunk)))  # noqa: B023
            spent["serialize"] += process_seconds(lambda: held.append(held[0].serialize()))  # noqa: B023
            self.num_bytes += len(held[1])
        return spent

    def encrypt(self, chunk: NDArray[np.float32]) -> Any:
        """Encrypt up to 4096 parameters in one ciphertext."""
        return tenseal.ckks_vector(self.context, chunk)
