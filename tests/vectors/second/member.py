"""A committee member and a contributor (docs/protocol.md 5.6-5.10, 5.13)."""

from __future__ import annotations

from dataclasses import dataclass

from tests.vectors.second import ring, sealing, sharing
from tests.vectors.second.identity import SIGNATURE, Anchors, read_certificate
from tests.vectors.second.manifest import Round
from tests.vectors.second.messages import (
    MAX_HEADER,
    Header,
    begin,
    bits_of,
    check_ascending,
    check_contributor,
    count,
    packed,
    read_ballot,
    read_contribution,
    read_header,
    read_quorum,
    residues,
    row_length,
    seal_info,
    statement,
    vote_body,
)
from tests.vectors.second.primitives import (
    LOCAL,
    PEER,
    Failure,
    Q,
    blob,
    check_path,
    digest,
    number,
    public_of,
    require,
    sign,
    text,
    turns,
)

DOES_NOT_OPEN, DOES_NOT_FIT, DOES_NOT_COUNT = 0, 1, 2


@dataclass(frozen=True)
class Randomness:
    """What a contributor draws, apart from HPKE's ephemeral keys."""

    seeds: list[bytes]
    nonce: bytes
    sharing: bytes


def contribute(
    found: Round,
    key: bytes,
    certificate: bytes,
    rank: int,
    inputs: dict[str, list[int]],
    drawn: Randomness,
    recorded: bytes,
    secrets: dict[str, bytes],
) -> bytes:
    """Make M2; the sealed rows are those recorded, once they were found to hold what they must."""
    own = read_certificate(certificate)
    if found.mode == "all":
        require(own.device_id in found.ids, "not a member")
        if found.members[found.ids.index(own.device_id)].certificate != own:
            raise Failure(LOCAL, "another certificate than the manifest's")
    if public_of(key) != own.key:
        raise Failure(LOCAL, "another key")
    allowed = found.open_to(own.device_id)
    chosen = [i for i in bits_of(allowed) if found.sums[i].name in inputs]
    _check_inputs(found, chosen, inputs)
    words = b"".join(
        ring.protect(
            found.mh,
            found.sums[i].name,
            seed,
            inputs[found.sums[i].name],
            found.bits,
            found.suite != sealing.REFERENCE,
        )
        for i, seed in zip(chosen, drawn.seeds, strict=True)
    )
    numbers, sums = found.numbers, sum(1 << i for i in chosen)
    given = read_contribution(recorded, found)
    polynomials = sharing.polynomials(
        [ring.secret_of(seed) for seed in drawn.seeds], numbers.threshold, numbers.packing, drawn.sharing
    )
    body = statement(
        found.mh, certificate, rank, drawn.nonce, sums, digest("words", words), given.header.sealed
    )
    proof = sharing.prove(polynomials, digest("challenge", body))
    raw = body + b"".join(map(packed, proof))
    header = read_header(raw, sign(key, "contribution", raw), found)
    for at, (member, row) in enumerate(zip(found.ids, given.rows, strict=True)):
        opened = sealing.unseal(found.suite, secrets[member], seal_info(found, header, member), row)
        require(residues(opened) == sharing.share(polynomials, at + 1), "a sealed row holds something else")
    return b"".join((blob(raw), sign(key, "contribution", raw), *given.rows, words))


def _check_inputs(found: Round, chosen: list[int], inputs: dict[str, list[int]]) -> None:
    if not chosen or len(chosen) != len(inputs):
        raise Failure(LOCAL, "inputs are not sums that are open to the device")
    for i in chosen:
        values = inputs[found.sums[i].name]
        if len(values) != found.sums[i].length or max(values) >= Q:
            raise Failure(LOCAL, "an input does not fit its sum")


@dataclass
class _Received:
    header: Header
    values: list[int]
    reason: int | None


