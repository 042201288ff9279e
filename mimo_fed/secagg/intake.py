"""Reading signed messages: whose they are, and that they belong to this round (docs/protocol.md 5.6-5.10).

Pure functions of the manifest and the bytes. What the message does to a session is the session's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimo_fed.codec import Reader
from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg.crypto import SIGNATURE_BYTES, digest, digest_of, sealed_bytes, verify
from mimo_fed.secagg.identity import Anchors, check_name
from mimo_fed.secagg.manifest import SignedManifest, num_words
from mimo_fed.secagg.merkle import Tree, leaf, tree
from mimo_fed.secagg.messages import (
    HASH_BYTES,
    MAX_HEADER,
    Header,
    ascending,
    count,
    decode_quorum,
    indices_of,
    share_values,
    start,
    vote_body,
)
from mimo_fed.secagg.modular import MODULUS
from mimo_fed.secagg.shamir import SHARE_DTYPE, num_groups

REASONS = ("sealed shares do not open", "shares are inconsistent", "certificate does not count")
"""why a member accuses a contributor, by number"""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """An M2 without what is large: the coordinator keeps this of it in memory.

    Attributes:
        encoded: the header.
        signature: the contributor's, over the header.
        header: decoded.
        tree: over the hashes of the sealed shares.
        sealed_at: where in M2 the first sealed share begins; they are all `sealed_length` bytes.
        sealed_length: bytes of one sealed share.
    """

    encoded: bytes
    signature: bytes
    header: Header
    tree: Tree
    sealed_at: int
    sealed_length: int

    @property
    def digest(self) -> bytes:
        """The name of this contribution in ballots."""
        return digest("contribution", self.encoded)


def verify_header(signed: SignedManifest, encoded: bytes, signature: bytes) -> Header:
    """Check that a header is of this round and signed by the key in its certificate.

    Whether that certificate counts is another question: see `check_certificate`.

    Raises:
        PeerProtocolError: malformed, of another round, not of the cohort, or unsigned.
    """
    header = Header.decode(encoded, signed)
    verify(header.certificate.public_key, "contribution", encoded, signature)
    return header


def check_certificate(signed: SignedManifest, header: Header, anchors: Anchors) -> None:
    """Accept a contributor whose certificate counts until the round's deadline.

    Raises:
        PeerProtocolError: unsigned, revoked, not in force, or not the one in the manifest.
    """
    anchors.check(header.certificate, signed.manifest.deadline_at_s)
    if signed.manifest.mode == "all":
        member = signed.manifest.members[signed.manifest.index_of(header.device_id)]
        if member.certificate != header.certificate:
            raise PeerProtocolError(f"contribution: another certificate of {header.device_id}")


def read_contribution(
    signed: SignedManifest, m2: bytes
) -> tuple[Contribution, Iterator[tuple[int, memoryview]]]:
    """Check a contribution against its signed header: (what to keep, sum index and its words).

    Raises:
        PeerProtocolError: malformed, forged, of another round, or not what its header signs.
    """
    manifest = signed.manifest
    reader = Reader(m2, "contribution")
    encoded, signature = reader.blob(max_len=MAX_HEADER), reader.raw(SIGNATURE_BYTES)
    header = verify_header(signed, encoded, signature)
    length = sealed_bytes(manifest.suite, 4 * share_values(len(header.indices), manifest.committee.packing))
    sealed_at = reader.position
    view = memoryview(m2)
    pieces = [view[sealed_at + i * length :][:length] for i in range(manifest.committee.size)]
    at = sealed_at + length * manifest.committee.size
    sizes = [num_words(manifest.sums[i]) * manifest.word_bits // 8 for i in header.indices]
    if at + sum(sizes) != len(m2):
        raise PeerProtocolError(f"contribution: another length: {header.device_id}, {len(m2)} bytes")
    words = dict(_cut(header.indices, sizes, view, at))
    hashes = tree([leaf(bytes(piece)) for piece in pieces])
    if hashes[-1] != header.sealed or digest_of("words", words.values()) != header.words:
        raise PeerProtocolError(f"contribution: not what its header signs: {header.device_id}")
    kept = Contribution(
        encoded=encoded,
        signature=signature,
        header=header,
        tree=hashes,
        sealed_at=sealed_at,
        sealed_length=length,
    )
    return kept, iter(words.items())


def _cut(
    indices: Sequence[int], sizes: Sequence[int], view: memoryview, at: int
) -> Iterator[tuple[int, memoryview]]:
    for index, size in zip(indices, sizes, strict=True):
        yield index, view[at : at + size]
        at += size


def read_complaints(signed: SignedManifest, m2b: bytes) -> tuple[int, dict[str, int]]:
    """Check a list of bad shares: (accuser, accused device to reason).

    Raises:
        PeerProtocolError: malformed, forged, or of another round.
    """
    reader = Reader(m2b, "complaints")
    start(reader, "complaints", signed.mh)
    index = reader.u16()
    pairs = [
        (check_name(reader.text(max_len=64), "complaints: device id"), reader.u8())
        for _ in range(count(reader, 1 << 20))
    ]
    _check_signature(signed, index, "complaints", m2b, reader)
    ascending([device_id for device_id, _ in pairs], "complaints")
    if any(reason >= len(REASONS) for _, reason in pairs):
        raise PeerProtocolError(f"complaints: an unknown reason, from {signed.member_id(index)}")
    return index, dict(pairs)


def read_vote(signed: SignedManifest, m3: bytes) -> tuple[int, bytes, bytes]:
    """Check a vote: (voter, hash of the ballot, signature).

    Raises:
        PeerProtocolError: malformed, forged, or of another round.
    """
    reader = Reader(m3, "vote")
    start(reader, "vote", signed.mh)
    index, ballot = reader.u16(), reader.raw(HASH_BYTES)
    signature = m3[reader.position :]
    _check_signature(signed, index, "vote", m3, reader)
    return index, ballot, signature


def read_opening(signed: SignedManifest, m4: bytes) -> tuple[int, bytes, dict[int, NDArray[np.uint32]]]:
    """Check an opening: (member, hash of the ballot, sum index to its (G,) sums of shares).

    Raises:
        PeerProtocolError: malformed, forged, of another round, or with a value that is no residue.
    """
    reader = Reader(m4, "opening")
    start(reader, "opening", signed.mh)
    index, ballot, sums = reader.u16(), reader.raw(HASH_BYTES), reader.u64()
    if sums >> len(signed.manifest.sums):
        raise PeerProtocolError(f"opening: a sum that is not there: {sums:#x}")
    groups = num_groups(signed.manifest.committee.packing)
    data = {i: reader.raw(4 * groups) for i in indices_of(sums)}
    _check_signature(signed, index, "opening", m4, reader)
    values = {i: np.frombuffer(raw, SHARE_DTYPE).astype(np.uint32) for i, raw in data.items()}
    if any(int(v.max()) >= MODULUS for v in values.values()):
        raise PeerProtocolError(f"opening: a value of q or above: {signed.member_id(index)}")
    return index, ballot, values


def verify_quorum(signed: SignedManifest, data: bytes) -> bytes:
    """Check a quorum certificate and return the hash of the ballot it is for.

    Raises:
        PeerProtocolError: malformed, of another round, too few votes, or a vote that its member did not sign.
    """
    ballot, votes = decode_quorum(data, signed)
    for index, signature in votes.items():
        public_key = signed.manifest.members[index].certificate.public_key
        verify(public_key, "vote", vote_body(signed.mh, index, ballot), signature)
    return ballot


def _check_signature(signed: SignedManifest, index: int, domain: str, message: bytes, reader: Reader) -> None:
    """Check a member's signature, the last field of its message."""
    body, signature = message[: reader.position], reader.raw(SIGNATURE_BYTES)
    reader.finish()
    if index >= len(signed.manifest.members):
        raise PeerProtocolError(f"{domain}: not a member of this round: {index}")
    verify(signed.manifest.members[index].certificate.public_key, domain, body, signature)
