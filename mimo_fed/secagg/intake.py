"""Reading signed messages: whose they are, and that they belong to this round (docs/protocol.md 5.6-5.10).

Pure functions of the manifest and the bytes. What the message does to a session is the session's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimo_fed.codec import Reader
from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg.crypto import SIGNATURE_BYTES, digest, verify
from mimo_fed.secagg.identity import Certificate
from mimo_fed.secagg.manifest import SignedManifest, num_words
from mimo_fed.secagg.messages import (
    HASH_BYTES,
    MAX_HEADER,
    MAX_SEALED,
    Header,
    ascending,
    decode_quorum,
    start,
    vote_body,
)
from mimo_fed.secagg.modular import MODULUS
from mimo_fed.secagg.shamir import SHARE_DTYPE, num_groups


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """An M2 without its ciphertexts: what is kept of it in memory."""

    encoded: bytes
    signature: bytes
    header: Header
    sealed: tuple[bytes, ...]


def verify_header(signed: SignedManifest, encoded: bytes, signature: bytes) -> tuple[int, Header]:
    """Check whose contribution a header is: (index, header).

    Raises:
        PeerProtocolError: malformed, of another round, unsigned, or not a member's.
    """
    header = Header.decode(encoded, signed)
    certificate = Certificate.decode(header.certificate)
    index = signed.manifest.index_of(certificate.device_id)
    if certificate != signed.manifest.members[index].certificate:
        raise PeerProtocolError(f"contribution: another certificate of {certificate.device_id}")
    verify(certificate.public_key, "contribution", encoded, signature)
    return index, header


def read_contribution(signed: SignedManifest, m2: bytes) -> tuple[int, Contribution, dict[int, bytes]]:
    """Check a contribution against its signed header: (index, contribution, sum index to words).

    Raises:
        PeerProtocolError: malformed, forged, of another round, or not what its header signs.
    """
    manifest = signed.manifest
    reader = Reader(m2, "contribution")
    encoded, signature = reader.blob(max_len=MAX_HEADER), reader.raw(SIGNATURE_BYTES)
    index, header = verify_header(signed, encoded, signature)
    sealed = tuple(reader.blob(max_len=MAX_SEALED) for _ in header.sealed)
    words = {}
    for sum_index in header.words:
        size = num_words(manifest.sums[sum_index]) * manifest.word_bits // 8
        words[sum_index] = reader.blob(max_len=size)
        if len(words[sum_index]) != size:
            raise PeerProtocolError(f"contribution: a sum of another length: {signed.device(index)}")
    reader.finish()
    hashes = {i: digest("words", data) for i, data in words.items()}
    if hashes != header.words or tuple(digest("sealed", data) for data in sealed) != header.sealed:
        raise PeerProtocolError(f"contribution: not what its header signs: {signed.device(index)}")
    kept = Contribution(encoded=encoded, signature=signature, header=header, sealed=sealed)
    return index, kept, words


def read_complaints(signed: SignedManifest, m2b: bytes) -> tuple[int, list[int]]:
    """Check a list of bad shares: (accuser, accused).

    Raises:
        PeerProtocolError: malformed, forged, or of another round.
    """
    reader = Reader(m2b, "complaints")
    start(reader, "complaints", signed.mh)
    index = reader.u16()
    accused = [reader.u16() for _ in range(reader.u16())]
    _check_signature(signed, index, "complaints", m2b, reader)
    return index, ascending(accused, len(signed.manifest.members), "complaints")


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
    index, ballot = reader.u16(), reader.raw(HASH_BYTES)
    groups = num_groups(signed.manifest.committee.packing)
    pairs = [(reader.u16(), reader.raw(4 * groups)) for _ in range(reader.u16())]
    _check_signature(signed, index, "opening", m4, reader)
    ascending([sum_index for sum_index, _ in pairs], len(signed.manifest.sums), "opening")
    values = {i: np.frombuffer(data, SHARE_DTYPE).astype(np.uint32) for i, data in pairs}
    if any(int(v.max()) >= MODULUS for v in values.values()):
        raise PeerProtocolError(f"opening: a value of q or above: {signed.device(index)}")
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
