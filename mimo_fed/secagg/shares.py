"""What a member does with its shares: reads them, judges a ballot by them, adds them up (5.7-5.9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimo_fed.codec import Reader, Writer
from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg.consistency import check_shares
from mimo_fed.secagg.crypto import SIGNATURE_BYTES, Box, digest, sealed_bytes
from mimo_fed.secagg.identity import Anchors
from mimo_fed.secagg.intake import check_certificate, verify_header
from mimo_fed.secagg.manifest import MAX_COHORT, SignedManifest
from mimo_fed.secagg.merkle import check_path, path_length
from mimo_fed.secagg.messages import (
    HASH_BYTES,
    MAX_HEADER,
    Ballot,
    Header,
    ascending,
    count,
    indices_of,
    seal_context,
    share_values,
    start,
)
from mimo_fed.secagg.modular import MODULUS
from mimo_fed.secagg.shamir import NUM_MASKS, SHARE_DTYPE, num_groups

DOES_NOT_OPEN, INCONSISTENT, DOES_NOT_COUNT = range(3)


@dataclass(frozen=True, kw_only=True)
class Received:
    """What one contributor gave this member; it has no repr of its shares.

    Attributes:
        rank: of the contributor's adapter.
        sums: the sums it contributes to, a bit mask.
        contribution: hash of its signed header.
        shares: (S * G,) residues, one sum after the other; nothing if the contributor is accused.
        reason: why it is accused; None: it is not.
    """

    rank: int
    sums: int
    contribution: bytes
    shares: NDArray[np.uint32]
    reason: int | None = None

    def __repr__(self) -> str:
        return "Received(...)"


def read_shares(
    signed: SignedManifest, member: int, box: Box, anchors: Anchors, request: bytes
) -> dict[str, Received]:
    """Read the shares of all contributors: device id to what it gave.

    Args:
        signed: the manifest.
        member: this member's index.
        box: its prekey.
        anchors: the keys to trust.
        request: the coordinator's message.

    Raises:
        PeerProtocolError: malformed, of another round, not what a contributor signed, or two devices with one
            key. Shares that are signed but bad, and a certificate that does not count, are no error: they are
            the contributor's fault, and stand in the answer as a reason.
    """
    reader = Reader(request, "shares")
    start(reader, "shares", signed.mh)
    received: dict[str, Received] = {}
    keys: set[bytes] = set()
    size = signed.manifest.committee.size
    for _ in range(count(reader, MAX_COHORT)):
        encoded = reader.blob(max_len=MAX_HEADER)
        header = verify_header(signed, encoded, reader.raw(SIGNATURE_BYTES))
        values = share_values(len(header.indices), signed.manifest.committee.packing)
        sealed = reader.raw(sealed_bytes(signed.manifest.suite, 4 * values))
        hashes = [reader.raw(HASH_BYTES) for _ in range(path_length(member, size))]
        check_path(header.sealed, sealed, member, size, hashes)
        if header.device_id in received or header.certificate.public_key in keys:
            raise PeerProtocolError(f"shares: two devices with one key, or one twice: {header.device_id}")
        keys.add(header.certificate.public_key)
        received[header.device_id] = _receive(signed, member, box, anchors, header, encoded, sealed)
    reader.finish()
    ascending(list(received), "shares")
    return received


def _receive(
    signed: SignedManifest,
    member: int,
    box: Box,
    anchors: Anchors,
    header: Header,
    encoded: bytes,
    sealed: bytes,
) -> Received:
    """Open one contributor's shares and check them; a failure becomes a reason to accuse it."""
    row, reason = np.zeros(0, np.uint32), None
    context = seal_context(signed.mh, header.device_id, signed.member_id(member), header.nonce, header.sums)
    stage = DOES_NOT_COUNT
    try:
        check_certificate(signed, header, anchors)
        stage = DOES_NOT_OPEN
        row = np.frombuffer(box.unseal(context, sealed), SHARE_DTYPE).astype(np.uint32)
        stage = INCONSISTENT
        threshold = signed.manifest.committee.threshold
        check_shares(row, member, header.proof, header.challenge(signed.mh), threshold)
    except PeerProtocolError:
        row, reason = np.zeros(NUM_MASKS, np.uint32), stage
    return Received(
        rank=header.rank,
        sums=header.sums,
        contribution=digest("contribution", encoded),
        shares=row[:-NUM_MASKS],
        reason=reason,
    )


def check_ballot(ballot: Ballot, received: dict[str, Received]) -> None:
    """Refuse survivors that this member cannot vouch for.

    Raises:
        PeerProtocolError: a survivor is one this member has no good shares of, or of whom it knows another
            contribution.
    """
    for entry in ballot.survivors:
        item = received.get(entry.device_id)
        if item is None or item.reason is not None:
            raise PeerProtocolError(f"ballot: no good shares from {entry.device_id}")
        if (item.rank, item.sums, item.contribution) != (entry.rank, entry.sums, entry.contribution):
            raise PeerProtocolError(f"ballot: another contribution of {entry.device_id}")


def add_up(
    signed: SignedManifest, member: int, ballot: Ballot, ballot_hash: bytes, received: dict[str, Received]
) -> bytes:
    """Add this member's shares over the survivors of each opened sum: the opening, unsigned."""
    groups = num_groups(signed.manifest.committee.packing)
    totals = {index: np.zeros(groups, np.uint64) for index in indices_of(ballot.opened)}
    for entry in ballot.survivors:
        rows = received[entry.device_id].shares.reshape(-1, groups)
        for index, row in zip(indices_of(entry.sums), rows, strict=True):
            if index in totals:
                totals[index] += row
    writer = Writer().text("opening").raw(signed.mh).u16(member).raw(ballot_hash).u64(ballot.opened)
    for total in totals.values():
        writer.raw((total % MODULUS).astype(SHARE_DTYPE).tobytes())
    return writer.bytes()


def write_received(writer: Writer, received: dict[str, Received]) -> None:
    """Append shares to a member's stored state."""
    writer.u32(len(received))
    for device_id, item in received.items():
        writer.text(device_id).u16(item.rank).u64(item.sums).raw(item.contribution)
        writer.u8(0 if item.reason is None else 1 + item.reason)
        writer.blob(item.shares.astype(SHARE_DTYPE).tobytes())


def restore_received(reader: Reader) -> dict[str, Received]:
    """Read what `write_received` wrote."""
    received = {}
    for _ in range(count(reader, MAX_COHORT)):
        device_id, rank, sums, contribution = (
            reader.text(),
            reader.u16(),
            reader.u64(),
            reader.raw(HASH_BYTES),
        )
        reason = reader.u8()
        received[device_id] = Received(
            rank=rank,
            sums=sums,
            contribution=contribution,
            reason=reason - 1 if reason else None,
            shares=np.frombuffer(reader.blob(), SHARE_DTYPE).astype(np.uint32),
        )
    return received