class Member:
    """Checks, votes once, opens once."""

    def __init__(self, found: Round, member_id: str, key: bytes, prekey: bytes) -> None:
        self._found, self._index, self._id = found, found.ids.index(member_id), member_id
        self._key, self._prekey = key, prekey
        self._answers: dict[str, tuple[bytes, bytes]] = {}
        self._received: dict[str, _Received] = {}
        self._opening = b""

    def receive(self, request: bytes, anchors: Anchors) -> bytes:
        if "shares" in self._answers:
            return self._again("shares", request)
        received = self._read(request, anchors)
        accused = [(d, r.reason) for d, r in received.items() if r.reason is not None]
        body = text("complaints") + self._found.mh + number(self._index, 2) + number(len(accused), 4)
        body += b"".join(text(device_id) + number(reason, 1) for device_id, reason in accused)
        self._received = received
        return self._answer("shares", request, body + sign(self._key, "complaints", body))

    def vote(self, ballot: bytes) -> bytes:
        if "ballot" in self._answers:
            return self._again("ballot", ballot)
        require("shares" in self._answers, "ballot before the shares")
        hashed = digest("ballot", ballot)
        self._opening = self._add_up(ballot, hashed)
        body = vote_body(self._found.mh, self._index, hashed)
        return self._answer("ballot", ballot, body + sign(self._key, "vote", body))

    def open(self, certificate: bytes) -> bytes:
        require("ballot" in self._answers, "quorum before the ballot")
        voted, _ = read_quorum(certificate, self._found)
        require(voted == digest("ballot", self._answers["ballot"][0]), "quorum for another ballot")
        return self._opening

    def _again(self, step: str, asked: bytes) -> bytes:
        before, answer = self._answers[step]
        require(asked == before, "asked anything else than before")
        return answer

    def _answer(self, step: str, asked: bytes, answer: bytes) -> bytes:
        self._answers[step] = (asked, answer)
        return answer

    def _read(self, request: bytes, anchors: Anchors) -> dict[str, _Received]:
        found, received = self._found, {}
        reader = begin(request, "shares", found)
        keys, ids = set(), []
        for _ in range(count(reader)):
            raw = reader.blob(MAX_HEADER)
            header = read_header(raw, reader.raw(SIGNATURE), found)
            sealed = reader.raw(row_length(found, header.sums))
            siblings = [reader.raw(32) for _ in turns(self._index, found.numbers.size)]
            check_path(header.sealed, sealed, self._index, found.numbers.size, siblings)
            keys.add(header.certificate.key)
            ids.append(header.device_id)
            received[header.device_id] = self._judge(header, sealed, anchors)
        reader.end()
        require(len(keys) == len(ids), "two devices with one key")
        check_ascending(ids)
        return received

    def _judge(self, header: Header, sealed: bytes, anchors: Anchors) -> _Received:
        found, values, reason = self._found, [], DOES_NOT_COUNT
        try:
            check_contributor(header, anchors, found)
            reason = DOES_NOT_OPEN
            info = seal_info(found, header, self._id)
            values = residues(sealing.unseal(found.suite, self._prekey, info, sealed))
            reason = DOES_NOT_FIT
            member, r = self._index + 1, found.numbers.threshold
            sharing.check_proof(values, member, header.proof, header.challenge, r)
        except Failure as failure:
            if failure.code != PEER:
                raise
            return _Received(header, [], reason)
        return _Received(header, values, None)

    def _add_up(self, ballot: bytes, hashed: bytes) -> bytes:
        found, decoded = self._found, read_ballot(ballot, self._found)
        groups = sharing.groups_of(found.numbers.packing)
        totals = {i: [0] * groups for i in bits_of(decoded.opened)}
        for survivor in decoded.survivors:
            item = self._received.get(survivor.device_id)
            if item is None or item.reason is not None:
                raise Failure(PEER, "no good shares of a survivor")
            header = item.header
            known = (header.rank, header.sums, header.hash)
            require(known == (survivor.rank, survivor.sums, survivor.contribution), "another header")
            for at, i in enumerate(bits_of(survivor.sums)):
                if i in totals:
                    part = item.values[at * groups : (at + 1) * groups]
                    totals[i] = [(a + b) % Q for a, b in zip(totals[i], part, strict=True)]
        body = text("opening") + found.mh + number(self._index, 2) + hashed + number(decoded.opened, 8)
        body += b"".join(packed(totals[i]) for i in totals)
        return body + sign(self._key, "opening", body)
