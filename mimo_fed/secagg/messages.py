"""The messages of a round after its manifest, as bytes and as values (docs/protocol.md 5.6-5.10).

Decoding checks form, never who sent it. Every list is strictly ascending, so that a value has one encoding
and no device stands in it twice. A set of sums is a bit mask: bit i for the manifest's sum i.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.codec import Reader, Writer
from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg.committee import MAX_MEMBERS
from mimo_fed.secagg.crypto import SIGNATURE_BYTES, digest
from mimo_fed.secagg.identity import MAX_CERTIFICATE, Certificate, check_name
from mimo_fed.secagg.manifest import MAX_COHORT, SignedManifest
from mimo_fed.secagg.modular import MODULUS
from mimo_fed.secagg.shamir import NUM_MASKS, SHARE_DTYPE, num_groups

HASH_BYTES: Final = 32
SHARE_NONCE_BYTES: Final = 16
MAX_HEADER: Final = 1 << 14


def start(reader: Reader, kind: str, mh: bytes) -> None:
    """Read a message's kind and round.

    Raises:
        PeerProtocolError: it is of another kind, or of another round.
    """
    if reader.text(max_len=32) != kind:
        raise PeerProtocolError(f"{kind}: another kind of message")
    if reader.raw(HASH_BYTES) != mh:
        raise PeerProtocolError(f"{kind}: belongs to another round")


def ascending(ids: Sequence[str], what: str) -> None:
    """Accept device ids that ascend strictly.

    Raises:
        PeerProtocolError: they do not.
    """
    if any(one >= other for one, other in pairwise(ids)):
        raise PeerProtocolError(f"{what}: devices are not distinct and in order")


def mask_of(indices: Iterable[int]) -> int:
    """Write a set of sums as a bit mask."""
    return sum(1 << index for index in indices)


def indices_of(mask: int) -> tuple[int, ...]:
    """Read a set of sums from a bit mask, ascending."""
    return tuple(index for index in range(mask.bit_length()) if mask >> index & 1)


def share_values(num_sums: int, packing: int) -> int:
    """Count the residues that one member gets of one contributor."""
    return num_sums * num_groups(packing) + NUM_MASKS


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a contributor signs: its whole message.

    Attributes:
        certificate: the contributor's.
        rank: of its adapter.
        nonce: common to all shares of this message; random.
        sums: the sums it contributes to, a bit mask.
        words: hash of the ciphertexts of all of them.
        sealed: root of the hash tree over the sealed shares of all members.
        proof: (4, r) residues, that the shares lie on polynomials of degree below r.
    """

    certificate: Certificate
    rank: int
    nonce: bytes
    sums: int
    words: bytes
    sealed: bytes
    proof: NDArray[np.uint32]

    @property
    def device_id(self) -> str:
        """Whose contribution it is."""
        return self.certificate.device_id

    @cached_property
    def indices(self) -> tuple[int, ...]:
        """The sums it contributes to, by index."""
        return indices_of(self.sums)

    def encode(self, mh: bytes) -> bytes:
        """Return the bytes that are signed."""
        statement = encode_statement(
            mh, self.certificate, self.rank, self.nonce, self.sums, self.words, self.sealed
        )
        return statement + self.proof.astype(SHARE_DTYPE).tobytes()

    def challenge(self, mh: bytes) -> bytes:
        """Derive the challenge of its proof from everything before it."""
        data = self.encode(mh)
        return digest("challenge", data[: len(data) - 4 * self.proof.size])

    @classmethod
    def decode(cls, data: bytes, signed: SignedManifest) -> Header:
        """Read what `encode` wrote.

        Raises:
            PeerProtocolError: malformed, of another round, of a device that is not of the cohort, no sum, or
                sums that are not open to it.
        """
        reader = Reader(data, "contribution")
        start(reader, "contribution", signed.mh)
        certificate = Certificate.decode(reader.blob(max_len=MAX_CERTIFICATE))
        rank, nonce, sums = reader.u16(), reader.raw(SHARE_NONCE_BYTES), reader.u64()
        words, sealed = reader.raw(HASH_BYTES), reader.raw(HASH_BYTES)
        threshold = signed.manifest.committee.threshold
        proof = np.frombuffer(reader.raw(4 * NUM_MASKS * threshold), SHARE_DTYPE).astype(np.uint32)
        reader.finish()
        allowed = mask_of(signed.sums_open_to(certificate.device_id))
        if not sums or sums & ~allowed:
            raise PeerProtocolError(f"contribution: no sum, or one not open to {certificate.device_id}")
        if int(proof.max()) >= MODULUS:
            raise PeerProtocolError(f"contribution: proof holds no residues: {certificate.device_id}")
        return cls(
            certificate=certificate,
            rank=rank,
            nonce=nonce,
            sums=sums,
            words=words,
            sealed=sealed,
            proof=proof.reshape(NUM_MASKS, threshold),
        )


