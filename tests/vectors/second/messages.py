"""Contribution, complaints, ballot, vote, quorum certificate and opening (docs/protocol.md 5.6-5.11)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tests.vectors.second import sealing
from tests.vectors.second.identity import (
    MAX_CERTIFICATE,
    SIGNATURE,
    Anchors,
    Certificate,
    kind,
    name,
    read_certificate,
)
from tests.vectors.second.manifest import MAX_COHORT, Round
from tests.vectors.second.primitives import (
    Q,
    Reader,
    blob,
    check_signature,
    digest,
    leaf,
    number,
    require,
    root,
    text,
)
from tests.vectors.second.ring import CHECKS, read_words
from tests.vectors.second.sharing import MASKS, Rows, groups_of

MAX_HEADER, REASONS = 2**14, 3


def bits_of(mask: int) -> list[int]:
    return [i for i in range(64) if mask >> i & 1]


def residues(data: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(data) // 4}I", data))


def packed(values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def begin(data: bytes, what: str, found: Round) -> Reader:
    reader = Reader(data)
    kind(reader, what)
    require(reader.raw(32) == found.mh, "of another round")
    return reader


def count(reader: Reader) -> int:
    found = reader.number(4)
    require(found <= MAX_COHORT, "list is too long")
    return found


def check_ascending(ids: Sequence[str]) -> None:
    require(list(ids) == sorted(set(ids)), "devices are not distinct and in order")


@dataclass(frozen=True)
class Header:
    certificate: Certificate
    rank: int
    nonce: bytes
    sums: int
    words: bytes
    sealed: bytes
    proof: Rows
    raw: bytes

    @property
    def device_id(self) -> str:
        return self.certificate.device_id

    @property
    def hash(self) -> bytes:
        return digest("contribution", self.raw)

    @property
    def challenge(self) -> bytes:
        return digest("challenge", self.raw[: -4 * sum(map(len, self.proof))])


def statement(
    mh: bytes, certificate: bytes, rank: int, nonce: bytes, sums: int, words: bytes, sealed: bytes
) -> bytes:
    """A header up to its proof."""
    return b"".join(
        (text("contribution"), mh, blob(certificate), number(rank, 2), nonce, number(sums, 8), words, sealed)
    )


def read_header(data: bytes, signature: bytes, found: Round) -> Header:
    reader = begin(data, "contribution", found)
    certificate = read_certificate(reader.blob(MAX_CERTIFICATE))
    rank, nonce, sums = reader.number(2), reader.raw(16), reader.number(8)
    words, sealed, r = reader.raw(32), reader.raw(32), found.numbers.threshold
    values = residues(reader.raw(4 * MASKS * r))
    reader.end()
    require(sums != 0 and sums & ~found.open_to(certificate.device_id) == 0, "sums are not open to it")
    require(max(values) < Q, "proof holds no residue")
    check_signature(certificate.key, "contribution", data, signature)
    proof = [values[k * r : (k + 1) * r] for k in range(MASKS)]
    return Header(certificate, rank, nonce, sums, words, sealed, proof, data)


def check_contributor(header: Header, anchors: Anchors, found: Round) -> None:
    """The contributor's certificate counts, at the deadline (5.7)."""
    anchors.check(header.certificate, found.deadline_at_s)
    if found.mode == "all":
        member = found.members[found.ids.index(header.device_id)]
        require(member.certificate == header.certificate, "another certificate than the manifest's")


def row_length(found: Round, sums: int) -> int:
    """Bytes of one sealed row."""
    values = len(bits_of(sums)) * groups_of(found.numbers.packing) + MASKS
    return sealing.sealed_length(found.suite, 4 * values)


@dataclass(frozen=True)
class Contribution:
    header: Header
    signature: bytes
    rows: list[bytes]
    words: dict[int, list[int]]


