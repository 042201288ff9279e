"""What a round gives, and how a sum is read once enough members have opened (docs/protocol.md 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import RoundAborted
from mimo_fed.secagg.manifest import SignedManifest
from mimo_fed.secagg.ring import Expander, public_key
from mimo_fed.secagg.shamir import reconstruct
from mimo_fed.secagg.words import Words, error_bound, unmask


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
        ballot: the survivor sets.
        quorum_certificate: the votes for that ballot; publish it.
        quorum_digest: its hash, hexadecimal.
        survivors: devices in any opened sum.
        accused: (accuser, accused) of every complaint.
    """

    sums: dict[str, OpenedSum]
    closed: dict[str, str]
    ballot: bytes
    quorum_certificate: bytes
    quorum_digest: str
    survivors: tuple[str, ...]
    accused: tuple[tuple[str, str], ...]


def open_sum(
    signed: SignedManifest,
    sum_index: int,
    words: Words,
    answers: Mapping[int, NDArray[np.uint32]],
    num_devices: int,
) -> NDArray[np.float64]:
    """Interpolate a sum's key, lift the mask, check the check coordinates.

    Args:
        signed: the manifest.
        sum_index: which sum.
        words: the summed ciphertext words.
        answers: member index to its sums of shares.
        num_devices: how many devices are in the sum.

    Returns:
        float64, shape (dim,), centred totals in q-units.

    Raises:
        RoundAborted: too few answers, a member lied, or a check coordinate is not zero.
    """
    manifest = signed.manifest
    spec, committee = manifest.sums[sum_index], manifest.committee
    key = reconstruct(answers, committee.threshold, committee.packing)
    total = np.empty(len(words))
    for where, mask in Expander(public_key(signed.mh, spec.name), key).blocks(len(words)):
        total[where] = unmask(words[where], mask, manifest.word_bits)
    if np.abs(total[spec.dim :]).max() > error_bound(num_devices, manifest.word_bits):
        raise RoundAborted(f"SumInconsistent: check coordinates are not zero: {spec.name}")
    return total[: spec.dim]
