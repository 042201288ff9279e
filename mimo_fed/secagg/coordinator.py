"""The coordinator's session: it adds what it cannot read, and opens the sums once (docs/protocol.md 5, 7).

    collecting --close--> closed --ballot--> voting --quorum--> opening --result--> opened

The session is a pure function of its inputs in their order, so that a killed coordinator replays them. A
contribution is spooled before it is added; memory holds one accumulator for each sum, and of each
contribution its header and the hash tree over its sealed shares.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mimo_fed.codec import Writer
from mimo_fed.errors import LocalProtocolError, PeerProtocolError, RoundAborted
from mimo_fed.secagg.contribute import Arithmetic
from mimo_fed.secagg.crypto import digest_of
from mimo_fed.secagg.decoding import reconstruct
from mimo_fed.secagg.evidence import encode_evidence, quorum_digest
from mimo_fed.secagg.identity import Anchors
from mimo_fed.secagg.intake import (
    REASONS,
    Contribution,
    check_certificate,
    read_complaints,
    read_contribution,
    read_opening,
    read_vote,
)
from mimo_fed.secagg.manifest import SignedManifest, num_words
from mimo_fed.secagg.merkle import path
from mimo_fed.secagg.messages import Ballot, Entry, ballot_digest, encode_quorum, indices_of, mask_of
from mimo_fed.secagg.opening import OpenedSum, RoundResult, open_sum
from mimo_fed.secagg.spool import Spool
from mimo_fed.secagg.words import empty_sum, read_words


class Coordinator:
    """One round's session.

    Args:
        signed: the coordinator's own manifest, verified.
        anchors: whose certificates count.
        spool: where contributions are kept.
        arithmetic: how masks are computed.
    """

    def __init__(
        self, signed: SignedManifest, anchors: Anchors, spool: Spool, arithmetic: Arithmetic | None = None
    ) -> None:
        self._signed, self._anchors, self._spool = signed, anchors, spool
        self._arithmetic = arithmetic or Arithmetic()
        manifest = signed.manifest
        self._sums = [empty_sum(num_words(spec), manifest.word_bits) for spec in manifest.sums]
        self._counts = [0] * len(manifest.sums)
        self._contributions: dict[str, Contribution] = {}
        self._keys: dict[bytes, str] = {}
        self._closed = False
        self._complaints: dict[int, dict[str, int]] = {}
        self._ballot: Ballot | None = None
        self._encoded_ballot = self._ballot_hash = self._certificate = b""
        self._votes: dict[int, bytes] = {}
        self._openings: dict[int, dict[int, NDArray[np.uint32]]] = {}
        self._reasons: dict[str, str] = {}
        self._result: RoundResult | None = None

    @property
    def contributors(self) -> tuple[str, ...]:
        """Ids of the devices whose contribution was taken, sorted."""
        return tuple(sorted(self._contributions))

    @property
    def is_closed(self) -> bool:
        """No more contributions are taken."""
        return self._closed

    def add(self, m2: bytes) -> str:
        """Take a contribution: check it, spool it, add it. The same bytes again change nothing.

        Returns:
            The id of the device it is from.

        Raises:
            PeerProtocolError: malformed, forged, of another round, of a device whose certificate does not
                count or whose key is another's, too late, too many, or a second one.
        """
        contribution, words = read_contribution(self._signed, m2)
        device_id = contribution.header.device_id
        if known := self._contributions.get(device_id):
            if known.encoded != contribution.encoded:
                raise PeerProtocolError(f"contribution: a second one of {device_id}")
            return device_id
        self._check_admission(contribution)
        self._spool.put(_spool_name(device_id), m2)
        for index, data in words:
            self._arithmetic.backend.add(self._sums[index], data, self._signed.manifest.word_bits)
            self._counts[index] += 1
        self._keys[contribution.header.certificate.public_key] = device_id
        self._contributions[device_id] = contribution
        return device_id

    def close(self) -> None:
        """Take no more contributions."""
        self._closed = True

    def share_request(self, member_id: str) -> bytes:
        """Return what this member is to check: every contributor's header and its own sealed shares."""
        if not self._closed:
            raise LocalProtocolError("shares are given out once contributions are closed")
        member = self._signed.manifest.index_of(member_id)
        head = Writer().text("shares").raw(self._signed.mh).u32(len(self._contributions)).bytes()
        return b"".join((head, *self._share_entries(member)))

    def add_complaints(self, m2b: bytes) -> None:
        """Take a member's list of bad shares; the same list again changes nothing.

        Raises:
            PeerProtocolError: malformed, forged, of another round, a second list, or out of its time.
        """
        index, accused = read_complaints(self._signed, m2b)
        member_id = self._signed.member_id(index)
        if not set(accused) <= set(self._contributions):
            raise PeerProtocolError(f"complaints: about a device that gave nothing: {member_id}")
        if index in self._complaints:
            if self._complaints[index] != accused:
                raise PeerProtocolError(f"complaints: a second list of {member_id}")
            return
        if self._ballot is not None or not self._closed:
            raise PeerProtocolError(f"complaints: out of their time: {member_id}")
        self._complaints[index] = accused

    def ballot(self) -> bytes:
        """Fix the survivors, once: contributors that nobody accused.

        Raises:
            RoundAborted: fewer members than a quorum have answered, or no sum has n_min survivors.
        """
        if self._ballot is not None:
            return self._encoded_ballot
        if not self._closed:
            raise LocalProtocolError("survivors are fixed once contributions are closed")
        quorum, answered = self._signed.manifest.committee.quorum, len(self._complaints)
        if answered < quorum:
            raise RoundAborted(f"too few members checked their shares, {quorum} must: {answered}")
        accused = {device_id for listed in self._complaints.values() for device_id in listed}
        survivors = tuple(
            Entry(device_id=d, rank=c.header.rank, sums=c.header.sums, contribution=c.digest)
            for d, c in sorted(self._contributions.items())
            if d not in accused
        )
        opened = self._opened(Ballot(survivors=survivors, opened=mask_of(range(len(self._sums)))))
        if not opened:
            raise RoundAborted(f"no sum has enough survivors: {len(survivors)} devices")
        for device_id in sorted(accused):
            self._remove(device_id)
        self._ballot = Ballot(survivors=survivors, opened=opened)
        self._encoded_ballot = self._ballot.encode(self._signed.mh)
        self._ballot_hash = ballot_digest(self._encoded_ballot)
        return self._encoded_ballot

    def add_vote(self, vote: bytes) -> None:
        """Take a vote.

        Raises:
            PeerProtocolError: malformed, forged, of another round, or for another ballot.
        """
        index, voted, signature = read_vote(self._signed, vote)
        if self._ballot is None or voted != self._ballot_hash:
            raise PeerProtocolError(f"vote: for another ballot: {self._signed.member_id(index)}")
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
        """Take a member's sums of shares; the same ones again change nothing.

        Raises:
            PeerProtocolError: malformed, forged, of another round or ballot, or a second one.
        """
        index, ballot, values = read_opening(self._signed, opening)
        member_id = self._signed.member_id(index)
        if self._ballot is None or ballot != self._ballot_hash:
            raise PeerProtocolError(f"opening: of another ballot: {member_id}")
        if tuple(values) != indices_of(self._ballot.opened):
            raise PeerProtocolError(f"opening: other sums than were voted for: {member_id}")
        known = self._openings.get(index, values)
        if any(not np.array_equal(known[i], values[i]) for i in values):
            raise PeerProtocolError(f"opening: a second one of {member_id}")
        self._openings[index] = values

    @property
    def can_open(self) -> bool:
        """Enough members have opened."""
        return self.has_quorum and len(self._openings) >= self._signed.manifest.committee.threshold

    def result(self) -> RoundResult:
        """Open every sum of the ballot, once; name the members whose openings were wrong.

        Raises:
            RoundAborted: too few openings, more lies than can be told apart, or every sum is inconsistent;
                nothing was opened.
        """
        if self._result is None:
            self._result = self._open()
        return self._result

    def _check_admission(self, contribution: Contribution) -> None:
        """Refuse a first contribution of a device that may not, or cannot any more, take part."""
        header, manifest = contribution.header, self._signed.manifest
        check_certificate(self._signed, header, self._anchors)
        if self._closed:
            raise PeerProtocolError(f"contribution: too late: {header.device_id}")
        if (other := self._keys.get(header.certificate.public_key)) is not None:
            raise PeerProtocolError(f"contribution: {header.device_id} has the key of: {other}")
        if any(self._counts[index] >= manifest.n_max for index in header.indices):
            raise PeerProtocolError(f"contribution: the round is full: {manifest.n_max} devices")

    def _share_entries(self, member: int) -> Iterator[bytes]:
        for device_id in sorted(self._contributions):
            item = self._contributions[device_id]
            at = item.sealed_at + member * item.sealed_length
            yield Writer().blob(item.encoded).raw(item.signature).bytes()
            yield self._spool.read(_spool_name(device_id), at, item.sealed_length)
            yield b"".join(path(item.tree, member))

    def _opened(self, ballot: Ballot) -> int:
        """Choose the sums that have enough survivors; of the others keep the reason."""
        opened, n_max = [], self._signed.manifest.n_max
        for index, spec in enumerate(self._signed.manifest.sums):
            size = len(ballot.entries(index))
            if spec.n_min <= size <= n_max:
                opened.append(index)
            else:
                self._reasons[spec.name] = f"survivors not within {spec.n_min} and {n_max}: {size}"
        return mask_of(opened)

    def _open(self) -> RoundResult:
        if self._ballot is None or not self.can_open:
            raise RoundAborted(f"too few members opened: {len(self._openings)}")
        sums: dict[str, OpenedSum] = {}
        closed, liars = dict(self._reasons), set[int]()
        for index in indices_of(self._ballot.opened):
            name, entries = self._signed.manifest.sums[index].name, self._ballot.entries(index)
            try:
                key, wrong = self._key(index)
                total_D = open_sum(
                    self._signed, index, self._sums[index], key, len(entries), self._arithmetic
                )
            except RoundAborted as aborted:
                closed[name] = aborted.message
                continue
            liars.update(wrong)
            devices = tuple(entry.device_id for entry in entries)
            sums[name] = OpenedSum(total_D=total_D, num_devices=len(devices), devices=devices)
        if not sums:
            raise RoundAborted(f"no sum could be opened: {'; '.join(closed.values())}")
        return self._finish(sums, closed, liars)

    def _key(self, index: int) -> tuple[NDArray[np.uint64], tuple[int, ...]]:
        """Interpolate the sum of the devices' ring elements: (it, members whose openings are wrong)."""
        committee = self._signed.manifest.committee
        answers = {member: values[index] for member, values in sorted(self._openings.items())}
        fold_key = digest_of("fold", (answers[member].tobytes() for member in answers))
        return reconstruct(answers, committee.threshold, committee.packing, fold_key)

    def _finish(self, sums: dict[str, OpenedSum], closed: dict[str, str], liars: set[int]) -> RoundResult:
        certificate = self.quorum_certificate()
        return RoundResult(
            sums=sums,
            closed=closed,
            evidence=encode_evidence(self._signed, self._encoded_ballot, certificate),
            quorum_digest=quorum_digest(certificate),
            survivors=tuple(sorted({d for opened in sums.values() for d in opened.devices})),
            accused=tuple(
                (self._signed.member_id(accuser), accused, REASONS[reason])
                for accuser, listed in sorted(self._complaints.items())
                for accused, reason in listed.items()
            ),
            liars=tuple(self._signed.member_id(index) for index in sorted(liars)),
        )

    def _remove(self, device_id: str) -> None:
        """Take an accused device's words out of the sums again."""
        _, words = read_contribution(self._signed, self._spool.get(_spool_name(device_id)))
        for index, data in words:
            total = self._sums[index]
            np.subtract(total, read_words(data, self._signed.manifest.word_bits), out=total)


def _spool_name(device_id: str) -> str:
    return f"{device_id}.m2"
