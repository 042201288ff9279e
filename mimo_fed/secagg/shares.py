"""What a member does with its shares: reads them, judges a ballot by them, adds them up (5.7-5.9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimo_fed.codec import Reader, Writer
from mimo_fed.errors import LocalProtocolError, PeerProtocolError
from mimo_fed.secagg.crypto import SIGNATURE_BYTES, digest, unseal
from mimo_fed.secagg.intake import verify_header
from mimo_fed.secagg.manifest import SignedManifest
from mimo_fed.secagg.messages import (
    HASH_BYTES,
    MAX_HEADER,
    MAX_SEALED,
    Ballot,
    Header,
    ascending,
    seal_context,
    start,
)
from mimo_fed.secagg.modular import MODULUS
from mimo_fed.secagg.shamir import SHARE_DTYPE, num_groups


@dataclass(frozen=True, kw_only=True)
class Received:
    """What one contributor gave this member; it has no repr of its shares.

    Attributes:
        rank: of the contributor's adapter.
        contribution: hash of its signed header.
        shares: sum index to (G,) residues; None if they were bad.
    """

    rank: int
    contribution: bytes
    shares: dict[int, NDArray[np.uint32]] | None

    def __repr__(self) -> str:
        return "Received(...)"


def read_shares(signed: SignedManifest, member: int, secret: bytes, request: bytes) -> dict[int, Received]:
    """Read the shares of all contributors: contributor's index to what it gave.

    Args:
        signed: the manifest.
        member: this member's index.
        secret: the private half of its prekey.
        request: the coordinator's message.

    Raises:
        PeerProtocolError: malformed, of another round, or not what a contributor signed. Shares that are
            signed but bad are no error: they are the contributor's fault, and come back as None.
    """
    reader = Reader(request, "shares")
    start(reader, "shares", signed.mh)
    received: dict[int, Received] = {}
    order = []
    for _ in range(reader.u16()):
        encoded, signature = reader.blob(max_len=MAX_HEADER), reader.raw(SIGNATURE_BYTES)
        sealed = reader.blob(max_len=MAX_SEALED)
        sender, header = verify_header(signed, encoded, signature)
        if digest("sealed", sealed) != header.sealed[member]:
            raise PeerProtocolError(f"shares: not what the contributor signed: {signed.device(sender)}")
        order.append(sender)
        received[sender] = Received(
            rank=header.rank,
            contribution=digest("contribution", encoded),
            shares=_unseal(signed, sender, member, secret, header, sealed),
        )
    reader.finish()
    ascending(order, len(signed.manifest.members), "shares")
    return received


def _unseal(
    signed: SignedManifest, sender: int, member: int, secret: bytes, header: Header, sealed: bytes
) -> dict[int, NDArray[np.uint32]] | None:
    sums = list(header.words)
    context = seal_context(signed.mh, signed.device(sender), signed.device(member), header.nonce, sums)
    try:
        plain = unseal(secret, context, sealed)
    except PeerProtocolError:
        return None
    groups = num_groups(signed.manifest.committee.packing)
    if len(plain) != 4 * groups * len(sums):
        return None
    values = np.frombuffer(plain, SHARE_DTYPE).astype(np.uint32).reshape(-1, groups)
    return None if int(values.max()) >= MODULUS else dict(zip(sums, values, strict=True))


def check_ballot(signed: SignedManifest, ballot: Ballot, received: dict[int, Received]) -> None:
    """Refuse survivor sets that this member cannot vouch for.

    Raises:
        PeerProtocolError: nothing is opened, a set is too small or too large, or it names a contribution this
            member has no good share of.
    """
    manifest = signed.manifest
    if not any(ballot.survivors):
        raise PeerProtocolError("ballot: opens nothing")
    for sum_index, (spec, entries) in enumerate(zip(manifest.sums, ballot.survivors, strict=True)):
        if entries and not spec.n_min <= len(entries) <= manifest.n_max:
            raise PeerProtocolError(
                f"ballot: survivors of {spec.name} not within {spec.n_min} and {manifest.n_max}: "
                f"{len(entries)}"
            )
        for entry in entries:
            item, device_id = received.get(entry.index), signed.device(entry.index)
            if item is None or item.shares is None or sum_index not in item.shares:
                raise PeerProtocolError(f"ballot: no good share of {spec.name} from {device_id}")
            if item.contribution != entry.contribution or item.rank != entry.rank:
                raise PeerProtocolError(f"ballot: another contribution of {device_id}")


def add_up(
    signed: SignedManifest, member: int, ballot: Ballot, ballot_hash: bytes, received: dict[int, Received]
) -> bytes:
    """Add this member's shares over each survivor set: the opening, unsigned."""
    opened = [(i, entries) for i, entries in enumerate(ballot.survivors) if entries]
    writer = Writer().text("opening").raw(signed.mh).u16(member).raw(ballot_hash).u16(len(opened))
    for sum_index, entries in opened:
        total = np.zeros(num_groups(signed.manifest.committee.packing), np.uint64)
        for entry in entries:
            shares = received[entry.index].shares
            if shares is None:
                raise LocalProtocolError("ballot was not checked")
            total += shares[sum_index]
        writer.u16(sum_index).raw((total % MODULUS).astype(SHARE_DTYPE).tobytes())
    return writer.bytes()


def write_received(writer: Writer, received: dict[int, Received]) -> None:
    """Append shares to a member's stored state."""
    writer.u16(len(received))
    for index, item in received.items():
        writer.u16(index).u16(item.rank).raw(item.contribution).u8(item.shares is not None)
        shares = item.shares or {}
        writer.u16(len(shares))
        for sum_index, values in shares.items():
            writer.u16(sum_index).blob(values.astype(SHARE_DTYPE).tobytes())


def restore_received(reader: Reader) -> dict[int, Received]:
    """Read what `write_received` wrote."""
    received = {}
    for _ in range(reader.u16()):
        index, rank, contribution, good = reader.u16(), reader.u16(), reader.raw(HASH_BYTES), reader.u8()
        shares = {
            reader.u16(): np.frombuffer(reader.blob(), SHARE_DTYPE).astype(np.uint32)
            for _ in range(reader.u16())
        }
        received[index] = Received(rank=rank, contribution=contribution, shares=shares if good else None)
    return received
