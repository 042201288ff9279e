"""A committee member: checks its shares, votes once, opens once (docs/protocol.md 5.7-5.10).

    ready --receive--> received --vote--> voted --open--> opened
             M2b                   M3              M4

Each step erases what the next one does not need: the prekey when the shares are read, the single shares when
their sums are formed. Asked the same again, a member gives the same bytes; asked another thing, it refuses.
Store `to_bytes()` before an answer leaves; a member restored from an older state could vote twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimo_fed.codec import Reader, Writer
from mimo_fed.errors import LocalProtocolError, PeerProtocolError
from mimo_fed.secagg.crypto import SIGNATURE_BYTES, SigningKey, digest, unseal, verify
from mimo_fed.secagg.identity import Certificate
from mimo_fed.secagg.manifest import SignedManifest
from mimo_fed.secagg.messages import (
    MAX_HEADER,
    MAX_SEALED,
    Ballot,
    Header,
    ascending,
    ballot_digest,
    decode_quorum,
    seal_context,
    start,
    vote_body,
)
from mimo_fed.secagg.modular import MODULUS
from mimo_fed.secagg.shamir import SHARE_DTYPE, num_groups


@dataclass(frozen=True, kw_only=True)
class _Received:
    """What one contributor gave this member: sum index to shares; None if they were bad."""

    rank: int
    contribution: bytes
    shares: dict[int, NDArray[np.uint32]] | None

    def __repr__(self) -> str:
        return "_Received(...)"


class Member:
    """One device's part in opening a round.

    Args:
        signed: the verified manifest.
        key: the device's.
        certificate: the device's.
        prekey_secret: the private half of its prekey in the manifest.
    """

    def __init__(
        self, signed: SignedManifest, key: SigningKey, certificate: Certificate, prekey_secret: bytes
    ) -> None:
        self._signed, self._key = signed, key
        self._index = signed.manifest.index_of(certificate.device_id)
        self._device_id = certificate.device_id
        self._secret = prekey_secret
        self._request = self._complaints = b""
        self._received: dict[int, _Received] = {}
        self._ballot = self._vote = self._opening = b""
        self._opened = False

    def __repr__(self) -> str:
        return f"Member({self._device_id!r}, ...)"

    def receive(self, shares_request: bytes) -> bytes:
        """Read the shares of all contributors; name those whose shares are bad: M2b.

        Raises:
            PeerProtocolError: malformed, forged, of another round, or other shares than the first time.
        """
        asked = digest("shares", shares_request)
        if self._request:
            if asked != self._request:
                raise PeerProtocolError("shares: another set than the first one")
            return self._complaints
        received = self._read_shares(shares_request)
        body = Writer().text("complaints").raw(self._signed.mh).u16(self._index)
        accused = [index for index, item in received.items() if item.shares is None]
        body.u16(len(accused))
        for index in accused:
            body.u16(index)
        self._complaints = body.bytes() + self._key.sign("complaints", body.bytes())
        self._request, self._received, self._secret = asked, received, b""
        return self._complaints

    def vote(self, ballot: bytes) -> bytes:
        """Check the survivor sets and vote for them, once ever: M3.

        Raises:
            PeerProtocolError: a set is too small or too large, names a contribution this member has no good
                share of, or is not the one it has voted for.
        """
        asked = ballot_digest(ballot)
        if self._ballot:
            if asked != self._ballot:
                raise PeerProtocolError("ballot: this member has voted for another one")
            return self._vote
        if not self._request:
            raise PeerProtocolError("ballot: came before the shares")
        decoded = Ballot.decode(ballot, self._signed)
        self._check(decoded)
        opening = self._add_up(decoded, asked)
        body = vote_body(self._signed.mh, self._index, asked)
        self._vote = body + self._key.sign("vote", body)
        self._opening = opening + self._key.sign("opening", opening)
        self._ballot, self._received = asked, {}
        return self._vote

    def open(self, quorum_certificate: bytes) -> bytes:
        """Release the sums of this member's shares, once a quorum has voted for the same ballot: M4.

        Raises:
            PeerProtocolError: the certificate is forged, too small, or for another ballot.
        """
        if not self._ballot:
            raise PeerProtocolError("quorum: came before the ballot")
        if verify_quorum(self._signed, quorum_certificate) != self._ballot:
            raise PeerProtocolError("quorum: this member has voted for another ballot")
        self._opened = True
        return self._opening

    def to_bytes(self) -> bytes:
        """Return the whole state, secrets included; keep it encrypted."""
        writer = Writer().text("member").raw(self._signed.mh).blob(self._secret).blob(self._request)
        writer.blob(self._complaints).blob(self._ballot).blob(self._vote).blob(self._opening)
        writer.u8(self._opened).u16(len(self._received))
        for index, item in self._received.items():
            writer.u16(index).u16(item.rank).raw(item.contribution).u8(item.shares is not None)
            shares = item.shares or {}
            writer.u16(len(shares))
            for sum_index, values in shares.items():
                writer.u16(sum_index).blob(values.astype(SHARE_DTYPE).tobytes())
        return writer.bytes()

    @classmethod
    def from_bytes(
        cls, signed: SignedManifest, key: SigningKey, certificate: Certificate, data: bytes
    ) -> Member:
        """Restore what `to_bytes` wrote.

        Raises:
            LocalProtocolError: the state is damaged or of another round.
        """
        try:
            return cls._restore(signed, key, certificate, data)
        except PeerProtocolError as error:
            raise LocalProtocolError(f"member state cannot be read: {error.message}") from None

    @classmethod
    def _restore(
        cls, signed: SignedManifest, key: SigningKey, certificate: Certificate, data: bytes
    ) -> Member:
        reader = Reader(data, "member")
        start(reader, "member", signed.mh)
        member = cls(signed, key, certificate, reader.blob())
        member._request, member._complaints = reader.blob(), reader.blob()
        member._ballot, member._vote, member._opening = reader.blob(), reader.blob(), reader.blob()
        member._opened = bool(reader.u8())
        for _ in range(reader.u16()):
            index, rank, contribution, good = reader.u16(), reader.u16(), reader.raw(32), reader.u8()
            shares = {
                reader.u16(): np.frombuffer(reader.blob(), SHARE_DTYPE).astype(np.uint32)
                for _ in range(reader.u16())
            }
            member._received[index] = _Received(
                rank=rank, contribution=contribution, shares=shares if good else None
            )
        reader.finish()
        return member

    def _read_shares(self, request: bytes) -> dict[int, _Received]:
        manifest = self._signed.manifest
        reader = Reader(request, "shares")
        start(reader, "shares", self._signed.mh)
        received: dict[int, _Received] = {}
        order = []
        for _ in range(reader.u16()):
            encoded, signature = reader.blob(max_len=MAX_HEADER), reader.raw(SIGNATURE_BYTES)
            sealed = reader.blob(max_len=MAX_SEALED)
            sender, header = verify_header(self._signed, encoded, signature)
            if digest("sealed", sealed) != header.sealed[self._index]:
                raise PeerProtocolError(
                    f"shares: not what the contributor signed: {manifest.members[sender].device_id}"
                )
            order.append(sender)
            received[sender] = _Received(
                rank=header.rank,
                contribution=digest("contribution", encoded),
                shares=self._unseal(sender, header, sealed),
            )
        reader.finish()
        ascending(order, len(manifest.members), "shares")
        return received

    def _unseal(self, sender: int, header: Header, sealed: bytes) -> dict[int, NDArray[np.uint32]] | None:
        """Open one contributor's shares; None if they are bad, which is the contributor's fault alone."""
        manifest = self._signed.manifest
        context = seal_context(
            self._signed.mh,
            manifest.members[sender].device_id,
            self._device_id,
            header.nonce,
            list(header.words),
        )
        try:
            plain = unseal(self._secret, context, sealed)
        except PeerProtocolError:
            return None
        groups = num_groups(manifest.committee.packing)
        if len(plain) != 4 * groups * len(header.words):
            return None
        values = np.frombuffer(plain, SHARE_DTYPE).astype(np.uint32).reshape(-1, groups)
        if int(values.max()) >= MODULUS:
            return None
        return dict(zip(header.words, values, strict=True))

    def _check(self, ballot: Ballot) -> None:
        manifest = self._signed.manifest
        if not any(ballot.survivors):
            raise PeerProtocolError("ballot: opens nothing")
        for sum_index, (spec, entries) in enumerate(zip(manifest.sums, ballot.survivors, strict=True)):
            if entries and not spec.n_min <= len(entries) <= manifest.n_max:
                raise PeerProtocolError(
                    f"ballot: survivors of {spec.name} not within {spec.n_min} and {manifest.n_max}: "
                    f"{len(entries)}"
                )
            for entry in entries:
                item = self._received.get(entry.index)
                if item is None or item.shares is None or sum_index not in item.shares:
                    raise PeerProtocolError(
                        f"ballot: no good share of {manifest.members[entry.index].device_id} in {spec.name}"
                    )
                if item.contribution != entry.contribution or item.rank != entry.rank:
                    raise PeerProtocolError(
                        f"ballot: another contribution of {manifest.members[entry.index].device_id}"
                    )

    def _add_up(self, ballot: Ballot, ballot_hash: bytes) -> bytes:
        opened = [(i, entries) for i, entries in enumerate(ballot.survivors) if entries]
        writer = Writer().text("opening").raw(self._signed.mh).u16(self._index).raw(ballot_hash)
        writer.u16(len(opened))
        for sum_index, entries in opened:
            total = np.zeros(num_groups(self._signed.manifest.committee.packing), np.uint64)
            for entry in entries:
                shares = self._received[entry.index].shares
                if shares is None:
                    raise LocalProtocolError("ballot was not checked")
                total += shares[sum_index]
            writer.u16(sum_index).blob((total % MODULUS).astype(SHARE_DTYPE).tobytes())
        return writer.bytes()


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