def read_contribution(data: bytes, found: Round) -> Contribution:
    reader = Reader(data)
    raw, signature = reader.blob(MAX_HEADER), reader.raw(SIGNATURE)
    header = read_header(raw, signature, found)
    rows = [reader.raw(row_length(found, header.sums)) for _ in found.members]
    start, words = reader.at, {}
    for i in bits_of(header.sums):
        words[i] = read_words(reader.raw((found.sums[i].length + CHECKS) * found.bits // 8), found.bits)
    reader.end()
    require(root([leaf(row) for row in rows]) == header.sealed, "rows are not what is signed")
    require(digest("words", data[start:]) == header.words, "words are not what is signed")
    return Contribution(header, signature, rows, words)


def seal_info(found: Round, header: Header, recipient: str) -> bytes:
    """What HPKE binds (5.6)."""
    sums = number(header.sums, 8)
    return found.mh + text(header.device_id) + text(recipient) + header.nonce + sums


def check_member_signature(reader: Reader, index: int, domain: str, found: Round) -> bytes:
    """The signature that ends a member's message."""
    body, signature = reader.data[: reader.at], reader.raw(SIGNATURE)
    reader.end()
    require(index < found.numbers.size, "not a member")
    check_signature(found.members[index].certificate.key, domain, body, signature)
    return signature


def read_complaints(data: bytes, found: Round) -> tuple[int, dict[str, int]]:
    reader = begin(data, "complaints", found)
    index = reader.number(2)
    pairs = [(name(reader.text(64)), reader.number(1)) for _ in range(count(reader))]
    check_member_signature(reader, index, "complaints", found)
    check_ascending([device_id for device_id, _ in pairs])
    require(all(reason < REASONS for _, reason in pairs), "unknown reason")
    return index, dict(pairs)


@dataclass(frozen=True)
class Survivor:
    device_id: str
    rank: int
    sums: int
    contribution: bytes


@dataclass(frozen=True)
class Ballot:
    opened: int
    survivors: tuple[Survivor, ...]

    def of(self, index: int) -> list[Survivor]:
        """Survivors of an opened sum."""
        return [s for s in self.survivors if s.sums >> index & 1]

    def encode(self, mh: bytes) -> bytes:
        listed = [
            text(s.device_id) + number(s.rank, 2) + number(s.sums, 8) + s.contribution for s in self.survivors
        ]
        return b"".join((text("ballot"), mh, number(self.opened, 8), number(len(listed), 4), *listed))


def read_ballot(data: bytes, found: Round) -> Ballot:
    reader = begin(data, "ballot", found)
    opened = reader.number(8)
    survivors = tuple(
        Survivor(name(reader.text(64)), reader.number(2), reader.number(8), reader.raw(32))
        for _ in range(count(reader))
    )
    reader.end()
    check_ascending([s.device_id for s in survivors])
    require(0 < opened < 2 ** len(found.sums), "opens nothing, or a sum that is not there")
    ballot = Ballot(opened, survivors)
    for i in bits_of(opened):
        require(found.sums[i].n_min <= len(ballot.of(i)) <= found.n_max, "too few or too many survivors")
    return ballot


def vote_body(mh: bytes, index: int, ballot: bytes) -> bytes:
    return text("vote") + mh + number(index, 2) + ballot


def read_vote(data: bytes, found: Round) -> tuple[int, bytes, bytes]:
    reader = begin(data, "vote", found)
    index, ballot = reader.number(2), reader.raw(32)
    return index, ballot, check_member_signature(reader, index, "vote", found)


def read_quorum(data: bytes, found: Round) -> tuple[bytes, list[int]]:
    """Check a quorum certificate: (hash of the ballot, voters)."""
    reader = begin(data, "quorum", found)
    ballot, size = reader.raw(32), reader.number(2)
    require(size <= 64, "more votes than members")
    votes = [(reader.number(2), reader.raw(SIGNATURE)) for _ in range(size)]
    reader.end()
    voters = [index for index, _ in votes]
    require(voters == sorted(set(voters)), "voters are not distinct and in order")
    require(all(index < found.numbers.size for index in voters), "voter is not a member")
    require(len(votes) >= found.numbers.quorum, "too few votes")
    for index, signature in votes:
        key = found.members[index].certificate.key
        check_signature(key, "vote", vote_body(found.mh, index, ballot), signature)
    return ballot, voters


def read_opening(data: bytes, found: Round) -> tuple[int, bytes, dict[int, list[int]]]:
    reader = begin(data, "opening", found)
    index, ballot, sums = reader.number(2), reader.raw(32), reader.number(8)
    require(sums < 2 ** len(found.sums), "a sum that is not there")
    length = 4 * groups_of(found.numbers.packing)
    values = {i: residues(reader.raw(length)) for i in bits_of(sums)}
    check_member_signature(reader, index, "opening", found)
    require(all(max(row) < Q for row in values.values()), "value of q or above")
    return index, ballot, values
