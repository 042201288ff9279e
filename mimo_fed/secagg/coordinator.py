"""The coordinator's session: it adds what it cannot read, and opens the sum once (docs/protocol.md 5, 7).

    collecting --close--> closed --ballot--> voting --quorum--> opening --result--> opened

The session is a pure function of its inputs in their order, so that a killed coordinator replays them. A
contribution is spooled before it is added; memory holds one accumulator for each sum and the sealed shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mimo_fed.codec import Reader, Writer
from mimo_fed.errors import LocalProtocolError, PeerProtocolError, RoundAborted
from mimo_fed.secagg.contribute import NUM_CHECKS, num_words
from mimo_fed.secagg.crypto import SIGNATURE_BYTES, digest, verify
from mimo_fed.secagg.identity import Anchors
from mimo_fed.secagg.manifest import SignedManifest
from mimo_fed.secagg.member import verify_header
from mimo_fed.secagg.messages import (
    HASH_BYTES,
    MAX_HEADER,
    MAX_SEALED,
    Ballot,
    Entry,
    Header,
    ascending,
    ballot_digest,
    encode_quorum,
    start,
)
from mimo_fed.secagg.modular import MODULUS
from mimo_fed.secagg.ring import Expander, public_key
from mimo_fed.secagg.shamir import SHARE_DTYPE, num_groups, reconstruct
from mimo_fed.secagg.words import empty_sum, error_bound, read_words, unmask


class Spool(Protocol):
    """Where contributions are kept until the round is over."""

    def put(self, name: str, data: bytes) -> None:
        """Store; durable when it returns. The same name again replaces."""
        ...

    def get(self, name: str) -> bytes:
        """Return what was stored."""
        ...


class MemorySpool:
    """A spool that a kill erases: for simulations and tests."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        """Store."""
        self._kept[name] = data

    def get(self, name: str) -> bytes:
        """Return what was stored."""
        return self._kept[name]


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


@dataclass(frozen=True, kw_only=True)
class _Contribution:
    """What is kept of an M2 in memory."""

    message: bytes
    encoded: bytes
    signature: bytes
    header: Header
    sealed: tuple[bytes, ...]


class Coordinator:
    """One round's session.

    Args:
        signed: the coordinator's own manifest, verified.
        anchors: whose certificates are revoked.
        spool: where contributions are kept.
    """

    def __init__(self, signed: SignedManifest, anchors: Anchors, spool: Spool) -> None:
        self._signed, self._anchors, self._spool = signed, anchors, spool
        manifest = signed.manifest
        self._sums = [empty_sum(num_words(spec), manifest.word_bits) for spec in manifest.sums]
        self._contributions: dict[int, _Contribution] = {}
        self._closed = False
        self._complaints: dict[int, tuple[bytes, list[int]]] = {}
        self._ballot: Ballot | None = None
        self._encoded_ballot = self._ballot_hash = self._certificate = b""
        self._votes: dict[int, bytes] = {}
        self._openings: dict[int, tuple[bytes, dict[int, NDArray[np.uint32]]]] = {}
        self._reasons: dict[str, str] = {}
        self._result: RoundResult | None = None

    @property
    def contributors(self) -> tuple[str, ...]:
        """Ids of the devices whose contribution was taken, sorted."""
        return tuple(self._name(index) for index in sorted(self._contributions))

    def add(self, m2: bytes) -> str:
        """Take a contribution: check it, spool it, add it. The same bytes again change nothing.

        Returns:
            The id of the device it is from.

        Raises:
            PeerProtocolError: malformed, forged, of another round, revoked, too late, or a second one.
        """
        index, contribution, words = self._read(m2)
        if index in self._contributions:
            if self._contributions[index].message != contribution.message:
                raise PeerProtocolError(f"contribution: a second one of {self._name(index)}")
            return self._name(index)
        if self._closed:
            raise PeerProtocolError(f"contribution: too late: {self._name(index)}")
        self._spool.put(_spool_name(self._name(index)), m2)
        for sum_index, data in words.items():
            np.add(
                self._sums[sum_index],
                read_words(data, self._signed.manifest.word_bits),
                out=self._sums[sum_index],
            )
        self._contributions[index] = contribution
        return self._name(index)

    def close(self) -> None:
        """Take no more contributions."""
        self._closed = True

    def share_request(self, device_id: str) -> bytes:
        """Return what this member is to check: every contributor's header and its own sealed shares."""
        if not self._closed:
            raise LocalProtocolError("shares are given out once contributions are closed")
        member = self._signed.manifest.index_of(device_id)
        writer = Writer().text("shares").raw(self._signed.mh).u16(len(self._contributions))
        for index in sorted(self._contributions):
            item = self._contributions[index]
            writer.blob(item.encoded).raw(item.signature).blob(item.sealed[member])
        return writer.bytes()

    def add_complaints(self, m2b: bytes) -> None:
        """Take a member's list of bad shares; the same bytes again change nothing.

        Raises:
            PeerProtocolError: malformed, forged, of another round, a second list, or after the ballot.
        """
        reader = Reader(m2b, "complaints")
        start(reader, "complaints", self._signed.mh)
        index = reader.u16()
        accused = [reader.u16() for _ in range(reader.u16())]
        body = m2b[: reader.position]
        self._check_signature(index, "complaints", body, reader)
        ascending(accused, len(self._signed.manifest.members), "complaints")
        if not set(accused) <= set(self._contributions):
            raise PeerProtocolError(f"complaints: about a device that gave nothing: {self._name(index)}")
        if index in self._complaints:
            if self._complaints[index][0] != body:
                raise PeerProtocolError(f"complaints: a second list of {self._name(index)}")
            return
        if self._ballot is not None or not self._closed:
            raise PeerProtocolError(f"complaints: out of their time: {self._name(index)}")
        self._complaints[index] = (body, accused)

    def ballot(self) -> bytes:
        """Fix the survivor sets, once: contributors that nobody accused.

        Raises:
            RoundAborted: fewer members than a quorum have answered, or no sum has n_min survivors.
        """
        if self._ballot is not None:
            return self._encoded_ballot
        if not self._closed:
            raise LocalProtocolError("survivors are fixed once contributions are closed")
        manifest = self._signed.manifest
        if len(self._complaints) < manifest.committee.quorum:
            raise RoundAborted(
                f"too few members checked their shares, {manifest.committee.quorum} must: "
                f"{len(self._complaints)}"
            )
        accused = {index for _, listed in self._complaints.values() for index in listed}
        good = {i: c for i, c in sorted(self._contributions.items()) if i not in accused}
        survivors = []
        for sum_index, spec in enumerate(manifest.sums):
            entries = tuple(
                Entry(index=i, rank=c.header.rank, contribution=digest("contribution", c.encoded))
                for i, c in good.items()
                if sum_index in c.header.words
            )
            if not spec.n_min <= len(entries) <= manifest.n_max:
                self._reasons[spec.name] = (
                    f"survivors not within {spec.n_min} and {manifest.n_max}: {len(entries)}"
                )
                entries = ()
            survivors.append(entries)
        if not any(survivors):
            raise RoundAborted(f"no sum has enough survivors: {len(good)} of {len(manifest.members)} devices")
        for index in sorted(accused):
            self._remove(index)
        self._ballot = Ballot(survivors=tuple(survivors))
        self._encoded_ballot = self._ballot.encode(self._signed.mh)
        self._ballot_hash = ballot_digest(self._encoded_ballot)
        return self._encoded_ballot

    def add_vote(self, vote: bytes) -> None:
        """Take a vote.

        Raises:
            PeerProtocolError: malformed, forged, of another round, or for another ballot.
        """
        reader = Reader(vote, "vote")
        start(reader, "vote", self._signed.mh)
        index, voted = reader.u16(), reader.raw(HASH_BYTES)
        signature = vote[reader.position :]
        self._check_signature(index, "vote", vote[: reader.position], reader)
        if self._ballot is None or voted != self._ballot_hash:
            raise PeerProtocolError(f"vote: for another ballot: {self._name(index)}")
        self._votes[index] = signature

    @property
    def has_quorum(self) -> bool:
        """Enough members have voted."""
        return len(self._votes) >= self._signed.manifest.committee.quorum

    def quorum_certificate(self) -> bytes:
        """Return the votes so far as one message; later votes do not change it."""
        if not self.has_quorum:
            raise LocalProtocolError(f"there is no quorum: {len(self._votes)} votes")
        if not self._certificate:
            self._certificate = encode_quorum(self._signed.mh, self._ballot_hash, self._votes)
        return self._certificate

    def add_opening(self, opening: bytes) -> None:
        """Take a member's sums of shares; the same bytes again change nothing.

        Raises:
            PeerProtocolError: malformed, forged, of another round or ballot, or a second one.
        """
        manifest = self._signed.manifest
        reader = Reader(opening, "opening")
        start(reader, "opening", self._signed.mh)
        index, ballot = reader.u16(), reader.raw(HASH_BYTES)
        size = 4 * num_groups(manifest.committee.packing)
        answers = {
            reader.u16(): np.frombuffer(reader.blob(max_len=size), np.uint8) for _ in range(reader.u16())
        }
        body = opening[: reader.position]
        self._check_signature(index, "opening", body, reader)
        if self._ballot is None or ballot != self._ballot_hash:
            raise PeerProtocolError(f"opening: of another ballot: {self._name(index)}")
        wanted = [i for i, entries in enumerate(self._ballot.survivors) if entries]
        if list(answers) != wanted or any(a.size != size for a in answers.values()):
            raise PeerProtocolError(f"opening: other sums than were voted for: {self._name(index)}")
        values = {i: a.view(SHARE_DTYPE).astype(np.uint32) for i, a in answers.items()}
        if any(int(v.max()) >= MODULUS for v in values.values()):
            raise PeerProtocolError(f"opening: a value of q or above: {self._name(index)}")
        if index in self._openings and self._openings[index][0] != body:
            raise PeerProtocolError(f"opening: a second one of {self._name(index)}")
        self._openings[index] = (body, values)

    @property
    def can_open(self) -> bool:
        """Enough members have opened."""
        return self.has_quorum and len(self._openings) >= self._signed.manifest.committee.threshold

    def result(self) -> RoundResult:
        """Interpolate the sums' keys, lift the masks, check the check coordinates.

        Raises:
            RoundAborted: too few openings, a member lied, or a sum is inconsistent; nothing was opened.
        """
        if self._result is not None:
            return self._result
        if self._ballot is None or not self.can_open:
            raise RoundAborted(f"too few members opened: {len(self._openings)}")
        sums: dict[str, OpenedSum] = {}
        survivors: set[str] = set()
        for sum_index, (spec, entries) in enumerate(
            zip(self._signed.manifest.sums, self._ballot.survivors, strict=True)
        ):
            if entries:
                devices = tuple(self._name(entry.index) for entry in entries)
                survivors.update(devices)
                total = self._open(sum_index, len(entries))
                sums[spec.name] = OpenedSum(total_D=total, num_devices=len(entries), devices=devices)
        certificate = self.quorum_certificate()
        self._result = RoundResult(
            sums=sums,
            closed=dict(self._reasons),
            ballot=self._encoded_ballot,
            quorum_certificate=certificate,
            quorum_digest=digest("quorum", certificate).hex(),
            survivors=tuple(sorted(survivors)),
            accused=tuple(
                (self._name(accuser), self._name(accused))
                for accuser, (_, listed) in sorted(self._complaints.items())
                for accused in listed
            ),
        )
        return self._result

    def _open(self, sum_index: int, num_devices: int) -> NDArray[np.float64]:
        manifest = self._signed.manifest
        spec, committee = manifest.sums[sum_index], manifest.committee
        answers = {member: values[sum_index] for member, (_, values) in self._openings.items()}
        key = reconstruct(answers, committee.threshold, committee.packing)
        words = self._sums[sum_index]
        total = np.empty(len(words))
        for where, mask in Expander(public_key(self._signed.mh, spec.name), key).blocks(len(words)):
            total[where] = unmask(words[where], mask, manifest.word_bits)
        checks = np.abs(total[spec.dim :])
        if len(checks) != NUM_CHECKS or checks.max() > error_bound(num_devices, manifest.word_bits):
            raise RoundAborted(f"SumInconsistent: check coordinates are not zero: {spec.name}")
        return total[: spec.dim]

    def _read(self, m2: bytes) -> tuple[int, _Contribution, dict[int, bytes]]:
        """Check a contribution against its signed header."""
        manifest = self._signed.manifest
        reader = Reader(m2, "contribution")
        encoded, signature = reader.blob(max_len=MAX_HEADER), reader.raw(SIGNATURE_BYTES)
        index, header = verify_header(self._signed, encoded, signature)
        if manifest.members[index].certificate.serial in self._anchors.revoked:
            raise PeerProtocolError(f"contribution: certificate is revoked: {self._name(index)}")
        sealed = tuple(reader.blob(max_len=MAX_SEALED) for _ in header.sealed)
        words = {}
        for sum_index in header.words:
            size = num_words(manifest.sums[sum_index]) * manifest.word_bits // 8
            words[sum_index] = reader.blob(max_len=size)
            if len(words[sum_index]) != size:
                raise PeerProtocolError(f"contribution: a sum of another length: {self._name(index)}")
        reader.finish()
        hashes = {i: digest("words", data) for i, data in words.items()}
        if hashes != header.words or tuple(digest("sealed", data) for data in sealed) != header.sealed:
            raise PeerProtocolError(f"contribution: not what its header signs: {self._name(index)}")
        kept = _Contribution(
            message=digest("message", m2), encoded=encoded, signature=signature, header=header, sealed=sealed
        )
        return index, kept, words

    def _remove(self, index: int) -> None:
        """Take an accused device's words out of the sums again."""
        _, _, words = self._read(self._spool.get(_spool_name(self._name(index))))
        for sum_index, data in words.items():
            total = self._sums[sum_index]
            np.subtract(total, read_words(data, self._signed.manifest.word_bits), out=total)

    def _check_signature(self, index: int, domain: str, body: bytes, reader: Reader) -> None:
        """Check a member's signature, the last field of its message."""
        signature = reader.raw(SIGNATURE_BYTES)
        reader.finish()
        if index >= len(self._signed.manifest.members):
            raise PeerProtocolError(f"{domain}: not a member of this round: {index}")
        verify(self._signed.manifest.members[index].certificate.public_key, domain, body, signature)

    def _name(self, index: int) -> str:
        return self._signed.manifest.members[index].device_id


def _spool_name(device_id: str) -> str:
    return f"{device_id}.m2"
