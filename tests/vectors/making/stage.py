"""The parties of one round, and the steps that every round takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mimo_fed.codec import Writer
from mimo_fed.secagg import (
    CLASSIC,
    Anchors,
    Certificate,
    Manifest,
    Mode,
    Prekey,
    SigningKey,
    SumSpec,
    issue_certificate,
    make_manifest,
    make_prekey,
    verify_prekey,
)
from mimo_fed.secagg.consistency import prove
from mimo_fed.secagg.crypto import Keystream, derive, digest, digest_of
from mimo_fed.secagg.intake import read_contribution
from mimo_fed.secagg.merkle import leaf, root
from mimo_fed.secagg.messages import Header, encode_statement
from mimo_fed.secagg.ring import uniform
from mimo_fed.secagg.shamir import Sharing, share
from tests.vectors.making.book import DEADLINE_AT_S, NOW_S, Book, seeded

BASE = "5a" * 32


@dataclass(frozen=True, kw_only=True)
class Party:
    """A device or a helper."""

    key: SigningKey
    certificate: Certificate
    prekey: Prekey
    secret: bytes


class Cast:
    """The parties of a book: keys, certificates and prekeys from its label.

    Args:
        book: where they are named.
        label: of all that is drawn.
        suite: of the prekeys.
        round_id: of the prekeys.
        helpers: ids of those that are pinned.
        population: how many devices are enrolled.
    """

    def __init__(
        self,
        book: Book,
        label: str,
        suite: str = CLASSIC,
        round_id: str = "round-1",
        helpers: Sequence[str] = (),
        population: int = 1000,
    ) -> None:
        self.book, self.label, self.suite, self.round_id = book, label, suite, round_id
        self.authority, self.coordinator = self.key("authority"), self.key("coordinator")
        self.parties: dict[str, Party] = {}
        self.anchors = Anchors(
            self.coordinator.public_key,
            self.authority.public_key,
            helpers=frozenset(self.key(h).public_key for h in helpers),
            population=population,
        )
        self.trust("main", self.anchors)

    def key(self, name: str) -> SigningKey:
        return SigningKey(seeded(f"{self.label}/key/{name}", 32))

    def trust(self, name: str, anchors: Anchors) -> str:
        """Name anchors."""
        self.book.anchors[name] = {
            "coordinator": anchors.coordinator.hex(),
            "authority": anchors.authority.hex(),
            "revoked": sorted(anchors.revoked),
            "helpers": sorted(key.hex() for key in anchors.helpers),
            "population": anchors.population,
        }
        return name

    def certificate(self, device_id: str, **changes: Any) -> Certificate:
        """A device's certificate; `signer`, `key` and the fields may be others than usual."""
        signer, key = changes.pop("signer", self.authority), changes.pop("key", self.key(device_id))
        fields: dict[str, Any] = {
            "serial": int.from_bytes(seeded(f"{self.label}/serial/{device_id}", 4), "big"),
            "not_before_s": NOW_S - 1000,
            "not_after_s": NOW_S + 100_000,
        }
        return issue_certificate(
            signer, device_id=device_id, public_key=key.public_key, **{**fields, **changes}
        )

    def prekey(
        self, device_id: str, *, round_id: str = "", suite: str = "", **certificate: Any
    ) -> tuple[bytes, bytes]:
        """A prekey: (secret, M0)."""
        key = certificate.get("key", self.key(device_id))
        drawn = seeded(f"{self.label}/prekey/{device_id}", 96)
        return make_prekey(
            suite or self.suite,
            key,
            self.certificate(device_id, **certificate),
            round_id or self.round_id,
            lambda length: drawn[:length],
        )

    def enter(self, ids: Iterable[str]) -> None:
        """Add parties to the book."""
        for device_id in ids:
            key, certificate = self.key(device_id), self.certificate(device_id)
            secret, m0 = self.prekey(device_id)
            prekey = verify_prekey(m0, self.anchors, self.suite, self.round_id, NOW_S)
            self.parties[device_id] = Party(key=key, certificate=certificate, prekey=prekey, secret=secret)
            self.book.parties[device_id] = {
                "key": key.to_bytes().hex(),
                "certificate": certificate.encode().hex(),
                "prekey": secret.hex(),
            }

    def manifest(
        self, members: Sequence[str], sums: Sequence[SumSpec], mode: Mode, **fields: Any
    ) -> Manifest:
        """A manifest with the usual fields."""
        usual: dict[str, Any] = {
            "kind": "train",
            "suite": self.suite,
            "round_id": self.round_id,
            "sequence": 12,
            "base_digest": BASE,
            "sums": tuple(sums),
            "n_max": 64,
            "mode": mode,
            "members": tuple(self.parties[d].prekey for d in sorted(members)),
            "deadline_at_s": DEADLINE_AT_S,
            "application": b'{"rounds":1}',
        }
        return Manifest(**{**usual, **fields})

    def sign_manifest(self, body: bytes) -> bytes:
        """The coordinator's signature under bytes that `make_manifest` would not write."""
        return body + self.coordinator.sign("manifest", body)