def encode_statement(
    mh: bytes, certificate: Certificate, rank: int, nonce: bytes, sums: int, words: bytes, sealed: bytes
) -> bytes:
    """Write a header without its proof: what the proof's challenge is derived from."""
    writer = Writer().text("contribution").raw(mh).blob(certificate.encode()).u16(rank).raw(nonce)
    return writer.u64(sums).raw(words).raw(sealed).bytes()


def seal_context(mh: bytes, sender: str, recipient: str, nonce: bytes, sums: int) -> bytes:
    """Bind sealed shares to round, sender, recipient, message and sums."""
    return Writer().raw(mh).text(sender).text(recipient).raw(nonce).u64(sums).bytes()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One survivor: its id, its rank, its sums, and the hash of its contribution's header."""

    device_id: str
    rank: int
    sums: int
    contribution: bytes


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """Who is in the round, and which sums are opened.

    A survivor is in every opened sum that it contributed to, so two opened sums differ only by the
    devices' ranks and by the groups that were drawn.

    Attributes:
        survivors: sorted by device id.
        opened: the sums to open, a bit mask; the others stay closed.
    """

    survivors: tuple[Entry, ...]
    opened: int

    def entries(self, sum_index: int) -> tuple[Entry, ...]:
        """Return the survivors of an opened sum; nobody, if it stays closed."""
        if not self.opened >> sum_index & 1:
            return ()
        return tuple(entry for entry in self.survivors if entry.sums >> sum_index & 1)

    def encode(self, mh: bytes) -> bytes:
        """Return the canonical bytes."""
        writer = Writer().text("ballot").raw(mh).u64(self.opened).u32(len(self.survivors))
        for entry in self.survivors:
            writer.text(entry.device_id).u16(entry.rank).u64(entry.sums).raw(entry.contribution)
        return writer.bytes()

    @classmethod
    def decode(cls, data: bytes, signed: SignedManifest) -> Ballot:
        """Read what `encode` wrote, and check every rule that can be seen in it alone.

        Raises:
            PeerProtocolError: malformed, of another round, opens nothing or an unknown sum, or a set is too
                small or too large.
        """
        reader = Reader(data, "ballot")
        start(reader, "ballot", signed.mh)
        opened = reader.u64()
        survivors = tuple(
            Entry(
                device_id=check_name(reader.text(max_len=64), "ballot: device id"),
                rank=reader.u16(),
                sums=reader.u64(),
                contribution=reader.raw(HASH_BYTES),
            )
            for _ in range(count(reader, MAX_COHORT))
        )
        reader.finish()
        ascending([entry.device_id for entry in survivors], "ballot")
        ballot = cls(survivors=survivors, opened=opened)
        ballot._check(signed)
        return ballot

    def _check(self, signed: SignedManifest) -> None:
        manifest = signed.manifest
        if not self.opened or self.opened >> len(manifest.sums):
            raise PeerProtocolError(f"ballot: opens nothing, or a sum that is not there: {self.opened:#x}")
        for index in indices_of(self.opened):
            spec, size = manifest.sums[index], len(self.entries(index))
            if not spec.n_min <= size <= manifest.n_max:
                raise PeerProtocolError(
                    f"ballot: survivors of {spec.name} not within {spec.n_min} and {manifest.n_max}: {size}"
                )


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
        PeerProtocolError: malformed, of another round, of no members, or fewer votes than a quorum.
    """
    reader = Reader(data, "quorum")
    start(reader, "quorum", signed.mh)
    ballot = reader.raw(HASH_BYTES)
    if (num_votes := reader.u16()) > MAX_MEMBERS:
        raise PeerProtocolError(f"quorum: more votes than a committee has members: {num_votes}")
    pairs = [(reader.u16(), reader.raw(SIGNATURE_BYTES)) for _ in range(num_votes)]
    reader.finish()
    committee, voters = signed.manifest.committee, [index for index, _ in pairs]
    if voters != sorted(set(voters)) or (voters and voters[-1] >= committee.size):
        raise PeerProtocolError(f"quorum: voters are not distinct members, in order: {voters}")
    if len(pairs) < committee.quorum:
        raise PeerProtocolError(f"quorum: too few votes, {committee.quorum}: {len(pairs)}")
    return ballot, dict(pairs)


def count(reader: Reader, bound: int) -> int:
    """Read the length of a list.

    Raises:
        PeerProtocolError: it is above the bound.
    """
    if (number := reader.u32()) > bound:
        raise PeerProtocolError(f"a list has more than {bound} entries: {number}")
    return number
