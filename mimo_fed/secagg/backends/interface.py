"""What a back end for the masks does (docs/protocol.md 3); all give the same bits.

Legend: D words of a sum, check coordinates included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mimo_fed.secagg.ring import Block, ErrorTerm, blocks
from mimo_fed.secagg.words import Words

Run = Callable[[Sequence[Callable[[], None]]], None]
"""Executes independent pieces of work and returns when all are done: in turn, or on a pool of threads."""

_BLOCKS_IN_PIECE: Final = 8


def in_turn(pieces: Sequence[Callable[[], None]]) -> None:
    """Execute pieces one after the other."""
    for piece in pieces:
        piece()


def run_blocks(length: int, work: Callable[[Sequence[Block]], None], run: Run) -> None:
    """Cut a vector into runs of at most eight blocks (524,288 words) and execute `work` on each."""
    cut = blocks(length)
    run([partial(work, cut[at : at + _BLOCKS_IN_PIECE]) for at in range(0, len(cut), _BLOCKS_IN_PIECE)])


class Backend(Protocol):
    """The arithmetic of the masks."""

    name: str

    def prepare(self) -> None:
        """Compile or build tables ahead of the first round; a second call costs nothing."""

    def protect(
        self,
        *,
        public: bytes,
        secret: NDArray[np.uint32],
        errors_key: bytes,
        error: ErrorTerm,
        values_D: NDArray[np.uint32],
        word_bits: int,
        run: Run = in_turn,
    ) -> bytearray:
        """Mask a vector and round it to words: a s + e + m mod q (docs/protocol.md 3.4, 3.5).

        Args:
            public: the sum's key, from `ring.public_key`.
            secret: (2048,) residues, never used for another vector.
            errors_key: 32 secret bytes, never used for another vector; block i draws from its stream i.
            error: what e is.
            values_D: residues below q, the check coordinates among them.
            word_bits: 16, 24, or 32 for residues without rounding.
            run: executes the pieces.

        Returns:
            The words, little-endian, `word_bits` / 8 bytes each.
        """

    def add(self, total_D: Words, data: bytes | bytearray | memoryview, word_bits: int) -> None:
        """Add words to a sum from `words.empty_sum`, in place.

        Raises:
            LocalProtocolError: `data` is not as long as the sum.
        """

    def unmask(
        self,
        *,
        public: bytes,
        secret: NDArray[np.uint32],
        words_D: Words,
        word_bits: int,
        run: Run = in_turn,
    ) -> NDArray[np.float64]:
        """Lift the mask of a sum (docs/protocol.md 3.5).

        Args:
            public: the sum's key, from `ring.public_key`.
            secret: (2048,) residues, the sum of the devices' secrets.
            words_D: the summed words.
            word_bits: 16, 24 or 32.
            run: executes the pieces.

        Returns:
            (D,) totals in units of one residue, centred.
        """
