"""An attacker's tools: make a contribution step by step and lie at any step, and write false messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mimo_fed.codec import Writer
from mimo_fed.secagg import Coordinator, Entropy
from mimo_fed.secagg.consistency import prove
from mimo_fed.secagg.contribute import _mask, _seal_rows
from mimo_fed.secagg.crypto import KEY_BYTES, Keystream, SigningKey, digest, digest_of, seal
from mimo_fed.secagg.intake import read_contribution
from mimo_fed.secagg.merkle import leaf, root
from mimo_fed.secagg.messages import (
    SHARE_NONCE_BYTES,
    Ballot,
    Entry,
    Header,
    encode_statement,
    mask_of,
    seal_context,
    vote_body,
)
from mimo_fed.secagg.modular import Residues
from mimo_fed.secagg.shamir import share
from tests.unit.secagg.rig import Rig, Vector


class Dealer:
    """A contributor's steps, as `contribute` takes them, each open to a lie.

    Attributes:
        words: sum index to ciphertext.
        sharing: what the proof is made of.
        rows: what is sealed to each member.
        sealed: member index to sealed bytes that take the place of its own.
        sums: the sums that the header names, a bit mask.
        certificate: what the header carries.
        rank: what the header states.
    """

    def __init__(
        self, rig: Rig, device_id: str, inputs: Mapping[str, Vector], seeds: Entropy | None = None
    ) -> None:
        self.rig, self.device_id = rig, device_id
        specs = [(i, s) for i, s in enumerate(rig.manifest.sums) if s.name in inputs]
        masked = [
            _mask(rig.signed, s, inputs[s.name], (seeds or rig.entropy)(KEY_BYTES), rig.arithmetic)
            for _, s in specs
        ]
        self.secrets = [secret for secret, _ in masked]
        self.words = {i: bytes(words) for (i, _), (_, words) in zip(specs, masked, strict=True)}
        self.sums = mask_of(self.words)
        self.nonce = rig.entropy(SHARE_NONCE_BYTES)
        self.certificate, self.rank = rig.certificates[device_id], 4
        self.sealed: dict[int, bytes] = {}
        self.deal(self.secrets)

    def deal(self, secrets: Sequence[Residues]) -> None:
        """Share these ring elements, properly."""
        c = self.rig.manifest.committee
        stream = Keystream(self.rig.entropy(KEY_BYTES))
        self.sharing = share(secrets, c.size, c.threshold, c.packing, stream)
        self.rows = self.sharing.shares()

    def seal_to(self, index: int, plain: bytes) -> bytes:
        """Seal these bytes to a member, in the right context."""
        member = self.rig.manifest.members[index]
        context = seal_context(self.rig.signed.mh, self.device_id, member.device_id, self.nonce, self.sums)
        return seal(self.rig.suite, member.public_key, context, plain)

    def header(self, sealed: Sequence[bytes]) -> Header:
        """Hash the pieces as they are, and prove the sharing."""
        tree, words = root([leaf(data) for data in sealed]), digest_of("words", self.words.values())
        statement = encode_statement(
            self.rig.signed.mh, self.certificate, self.rank, self.nonce, self.sums, words, tree
        )
        return Header(
            certificate=self.certificate,
            rank=self.rank,
            nonce=self.nonce,
            sums=self.sums,
            words=words,
            sealed=tree,
            proof=prove(self.sharing, digest("challenge", statement)),
        )

    def m2(self, key: SigningKey | None = None) -> bytes:
        """The contribution, signed with the device's own key if no other is given."""
        honest = _seal_rows(self.rig.signed, self.device_id, self.nonce, self.sums, self.rows)
        sealed = [self.sealed.get(i, data) for i, data in enumerate(honest)]
        header = self.header(sealed).encode(self.rig.signed.mh)
        signature = (key or self.rig.keys[self.device_id]).sign("contribution", header)
        return b"".join((Writer().blob(header).raw(signature).bytes(), *sealed, *self.words.values()))


def copied(rig: Rig, device_id: str, m2: bytes) -> bytes:
    """A contribution that repeats the sealed rows and the words of another device's as its own."""
    kept, words = read_contribution(rig.signed, m2)
    copy = Dealer(rig, device_id, {s.name: np.zeros(s.dim, np.uint32) for s in rig.manifest.sums})
    for i in range(rig.manifest.committee.size):
        at = kept.sealed_at + i * kept.sealed_length
        copy.sealed[i] = m2[at : at + kept.sealed_length]
    copy.words = {index: bytes(data) for index, data in words}
    return copy.m2()


def gathered(rig: Rig, replaced: Mapping[str, bytes], seed: int = 0) -> dict[str, dict[str, Vector]]:
    """Contributions of everyone, some of them replaced by forged ones; then no more."""
    inputs = rig.random_inputs(seed)
    for d in rig.ids:
        rig.coordinator.add(replaced.get(d) or rig.m2(d, inputs[d]))
    rig.coordinator.close()
    return inputs


def request_parts(coordinator: Coordinator, member: int) -> list[tuple[bytes, bytes, bytes]]:
    """What a member is shown of each contributor: (header and signature, sealed row, path)."""
    pieces = list(coordinator._share_entries(member))
    return list(zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True))


def request_of(rig: Rig, parts: Iterable[tuple[bytes, bytes, bytes]]) -> bytes:
    """A request for shares with these entries."""
    entries = [b"".join(part) for part in parts]
    return b"".join((Writer().text("shares").raw(rig.signed.mh).u32(len(entries)).bytes(), *entries))


def entries_of(rig: Rig) -> tuple[Entry, ...]:
    """Every contribution as it would stand in a ballot."""
    return tuple(
        Entry(device_id=d, rank=c.header.rank, sums=c.header.sums, contribution=c.digest)
        for d, c in sorted(rig.coordinator._contributions.items())
    )


def ballot_of(rig: Rig, survivors: Iterable[Entry], opened: int = 1) -> bytes:
    """A ballot of the coordinator's choice."""
    return Ballot(survivors=tuple(survivors), opened=opened).encode(rig.signed.mh)


def complaints_of(rig: Rig, accuser: int, accused: Mapping[str, int] | Sequence[tuple[str, int]]) -> bytes:
    """A member's list of accusations, properly signed."""
    pairs = list(accused.items() if isinstance(accused, Mapping) else accused)
    writer = Writer().text("complaints").raw(rig.signed.mh).u16(accuser).u32(len(pairs))
    for device_id, reason in pairs:
        writer.text(device_id).u8(reason)
    return writer.bytes() + rig.keys[rig.member_ids[accuser]].sign("complaints", writer.bytes())


def vote_of(rig: Rig, member: int, ballot: bytes) -> bytes:
    """A member's vote for the ballot of that hash, properly signed, whatever it has voted for before."""
    body = vote_body(rig.signed.mh, member, ballot)
    return body + rig.keys[rig.member_ids[member]].sign("vote", body)


def gathered_rig(n: int = 4, sums: dict[str, int] | None = None, **manifest: object) -> Rig:
    """A round that everybody has contributed to."""
    rig = Rig(n, sums or {"a": 40}, **manifest)  # type: ignore[arg-type]
    rig.gather(rig.random_inputs(1))
    return rig


def voting_rig(n: int = 4, sums: dict[str, int] | None = None, **manifest: object) -> Rig:
    """A round where every member holds its shares and nobody has voted."""
    rig = gathered_rig(n, sums, **manifest)
    rig.check_shares()
    return rig
