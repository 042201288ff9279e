"""What a round gives, and how a sum is read once enough members have opened (docs/protocol.md 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import RoundAborted
from mimo_fed.secagg.contribute import Arithmetic
from mimo_fed.secagg.manifest import SignedManifest
from mimo_fed.secagg.modular import Residues
from mimo_fed.secagg.ring import public_key
from mimo_fed.secagg.words import Words, error_bound


@dataclass(frozen=True, kw_only=True)
class OpenedSum:
    """A sum in the clear.

    Attributes:
        total_D: float64, shape (dim,), centred, in units of one residue; rounding leaves an error of
            standard deviation sqrt(n / 12) q / 2^b.
        num_devices: how many it is of.
        devices: their ids.
    """

    total_D: NDArray[np.float64]  # noqa: N815
    num_devices: int
    devices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RoundResult:
    """What a round gave.

    Attributes:
        sums: name to opened sum.
        closed: name to the reason why a sum was not opened.
        evidence: manifest, ballot and quorum certificate in one; publish it.
        quorum_digest: hash of the quorum certificate, hexadecimal.
        survivors: devices in any opened sum.
        accused: (accuser, accused, reason) of every complaint.
        liars: members whose openings were wrong; the sums are right without them.
    """

    sums: Mapping[str, OpenedSum]
    closed: Mapping[str, str]
    evidence: bytes
    quorum_digest: str
    survivors: tuple[str, ...]
    accused: tuple[tuple[str, str, str], ...]
    liars: tuple[str, ...]


def open_sum(
    signed: SignedManifest,
    sum_index: int,
    words_D: Words,
    key: Residues,
    num_devices: int,
    arithmetic: Arithmetic,
) -> NDArray[np.float64]:
    """Lift the mask of a sum, and check its check coordinates.

    Args:
        signed: the manifest.
        sum_index: which sum.
        words_D: the summed ciphertext words.
        key: (2048,) residues, the sum of the devices' ring elements.
        num_devices: how many devices are in the sum.
        arithmetic: how masks are computed.

    Returns:
        float64, shape (dim,), centred totals in units of q.

    Raises:
        RoundAborted: a check coordinate is not zero; who is to blame is not known.
    """
    manifest = signed.manifest
    spec = manifest.sums[sum_index]
    total_D = arithmetic.backend.unmask(
        public=public_key(signed.mh, spec.name),
        secret=key.astype(np.uint32),
        words_D=words_D,
        word_bits=manifest.word_bits,
        run=arithmetic.run,
    )
    bound = error_bound(num_devices, manifest.word_bits, arithmetic.error_of(manifest.suite))
    if np.abs(total_D[spec.dim :]).max() > bound:
        raise RoundAborted(f"SumInconsistent: check coordinates are not zero: {spec.name}")
    return total_D[: spec.dim]