class Stage:
    """One round of a cast."""

    def __init__(self, cast: Cast, manifest: Manifest) -> None:
        self.cast, self.book, self.manifest = cast, cast.book, manifest
        self.members = [member.device_id for member in manifest.members]
        self.m1 = self.book.put("m1", make_manifest(cast.coordinator, manifest))
        self.book.do("manifest.verify", "manifest", m1=self.m1, now_s=NOW_S)
        self.signed = self.book.package.rounds["main"]
        self.mh = self.signed.mh

    def inputs(self, device_id: str, names: Iterable[str]) -> dict[str, list[int]]:
        """Small centred vectors."""
        out = {}
        for spec in self.manifest.sums:
            if spec.name in names:
                drawn = np.frombuffer(
                    seeded(f"{self.cast.label}/input/{device_id}/{spec.name}", 4 * spec.dim), "<i4"
                )
                out[spec.name] = [int(v) % 2147352577 for v in drawn // 2**13]
        return out

    def contribute(self, device_id: str, names: Sequence[str], rank: int = 4) -> str:
        """A contribution: the name of its bytes."""
        name, label = f"m2 {device_id}", f"{self.cast.label}/draw/{device_id}"
        self.book.store.put(name, self.book.recorded(name))
        out = self.book.do(
            "contribute",
            f"{device_id} contributes",
            device=device_id,
            rank=rank,
            inputs=self.inputs(device_id, names),
            seeds=[seeded(f"{label}/seed/{n}", 32).hex() for n in names],
            nonce=seeded(f"{label}/nonce", 16).hex(),
            sharing=seeded(f"{label}/sharing", 32).hex(),
            out=f"@{name}",
        )
        return self.book.put(name, out)

    def sharing(self, device_id: str, names: Sequence[str]) -> Sharing:
        """The polynomials of a device's contribution."""
        label, committee = f"{self.cast.label}/draw/{device_id}", self.manifest.committee
        seeds = [seeded(f"{label}/seed/{n}", 32) for n in names]
        secrets = [uniform(Keystream(derive(seed, "secret")), 2048).astype(np.uint64) for seed in seeds]
        stream = Keystream(derive(seeded(f"{label}/sharing", 32), "shares"))
        return share(secrets, committee.size, committee.threshold, committee.packing, stream)

    def add(self, *m2s: str, session: str = "main") -> None:
        for m2 in m2s:
            self.book.do("coordinator.add", self._name(f"add {m2[1:]}", session), m2=m2, **_where(session))

    def close(self, session: str = "main") -> None:
        self.book.do("coordinator.close", self._name("close", session), **_where(session))

    def request(self, member: str, session: str = "main") -> str:
        """What the coordinator shows a member."""
        name = self._name(f"request of {member}", session)
        return str(
            self.book.do("coordinator.share_request", name, member=member, **_where(session), keep=name)
        )

    def receive(self, member: str, request: str, session: str = "main", **arguments: Any) -> str:
        name = self._name(f"complaints of {member}", session)
        label = member if session == "main" else f"{member}, {session}"
        return str(
            self.book.do(
                "member.receive",
                name,
                member=member,
                **_where(label, member),
                request=request,
                keep=name,
                **arguments,
            )
        )

    def check(self, members: Iterable[str], session: str = "main") -> None:
        """Shares and complaints of these members."""
        for member in members:
            complaints = self.receive(member, self.request(member, session), session)
            self.complain(member, complaints, session)

    def complain(self, member: str, complaints: str, session: str = "main") -> None:
        name = self._name(f"add complaints of {member}", session)
        self.book.do("coordinator.add_complaints", name, complaints=complaints, **_where(session))

    def ballot(self, session: str = "main") -> str:
        name = self._name("ballot", session)
        return str(self.book.do("coordinator.ballot", name, **_where(session), keep=name))

    def vote(self, members: Iterable[str], ballot: str, session: str = "main") -> None:
        for member in members:
            name = self._name(f"vote of {member}", session)
            label = member if session == "main" else f"{member}, {session}"
            vote = self.book.do(
                "member.vote", name, member=member, **_where(label, member), ballot=ballot, keep=name
            )
            self.book.do(
                "coordinator.add_vote",
                self._name(f"add vote of {member}", session),
                vote=vote,
                **_where(session),
            )

    def quorum(self, session: str = "main") -> str:
        name = self._name("quorum certificate", session)
        return str(self.book.do("coordinator.quorum_certificate", name, **_where(session), keep=name))

    def open(self, member: str, certificate: str, session: str = "main") -> str:
        name = self._name(f"opening of {member}", session)
        label = member if session == "main" else f"{member}, {session}"
        return str(
            self.book.do(
                "member.open",
                name,
                member=member,
                **_where(label, member),
                certificate=certificate,
                keep=name,
            )
        )

    def take(self, opening: str, session: str = "main") -> None:
        name = self._name(f"add {opening[1:]}", session)
        self.book.do("coordinator.add_opening", name, opening=opening, **_where(session))

    def result(self, session: str = "main") -> None:
        """The result, and its evidence."""
        self.book.do("coordinator.result", self._name("result", session), **_where(session))
        name = self._name("evidence", session)
        evidence = self.book.do("coordinator.evidence", name, **_where(session), keep=name)
        self.book.do("evidence.check", self._name("evidence is checked", session), evidence=evidence)

    def resigned(self, m2: str, name: str, key: SigningKey | None = None, **changes: Any) -> str:
        """A contribution with another header, signed again: named `name`.

        `changes` are fields of the header, `mh`, or `rows` and `words`: functions of what was there. The
        proof stays, unless `sharing` is given: then it is made for the changed header.
        """
        data = self.book.store.get(m2)
        kept, words = read_contribution(self.signed, data)
        header = kept.header
        at, length = kept.sealed_at, kept.sealed_length
        rows = [data[at + i * length :][:length] for i in range(len(self.members))]
        body = b"".join(bytes(part) for _, part in words)
        rows = changes.pop("rows", _same)(rows)
        if callable(changes.get("words")):
            body = changes.pop("words")(body)
        fields: dict[str, Any] = {
            "mh": self.mh, "certificate": header.certificate, "rank": header.rank, "nonce": header.nonce,
            "sums": header.sums, "words": digest_of("words", [body]), "sealed": root([leaf(r) for r in rows]),
        }  # fmt: skip
        sharing, proof = changes.pop("sharing", None), changes.pop("proof", header.proof)
        fields |= changes
        statement = encode_statement(**fields)
        if sharing is not None:
            proof = prove(sharing, digest("challenge", statement))
        encoded = statement + proof.astype("<u4").tobytes()
        signature = (key or self.cast.key(fields["certificate"].device_id)).sign("contribution", encoded)
        new = b"".join((Writer().blob(encoded).raw(signature).bytes(), *rows, body))
        return self.book.edited(name, m2, new)

    def header_of(self, m2: str) -> tuple[Header, bytes, bytes]:
        """A contribution's header: (decoded, encoded, signature)."""
        kept, _ = read_contribution(self.signed, self.book.store.get(m2))
        return kept.header, kept.encoded, kept.signature

    def altered(self, of: str, name: str, domain: str, member: str, change: Any) -> str:
        """A member's message whose body was changed before it signed: named `name`."""
        body = change(self.book.store.get(of)[:-64])
        return self.book.edited(name, of, body + self.cast.key(member).sign(domain, body))

    def indices(self, member: str) -> int:
        return self.members.index(member)

    @staticmethod
    def _name(what: str, session: str) -> str:
        return what if session == "main" else f"{what}, {session}"


def _where(session: str, usual: str = "main") -> dict[str, str]:
    """The field that says where an operation happens, if it is not where it usually does."""
    return {} if session == usual else {"session": session}


def _same(value: Any) -> Any:
    return value


def flipped(data: bytes, at: int) -> bytes:
    """Change one bit of the byte at a place."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    """Replace bytes that stand there exactly once."""
    if data.count(old) != 1:
        raise AssertionError(f"bytes stand there {data.count(old)} times")
    return data.replace(old, new)
