"""What is published with a release, and how anybody checks it (docs/protocol.md 5.11).

It shows that one family of survivor sets was voted for by a quorum of the round's committee, each set of an
opened sum at least n_min devices. Two quorums share a member that votes once, so no other family was opened.
It does not show that the released adapter follows from the sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mimo_fed.codec import Reader, Writer
from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg.crypto import digest
from mimo_fed.secagg.identity import Anchors
from mimo_fed.secagg.intake import verify_quorum
from mimo_fed.secagg.manifest import SignedManifest, verify_past_manifest
from mimo_fed.secagg.messages import Ballot, ballot_digest, decode_quorum, indices_of

MAX_EVIDENCE: Final = 1 << 28
"""bytes"""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What verified evidence says of a round.

    Attributes:
        round_id: of the round.
        kind: "train" or "evaluate".
        base_digest: SHA-256 (hex) of the adapter it worked on.
        mode: of its committee.
        voters: ids of the members that voted for the ballot.
        num_members: size of the committee.
        opened: name of each opened sum to the number of devices in it.
        closed: names of the sums that stayed closed.
        n_min: name of each opened sum to the fewest devices it may be opened for.
        survivors: ids of the devices in any sum.
        quorum_digest: hash of the quorum certificate, hexadecimal.
    """

    round_id: str
    kind: str
    base_digest: str
    mode: str
    voters: tuple[str, ...]
    num_members: int
    opened: Mapping[str, int]
    closed: tuple[str, ...]
    n_min: Mapping[str, int]
    survivors: tuple[str, ...]
    quorum_digest: str


def encode_evidence(signed: SignedManifest, ballot: bytes, certificate: bytes) -> bytes:
    """Put manifest, ballot and quorum certificate into one file."""
    return Writer().text("evidence").blob(signed.encoded).blob(ballot).blob(certificate).bytes()


def decode_evidence(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Read what `encode_evidence` wrote: (manifest, ballot, quorum certificate); nothing is verified.

    Raises:
        PeerProtocolError: malformed.
    """
    reader = Reader(data, "evidence")
    if reader.text(max_len=32) != "evidence":
        raise PeerProtocolError("evidence: another kind of message")
    m1, ballot, certificate = (reader.blob(max_len=MAX_EVIDENCE) for _ in range(3))
    reader.finish()
    return m1, ballot, certificate


def quorum_digest(certificate: bytes) -> str:
    """Name a quorum certificate: its hash, hexadecimal."""
    return digest("quorum", certificate).hex()


def verify_evidence(data: bytes, anchors: Anchors) -> Audit:
    """Check the published evidence of a round.

    Certificates must have been in force at the round's deadline; one that `anchors` revoke does not count.
    How many devices were enrolled then is not known, so the lottery's threshold is taken as it is.

    Args:
        data: what `encode_evidence` wrote.
        anchors: the keys to trust, as signed by the fleet's offline role.

    Raises:
        PeerProtocolError: malformed, forged, or not a quorum's votes on this ballot.
    """
    m1, encoded, certificate = decode_evidence(data)
    signed = verify_past_manifest(m1, anchors)
    ballot = Ballot.decode(encoded, signed)
    if verify_quorum(signed, certificate) != ballot_digest(encoded):
        raise PeerProtocolError("evidence: the votes are for another ballot")
    _, votes = decode_quorum(certificate, signed)
    sums, opened = signed.manifest.sums, indices_of(ballot.opened)
    return Audit(
        round_id=signed.manifest.round_id,
        kind=signed.manifest.kind,
        base_digest=signed.manifest.base_digest,
        mode=signed.manifest.mode,
        voters=tuple(signed.member_id(index) for index in votes),
        num_members=len(signed.manifest.members),
        opened={sums[i].name: len(ballot.entries(i)) for i in opened},
        closed=tuple(spec.name for i, spec in enumerate(sums) if i not in opened),
        n_min={sums[i].name: sums[i].n_min for i in opened},
        survivors=tuple(entry.device_id for entry in ballot.survivors if entry.sums & ballot.opened),
        quorum_digest=quorum_digest(certificate),
    )
