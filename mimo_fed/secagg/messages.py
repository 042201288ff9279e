"""The messages of a round after its manifest, as bytes and as values (docs/protocol.md 5.6-5.10).

Decoding checks form, never who sent it. Devices and sums are named by their index in the manifest; every list
is strictly ascending, so that a value has one encoding and no device stands in it twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mimo_fed.codec import Reader, Writer
from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg.crypto import SIGNATURE_BYTES, digest
from mimo_fed.secagg.identity import MAX_CERTIFICATE
from mimo_fed.secagg.manifest import MAX_MEMBERS, MAX_SUMS, SignedManifest

HASH_BYTES: Final = 32
SHARE_NONCE_BYTES: Final = 16
MAX_HEADER: Final = 1 << 14
MAX_SEALED: Final = 1 << 21


def start(reader: Reader, kind: str, mh: bytes) -> None:
    """Read a message's kind and round.

    Raises:
        PeerProtocolError: it is of another kind, or of another round.
    """
    if reader.text(max_len=32) != kind:
        raise PeerProtocolError(f"{kind}: another kind of message")
    if reader.raw(HASH_BYTES) != mh:
        raise PeerProtocolError(f"{kind}: belongs to another round")


def ascending(values: list[int], bound: int, what: str) -> list[int]:
    """Return indices that ascend strictly below a bound.

    Raises:
        PeerProtocolError: they do not.
    """
    if values != sorted(set(values)) or (values and values[-1] >= bound):
        raise PeerProtocolError(f"{what}: indices are not distinct, in order and in range")
    return values


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a contributor signs: its whole message, by hashes.

    Attributes:
        certificate: the contributor's, encoded.
        rank: of its adapter.
        nonce: common to all shares of this message; random.
        words: sum index to hash of the ciphertext.
        sealed: hash of the sealed shares of each member, by index.
    """

    certificate: bytes
    rank: int
    nonce: bytes
    words: dict[int, bytes]
    sealed: tuple[bytes, ...]

    def encode(self, mh: bytes) -> bytes:
        """Return the bytes that are signed."""
        writer = Writer().text("contribution").raw(mh).blob(self.certificate).u16(self.rank).raw(self.nonce)
        writer.u16(len(self.words))
        for index, value in self.words.items():
            writer.u16(index).raw(value)
        writer.u16(len(self.sealed))
        for value in self.sealed:
            writer.raw(value)
        return writer.bytes()

    @classmethod
    def decode(cls, data: bytes, signed: SignedManifest) -> Header:
        """Read what `encode` wrote.

        Raises:
            PeerProtocolError: malformed, of another round, no sum, or shares for another committee.
        """
        reader = Reader(data, "contribution")
        start(reader, "contribution", signed.mh)
        certificate, rank = reader.blob(max_len=MAX_CERTIFICATE), reader.u16()
        nonce = reader.raw(SHARE_NONCE_BYTES)
        pairs = [(reader.u16(), reader.raw(HASH_BYTES)) for _ in range(_count(reader, MAX_SUMS))]
        ascending([index for index, _ in pairs], len(signed.manifest.sums), "contribution")
        sealed = tuple(reader.raw(HASH_BYTES) for _ in range(_count(reader, MAX_MEMBERS)))
        reader.finish()
        if not pairs or len(sealed) != len(signed.manifest.members):
            raise PeerProtocolError("contribution: no sum, or shares for another committee")
        return cls(certificate=certificate, rank=rank, nonce=nonce, words=dict(pairs), sealed=sealed)


def seal_context(mh: bytes, sender: str, recipient: str, nonce: bytes, sums: list[int]) -> bytes:
    """Bind sealed shares to round, sender, recipient, message and sums."""
    writer = Writer().raw(mh).text(sender).text(recipient).raw(nonce).u16(len(sums))
    for index in sums:
        writer.u16(index)
    return writer.bytes()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One survivor of one sum: its index, its rank, and the hash of its contribution's header."""

    index: int
    rank: int
    contribution: bytes


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """The survivor sets, one for each sum in the manifest's order; an empty one stays closed."""

    survivors: tuple[tuple[Entry, ...], ...]

    def encode(self, mh: bytes) -> bytes:
        """Return the canonical bytes."""
        writer = Writer().text("ballot").raw(mh).u16(len(self.survivors))
        for entries in self.survivors:
            writer.u16(len(entries))
            for entry in entries:
                writer.u16(entry.index).u16(entry.rank).raw(entry.contribution)
        return writer.bytes()

    @classmethod
    def decode(cls, data: bytes, signed: SignedManifest) -> Ballot:
        """Read what `encode` wrote.

        Raises:
            PeerProtocolError: malformed, of another round, or with another number of sums.
        """
        reader = Reader(data, "ballot")
        start(reader, "ballot", signed.mh)
        if (num_sums := reader.u16()) != len(signed.manifest.sums):
            raise PeerProtocolError(f"ballot: another number of sums: {num_sums}")
        survivors = []
        for _ in range(num_sums):
            entries = tuple(
                Entry(index=reader.u16(), rank=reader.u16(), contribution=reader.raw(HASH_BYTES))
                for _ in range(_count(reader, MAX_MEMBERS))
            )
            ascending([entry.index for entry in entries], len(signed.manifest.members), "ballot")
            survivors.append(entries)
        reader.finish()
        return cls(survivors=tuple(survivors))


def ballot_digest(data: bytes) -> bytes:
    """Hash a ballot: what is voted on."""
    return digest("ballot", data)


def vote_body(mh: bytes, index: int, ballot: bytes) -> bytes:
    """Return what member `index` signs to vote for a ballot's hash."""
    return Writer().text("vote").raw(mh).u16(index).raw(ballot).bytes()


def encode_quorum(mh: bytes, ballot: bytes, votes: dict[int, bytes]) -> bytes:
    """Gather votes (index to signature) on one ballot's hash into a quorum certificate."""
    writer = Writer().text("quorum").raw(mh).raw(ballot).u16(len(votes))
    for index in sorted(votes):
        writer.u16(index).raw(votes[index])
    return writer.bytes()


def decode_quorum(data: bytes, signed: SignedManifest) -> tuple[bytes, dict[int, bytes]]:
    """Read what `encode_quorum` wrote: (ballot's hash, votes); nothing is verified.

    Raises:
        PeerProtocolError: malformed, of another round, or fewer votes than a quorum.
    """
    reader = Reader(data, "quorum")
    start(reader, "quorum", signed.mh)
    ballot = reader.raw(HASH_BYTES)
    pairs = [(reader.u16(), reader.raw(SIGNATURE_BYTES)) for _ in range(_count(reader, MAX_MEMBERS))]
    reader.finish()
    ascending([index for index, _ in pairs], len(signed.manifest.members), "quorum")
    if len(pairs) < signed.manifest.committee.quorum:
        raise PeerProtocolError(f"quorum: too few votes, {signed.manifest.committee.quorum}: {len(pairs)}")
    return ballot, dict(pairs)


def _count(reader: Reader, bound: int) -> int:
    if (count := reader.u16()) > bound:
        raise PeerProtocolError(f"a list has more than {bound} entries: {count}")
    return count
