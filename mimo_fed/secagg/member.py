"""A committee member: checks its shares, votes once, opens once (docs/protocol.md 5.7-5.10).

    ready --receive--> received --vote--> voted --open--> opened
             M2b                   M3              M4

Each step erases what the next one does not need: the prekey when the shares are read, the single shares when
their sums are formed. Asked the same again, a member gives the same bytes; asked another thing, it refuses.
Store `to_bytes()` before an answer leaves: a member restored from an older state could vote twice.
"""

from __future__ import annotations

from mimo_fed.codec import Reader, Writer
from mimo_fed.errors import LocalProtocolError, PeerProtocolError
from mimo_fed.secagg.crypto import Box, SigningKey, digest
from mimo_fed.secagg.identity import Anchors, Certificate
from mimo_fed.secagg.intake import verify_quorum
from mimo_fed.secagg.manifest import SignedManifest
from mimo_fed.secagg.messages import Ballot, ballot_digest, start, vote_body
from mimo_fed.secagg.shares import (
    Received,
    add_up,
    check_ballot,
    read_shares,
    restore_received,
    write_received,
)


class Member:
    """A device's, or a helper's, part in opening a round.

    Args:
        signed: the verified manifest.
        key: its own.
        certificate: its own.
        prekey_secret: the private half of its prekey in the manifest.
    """

    def __init__(
        self, signed: SignedManifest, key: SigningKey, certificate: Certificate, prekey_secret: bytes
    ) -> None:
        self._signed, self._key = signed, key
        self._index = signed.manifest.index_of(certificate.device_id)
        self._secret = prekey_secret
        self._request = self._complaints = b""
        self._received: dict[str, Received] = {}
        self._ballot = self._vote = self._opening = b""

    def __repr__(self) -> str:
        return f"Member({self._signed.member_id(self._index)!r}, ...)"

    def receive(self, shares_request: bytes, anchors: Anchors) -> bytes:
        """Read the shares of all contributors; name those whose shares or certificates are bad: M2b.

        Raises:
            PeerProtocolError: malformed, forged, of another round, or other shares than the first time.
        """
        asked = digest("shares", shares_request)
        if self._request:
            if asked != self._request:
                raise PeerProtocolError("shares: another set than the first one")
            return self._complaints
        box = Box(self._signed.manifest.suite, self._secret)
        received = read_shares(self._signed, self._index, box, anchors, shares_request)
        accused = {d: item.reason for d, item in received.items() if item.reason is not None}
        writer = Writer().text("complaints").raw(self._signed.mh).u16(self._index).u32(len(accused))
        for device_id, reason in accused.items():
            writer.text(device_id).u8(reason)
        self._complaints = self._sign("complaints", writer.bytes())
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
        check_ballot(decoded, self._received)
        opening = add_up(self._signed, self._index, decoded, asked, self._received)
        self._opening = self._sign("opening", opening)
        self._vote = self._sign("vote", vote_body(self._signed.mh, self._index, asked))
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
        return self._opening

    def to_bytes(self) -> bytes:
        """Return the whole state, secrets included; keep it encrypted."""
        writer = Writer().text("member").raw(self._signed.mh).blob(self._secret).blob(self._request)
        writer.blob(self._complaints).blob(self._ballot).blob(self._vote).blob(self._opening)
        write_received(writer, self._received)
        return writer.bytes()

    @classmethod
    def from_bytes(
        cls, signed: SignedManifest, key: SigningKey, certificate: Certificate, data: bytes
    ) -> Member:
        """Restore what `to_bytes` wrote.

        Raises:
            LocalProtocolError: the state is damaged or of another round.
        """
        reader = Reader(data, "member")
        try:
            start(reader, "member", signed.mh)
            member = cls(signed, key, certificate, reader.blob())
            member._request, member._complaints = reader.blob(), reader.blob()
            member._ballot, member._vote, member._opening = reader.blob(), reader.blob(), reader.blob()
            member._received = restore_received(reader)
            reader.finish()
        except PeerProtocolError as error:
            raise LocalProtocolError(f"member state cannot be read: {error.message}") from None
        return member

    def _sign(self, domain: str, body: bytes) -> bytes:
        return body + self._key.sign(domain, body)
