"""The coordinator's session: it adds what it cannot read, and opens the sum once (docs/protocol.md 5, 7).

    collecting --close--> closed --ballot--> voting --quorum--> opening --result--> opened

The session is a pure function of its inputs in their order, so that a killed coordinator replays them. A
contribution is spooled before it is added; memory holds one accumulator for each sum and the sealed shares.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mimo_fed.codec import Writer
from mimo_fed.errors import LocalProtocolError, PeerProtocolError, RoundAborted
from mimo_fed.secagg.crypto import digest
from mimo_fed.secagg.identity import Anchors
from mimo_fed.secagg.intake import (
    Contribution,
    read_complaints,
    read_contribution,
    read_opening,
    read_vote,
)
from mimo_fed.secagg.manifest import SignedManifest, SumSpec, num_words
from mimo_fed.secagg.messages import Ballot, Entry, ballot_digest, encode_quorum
from mimo_fed.secagg.opening import OpenedSum, RoundResult, open_sum
from mimo_fed.secagg.spool import Spool
from mimo_fed.secagg.words import empty_sum, read_words


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
        self._contributions: dict[int, Contribution] = {}
        self._closed = False
        self._complaints: dict[int, list[int]] = {}
        self._ballot: Ballot | None = None
        self._encoded_ballot = self._ballot_hash = self._certificate = b""
        self._votes: dict[int, bytes] = {}
        self._openings: dict[int, dict[int, NDArray[np.uint32]]] = {}
        self._reasons: dict[str, str] = {}
        self._result: RoundResult | None = None

    @property
    def contributors(self) -> tuple[str, ...]:
        """Ids of the devices whose contribution was taken, sorted."""
        return tuple(self._signed.device(index) for index in sorted(self._contributions))

    def add(self, m2: bytes) -> str:
        """Take a contribution: check it, spool it, add it. The same bytes again change nothing.

        Returns:
            The id of the device it is from.

        Raises:
            PeerProtocolError: malformed, forged, of another round, revoked, too late, or a second one.
        """
        index, contribution, words = read_contribution(self._signed, m2)
        device_id = self._signed.device(index)
        if index in self._contributions:
            if self._contributions[index] != contribution:
                raise PeerProtocolError(f"contribution: a second one of {device_id}")
            return device_id
        if self._signed.manifest.members[index].certificate.serial in self._anchors.revoked:
            raise PeerProtocolError(f"contribution: certificate is revoked: {device_id}")
        if self._closed:
            raise PeerProtocolError(f"contribution: too late: {device_id}")
        self._spool.put(_spool_name(device_id), m2)
        for sum_index, data in words.items():
            total = self._sums[sum_index]
            np.add(total, read_words(data, self._signed.manifest.word_bits), out=total)
        self._contributions[index] = contribution
        return device_id

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
        """Take a member's list of bad shares; the same list again changes nothing.

        Raises:
            PeerProtocolError: malformed, forged, of another round, a second list, or out of its time.
        """
        index, accused = read_complaints(self._signed, m2b)
        device_id = self._signed.device(index)
        if not set(accused) <= set(self._contributions):
            raise PeerProtocolError(f"complaints: about a device that gave nothing: {device_id}")
        if index in self._complaints:
            if self._complaints[index] != accused:
                raise PeerProtocolError(f"complaints: a second list of {device_id}")
            return
        if self._ballot is not None or not self._closed:
            raise PeerProtocolError(f"complaints: out of their time: {device_id}")
        self._complaints[index] = accused

    def ballot(self) -> bytes:
        """Fix the survivor sets, once: contributors that nobody accused.

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
        accused = {index for listed in self._complaints.values() for index in listed}
        good = {i: c for i, c in sorted(self._contributions.items()) if i not in accused}
        survivors = tuple(self._survivors(i, spec, good) for i, spec in enumerate(self._signed.manifest.sums))
        if not any(survivors):
            raise RoundAborted(f"no sum has enough survivors: {len(good)} devices")
        for index in sorted(accused):
            self._remove(index)
        self._ballot = Ballot(survivors=survivors)
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
            raise PeerProtocolError(f"vote: for another ballot: {self._signed.device(index)}")
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
        device_id = self._signed.device(index)
        if self._ballot is None or ballot != self._ballot_hash:
            raise PeerProtocolError(f"opening: of another ballot: {device_id}")
        if list(values) != [i for i, entries in enumerate(self._ballot.survivors) if entries]:
            raise PeerProtocolError(f"opening: other sums than were voted for: {device_id}")
        known = self._openings.get(index, values)
        if any(not np.array_equal(known[i], values[i]) for i in values):
            raise PeerProtocolError(f"opening: a second one of {device_id}")
        self._openings[index] = values

    @property
    def can_open(self) -> bool:
        """Enough members have opened."""
        return self.has_quorum and len(self._openings) >= self._signed.manifest.committee.threshold

    def result(self) -> RoundResult:
        """Open every sum of the ballot, once.

        Raises:
            RoundAborted: too few openings, a member lied, or a sum is inconsistent; nothing was opened.
        """
        if self._result is not None:
            return self._result
        if self._ballot is None or not self.can_open:
            raise RoundAborted(f"too few members opened: {len(self._openings)}")
        sums: dict[str, OpenedSum] = {}
        for i, entries in enumerate(self._ballot.survivors):
            if entries:
                answers = {member: values[i] for member, values in self._openings.items()}
                sums[self._signed.manifest.sums[i].name] = OpenedSum(
                    total_D=open_sum(self._signed, i, self._sums[i], answers, len(entries)),
                    num_devices=len(entries),
                    devices=tuple(self._signed.device(entry.index) for entry in entries),
                )
        certificate = self.quorum_certificate()
        self._result = RoundResult(
            sums=sums,
            closed=dict(self._reasons),
            ballot=self._encoded_ballot,
            quorum_certificate=certificate,
            quorum_digest=digest("quorum", certificate).hex(),
            survivors=tuple(sorted({d for opened in sums.values() for d in opened.devices})),
            accused=self._accusations(),
        )
        return self._result

    def _survivors(self, sum_index: int, spec: SumSpec, good: dict[int, Contribution]) -> tuple[Entry, ...]:
        """List who is in a sum; nobody, with the reason kept, if they are too few or too many."""
        entries = tuple(
            Entry(index=i, rank=c.header.rank, contribution=digest("contribution", c.encoded))
            for i, c in good.items()
            if sum_index in c.header.words
        )
        n_max = self._signed.manifest.n_max
        if spec.n_min <= len(entries) <= n_max:
            return entries
        self._reasons[spec.name] = f"survivors not within {spec.n_min} and {n_max}: {len(entries)}"
        return ()

    def _accusations(self) -> tuple[tuple[str, str], ...]:
        return tuple(
            (self._signed.device(accuser), self._signed.device(accused))
            for accuser, listed in sorted(self._complaints.items())
            for accused in listed
        )

    def _remove(self, index: int) -> None:
        """Take an accused device's words out of the sums again."""
        stored = self._spool.get(_spool_name(self._signed.device(index)))
        _, _, words = read_contribution(self._signed, stored)
        for sum_index, data in words.items():
            total = self._sums[sum_index]
            np.subtract(total, read_words(data, self._signed.manifest.word_bits), out=total)


def _spool_name(device_id: str) -> str:
    return f"{device_id}.m2"
