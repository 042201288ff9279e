"""What others do with the same vector in the same run, as far as it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimo_fed.bench.clock import Piece, Samples
from mimo_fed.bench.ideal import NEIGHBOURS, ideal_bytes, ideal_piece

if TYPE_CHECKING:
    from mimo_fed.bench.ckks import CkksRun
    from mimo_fed.bench.flower import FlowerRun

Json = dict[str, Any]
Vector = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Comparator:
    """One way to have a vector summed without showing it.

    Attributes:
        key: of its entry in the document.
        piece: what is timed.
        num_bytes: what the client has sent once the piece has run.
        messages: how many the client sends.
        says: what exactly it is.
        masking: the parts of the piece that touch the vector; all if empty.
        quantize: the part that turns floats into integers, if it has one.
    """

    key: str
    piece: Piece
    num_bytes: Callable[[], int]
    messages: int
    says: str
    masking: tuple[str, ...] = ()
    quantize: str = ""

    def entry(self, samples: Mapping[str, Samples], client: Json) -> Json:
        """Return its figures, and how often ours go into them.

        All of its client's work is set against all of ours, quantising left out on both sides; besides,
        the masking alone against our masking, and all of it with quantising.

        Args:
            samples: of the run.
            client: our own client's seconds and bytes.
        """
        mine = samples[self.piece.name]
        parts = [part for part in mine.parts if part != self.quantize]
        seconds = mine.median(*parts)
        sent = self.num_bytes()
        ratios = {
            "client_time_ratio": seconds / client["s"],
            "bytes_ratio": sent / client["bytes"],
            "masking_time_ratio": mine.median(*self.masking) / client["masking_s"],
        }
        if self.quantize:
            ratios["with_quantizing_ratio"] = mine.median() / (client["s"] + client["quantize_s"])
        return {
            **ratios,
            "client_s": seconds,
            "client_s_extremes": list(mine.extremes(*parts)),
            "parts_s": {part: mine.median(part) for part in mine.parts},
            "bytes": sent,
            "messages": self.messages,
            "repetitions": len(next(iter(mine.parts.values()))),
            "says": self.says,
        }


def find_comparators(vector_D: Vector) -> tuple[list[Comparator], dict[str, str]]:
    """Return every comparator that can run here, and why the others cannot.

    Args:
        vector_D: float32, shape (D,).
    """
    found, skipped = _ideal(len(vector_D)), {}
    for key, make in (("flower", _flower), ("ckks", _ckks)):
        try:
            found += make(vector_D)
        except ModuleNotFoundError as error:
            skipped[key] = f"{error.name} is not installed; it comes with the extra [bench]"
        except ImportError as error:
            skipped[key] = f"another version than the one this was written for: {error.name}"
    return found, skipped


def _ideal(num_params: int) -> list[Comparator]:
    return [
        Comparator(
            key=f"ideal_{neighbours}" + ("" if bits == 16 else f"_u{bits}"),
            piece=ideal_piece(num_params, neighbours, bits),
            num_bytes=partial(ideal_bytes, num_params, bits),
            messages=4,
            says=f"{neighbours + 1} keystreams of AES-256-CTR added in {bits} bits, and nothing else",
        )
        for neighbours in NEIGHBOURS
        for bits in (16, 32)
    ]


def _flower(vector_D: Vector) -> list[Comparator]:
    from mimo_fed.bench.flower import MASKING, NEIGHBOURS, QUANTIZE, FlowerRun, flower_piece

    runs = [FlowerRun(vector_D, neighbours) for neighbours in NEIGHBOURS]
    return [
        Comparator(
            key=f"flower_{run.neighbours}",
            piece=flower_piece(run),
            num_bytes=partial(_sent, run),
            messages=4,
            says="all four stages of the client, without its quantising and without transport",
            masking=MASKING,
            quantize=QUANTIZE,
        )
        for run in runs
    ]


def _ckks(vector_D: Vector) -> list[Comparator]:
    from mimo_fed.bench.ckks import CHAINS, RING, CkksRun, ckks_piece

    runs = {key: CkksRun(vector_D, chain) for key, chain in CHAINS.items()}
    return [
        Comparator(
            key=key,
            piece=ckks_piece(run),
            num_bytes=partial(_sent, run),
            messages=1,
            says=f"N = {RING}, moduli of {run.chain} bits, public key, serialised, one thread",
            masking=("encrypt",),
        )
        for key, run in runs.items()
    ]


def _sent(run: FlowerRun | CkksRun) -> int:
    return run.num_bytes
