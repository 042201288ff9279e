"""The coordinator and the evidence (docs/protocol.md 5.6-5.11, 7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from tests.vectors.second import manifest, ring, sealing, sharing
from tests.vectors.second.identity import Anchors
from tests.vectors.second.manifest import Round
from tests.vectors.second.messages import (
    Ballot,
    Contribution,
    Survivor,
    bits_of,
    check_contributor,
    packed,
    read_ballot,
    read_complaints,
    read_contribution,
    read_opening,
    read_quorum,
    read_vote,
)
from tests.vectors.second.primitives import (
    ABORTED,
    LOCAL,
    Failure,
    Reader,
    blob,
    digest,
    leaf,
    number,
    path,
    require,
    text,
)

MAX_EVIDENCE = 2**28


@dataclass
class Result:
    totals: dict[str, list[Fraction]] = field(default_factory=dict)
    devices: dict[str, list[str]] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    liars: list[str] = field(default_factory=list)


class Coordinator:
    """One round; nothing changes when a message is refused."""

    def __init__(self, found: Round, anchors: Anchors) -> None:
        self._found, self._anchors = found, anchors
        self._given: dict[str, Contribution] = {}
        self._closed = False
        self._complaints: dict[int, dict[str, int]] = {}
        self._ballot: Ballot | None = None
        self._encoded = self._certificate = b""
        self._votes: dict[int, bytes] = {}
        self._openings: dict[int, dict[int, list[int]]] = {}

    def add(self, m2: bytes) -> str:
        item = read_contribution(m2, self._found)
        device_id = item.header.device_id
        if device_id in self._given:
            require(self._given[device_id].header.raw == item.header.raw, "a second contribution")
            return device_id
        check_contributor(item.header, self._anchors, self._found)
        require(not self._closed, "too late")
        keys = [other.header.certificate.key for other in self._given.values()]
        require(item.header.certificate.key not in keys, "one key twice")
        for i in bits_of(item.header.sums):
            require(sum(i in other.words for other in self._given.values()) < self._found.n_max, "full")
        self._given[device_id] = item
        return device_id

    def close(self) -> None:
        self._closed = True

    def share_request(self, member_id: str) -> bytes:
        if not self._closed:
            raise Failure(LOCAL, "contributions are not closed")
        require(member_id in self._found.ids, "not a member")
        member = self._found.ids.index(member_id)
        out = text("shares") + self._found.mh + number(len(self._given), 4)
        for device_id in sorted(self._given):
            item = self._given[device_id]
            siblings = path([leaf(row) for row in item.rows], member)
            out += b"".join((blob(item.header.raw), item.signature, item.rows[member], *siblings))
        return out

    def add_complaints(self, m2b: bytes) -> None:
        index, accused = read_complaints(m2b, self._found)
        require(set(accused) <= set(self._given), "about a device that gave nothing")
        if index in self._complaints:
            require(self._complaints[index] == accused, "a second list")
            return
        require(self._closed and self._ballot is None, "out of its time")
        self._complaints[index] = accused

    def ballot(self) -> bytes:
        if self._ballot is not None:
            return self._encoded
        if not self._closed:
            raise Failure(LOCAL, "contributions are not closed")
        if len(self._complaints) < self._found.numbers.quorum:
            raise Failure(ABORTED, "too few members answered")
        accused = {d for listed in self._complaints.values() for d in listed}
        kept = [self._given[d].header for d in sorted(self._given) if d not in accused]
        survivors = tuple(Survivor(h.device_id, h.rank, h.sums, h.hash) for h in kept)
        opened = 0
        for i, s in enumerate(self._found.sums):
            if s.n_min <= sum(h.sums >> i & 1 for h in kept) <= self._found.n_max:
                opened |= 1 << i
        if not opened:
            raise Failure(ABORTED, "no sum has enough survivors")
        self._ballot = Ballot(opened, survivors)
        self._encoded = self._ballot.encode(self._found.mh)
        return self._encoded

    def add_vote(self, m3: bytes) -> None:
        index, ballot, signature = read_vote(m3, self._found)
        require(self._ballot is not None and ballot == digest("ballot", self._encoded), "another ballot")
        self._votes[index] = signature

    def quorum_certificate(self) -> bytes:
        if len(self._votes) < self._found.numbers.quorum:
            raise Failure(LOCAL, "no quorum")
        if not self._certificate:
            votes = [number(i, 2) + self._votes[i] for i in sorted(self._votes)]
            head = text("quorum") + self._found.mh + digest("ballot", self._encoded)
            self._certificate = b"".join((head, number(len(votes), 2), *votes))
        return self._certificate

    def add_opening(self, m4: bytes) -> None:
        index, ballot, values = read_opening(m4, self._found)
        if self._ballot is None or ballot != digest("ballot", self._encoded):
            require(False, "another ballot")
            return
        require(list(values) == bits_of(self._ballot.opened), "other sums")
        require(self._openings.get(index, values) == values, "a second opening")
        self._openings[index] = values

    def evidence(self) -> bytes:
        parts = (self._found.raw, self._encoded, self.quorum_certificate())
        return text("evidence") + b"".join(map(blob, parts))

    def result(self) -> Result:
        numbers, found = self._found.numbers, self._found
        enough = len(self._votes) >= numbers.quorum and len(self._openings) >= numbers.threshold
        if self._ballot is None or not enough:
            raise Failure(ABORTED, "too few members opened")
        result, liars = Result(), set()
        for i, s in enumerate(found.sums):
            try:
                if not self._ballot.opened >> i & 1:
                    raise Failure(ABORTED, "not opened")
                total, wrong = self._open(i)
            except Failure as failure:
                if failure.code != ABORTED:
                    raise
                result.closed.append(s.name)
                continue
            liars.update(wrong)
            result.totals[s.name] = total
            result.devices[s.name] = [survivor.device_id for survivor in self._ballot.of(i)]
        if not result.totals:
            raise Failure(ABORTED, "no sum could be opened")
        result.liars = [found.ids[at] for at in sorted(liars)]
        return result

    def _open(self, index: int) -> tuple[list[Fraction], list[int]]:
        found, spec = self._found, self._found.sums[index]
        if self._ballot is None:
            raise Failure(ABORTED, "there is no ballot")
        answers = {member: values[index] for member, values in self._openings.items()}
        fold = digest("fold", b"".join(packed(answers[member]) for member in sorted(answers)))
        key, wrong = sharing.reconstruct(answers, found.numbers.threshold, found.numbers.packing, fold)
        survivors = self._ballot.of(index)
        columns = zip(*(self._given[s.device_id].words[index] for s in survivors), strict=True)
        words = [sum(column) for column in columns]
        totals = ring.unmask(ring.public_key(found.mh, spec.name), key, words, found.bits)
        exact = found.suite == sealing.REFERENCE
        bound = Fraction(0) if exact else ring.largest_error(len(survivors), found.bits)
        if max(map(abs, totals[spec.length :])) > bound:
            raise Failure(ABORTED, "SumInconsistent")
        return totals[: spec.length], wrong


@dataclass(frozen=True)
class Audit:
    round_id: str
    voters: list[str]
    opened: dict[str, int]
    closed: list[str]
    survivors: list[str]
    quorum_digest: str


def audit(data: bytes, anchors: Anchors) -> Audit:
    """Check the evidence of a round (5.11)."""
    reader = Reader(data)
    require(reader.text(32) == "evidence", "another kind of message")
    m1, encoded, certificate = (reader.blob(MAX_EVIDENCE) for _ in range(3))
    reader.end()
    found = manifest.verify(m1, anchors, None)
    ballot = read_ballot(encoded, found)
    voted, voters = read_quorum(certificate, found)
    require(voted == digest("ballot", encoded), "votes for another ballot")
    return Audit(
        round_id=found.round_id,
        voters=[found.ids[i] for i in voters],
        opened={found.sums[i].name: len(ballot.of(i)) for i in bits_of(ballot.opened)},
        closed=[s.name for i, s in enumerate(found.sums) if not ballot.opened >> i & 1],
        survivors=[s.device_id for s in ballot.survivors if s.sums & ballot.opened],
        quorum_digest=digest("quorum", certificate).hex(),
    )
