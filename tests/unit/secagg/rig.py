"""A whole round in one process: real devices, a real committee, a real coordinator, entropy from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from mimo_fed.secagg import (
    CLASSIC,
    MODULUS,
    REFERENCE,
    SAMPLED_SIZE,
    Anchors,
    Arithmetic,
    Certificate,
    Coordinator,
    Manifest,
    Member,
    MemorySpool,
    Mode,
    Prekey,
    RoundResult,
    SignedManifest,
    SigningKey,
    SumSpec,
    beacon,
    contribute,
    issue_certificate,
    lottery_bound,
    lottery_number,
    make_manifest,
    make_prekey,
    verify_manifest,
    verify_prekey,
)
from mimo_fed.secagg.crypto import Keystream

NOW_S = 1_800_000_000
Vector = NDArray[np.uint32]


class SeededEntropy:
    """AES in counter mode from a seed: the same bytes in every run."""

    def __init__(self, seed: str) -> None:
        self._stream = Keystream(hashlib.sha256(seed.encode()).digest())

    def __call__(self, length: int) -> bytes:
        return bytes(self._stream.take(length))


class Rig:
    """The parties of one round.

    Args:
        n: contributors.
        sums: name to length, or the sums themselves.
        seed: of all randomness but HPKE's.
        mode: "all", "sampled" or "helper".
        helpers: size of a helper committee.
        manifest: fields of the manifest that differ from the usual; `n_min` and `round_id` too.
    """

    def __init__(
        self,
        n: int,
        sums: Mapping[str, int] | tuple[SumSpec, ...],
        *,
        seed: str = "rig",
        mode: Mode = "all",
        helpers: int = 3,
        population: int | None = None,
        **manifest: object,
    ) -> None:
        self.entropy = SeededEntropy(seed)
        self.authority = SigningKey.generate(self.entropy)
        self.coordinator_key = SigningKey.generate(self.entropy)
        self.ids = [f"device-{i:02d}" for i in range(n)]
        pinned = [f"helper-{i}" for i in range(helpers if mode == "helper" else 0)]
        self.keys = {d: SigningKey.generate(self.entropy) for d in (*self.ids, *pinned)}
        self.certificates = {d: self.certify(d, k, i + 1) for i, (d, k) in enumerate(self.keys.items())}
        self.anchors = Anchors(
            self.coordinator_key.public_key,
            self.authority.public_key,
            helpers=frozenset(self.keys[d].public_key for d in pinned),
            population=population if population is not None else n,
        )
        self.secrets: dict[str, bytes] = {}
        self.round_id = str(manifest.pop("round_id", "round-1"))
        self.suite = str(manifest.get("suite", CLASSIC))
        n_min = int(str(manifest.pop("n_min", 2)))
        lottery = lottery_bound(self.anchors.population) if mode == "sampled" else 0
        self.member_ids = {"all": self.ids, "helper": pinned, "sampled": self.winners(lottery)}[mode]
        defaults: dict[str, object] = {
            "kind": "train",
            "suite": self.suite,
            "round_id": self.round_id,
            "sequence": 1,
            "base_digest": "00" * 32,
            "sums": sums if isinstance(sums, tuple) else specs(sums, n_min),
            "n_max": n,
            "word_bits": 32 if self.suite == REFERENCE else 16,
            "mode": mode,
            "lottery": lottery,
            "members": tuple(self.prekey(d) for d in sorted(self.member_ids)),
            "deadline_at_s": NOW_S + 600,
            "application": b"{}",
        }
        self.manifest = Manifest(**{**defaults, **manifest})  # type: ignore[arg-type]
        self.m1 = make_manifest(self.coordinator_key, self.manifest)
        self.signed: SignedManifest = verify_manifest(self.m1, self.anchors, NOW_S)
        self.arithmetic = Arithmetic()
        self.spool = MemorySpool()
        self.coordinator = Coordinator(self.signed, self.anchors, self.spool, self.arithmetic)
        self.members = {d: self.member(d) for d in self.member_ids}

    def winners(self, lottery: int) -> list[str]:
        """The eligible devices of least number, as many as a sampled committee has."""
        drawn = beacon("00" * 32)
        ranked = sorted((lottery_number(drawn, d), d) for d in self.ids)
        return sorted(d for number, d in ranked[:SAMPLED_SIZE] if number < lottery)

    def certify(self, device_id: str, key: SigningKey, serial: int) -> Certificate:
        return issue_certificate(
            self.authority,
            device_id=device_id,
            public_key=key.public_key,
            serial=serial,
            not_before_s=NOW_S - 1000,
            not_after_s=NOW_S + 100_000,
        )

    def prekey(self, device_id: str) -> Prekey:
        self.secrets[device_id], m0 = make_prekey(
            self.suite, self.keys[device_id], self.certificates[device_id], self.round_id, self.entropy
        )
        return verify_prekey(m0, self.anchors, self.suite, self.round_id, NOW_S)

    def member(self, member_id: str) -> Member:
        return Member(
            self.signed, self.keys[member_id], self.certificates[member_id], self.secrets[member_id]
        )

    def m2(self, device_id: str, inputs: Mapping[str, Vector], rank: int = 4) -> bytes:
        return contribute(
            self.signed,
            self.keys[device_id],
            self.certificates[device_id],
            rank,
            inputs,
            self.entropy,
            self.arithmetic,
        )

    def gather(self, inputs: Mapping[str, Mapping[str, Vector]]) -> None:
        """Contributions of these devices, then no more."""
        for device_id, mine in inputs.items():
            self.coordinator.add(self.m2(device_id, mine))
        self.coordinator.close()

    def check_shares(self, members: Iterable[str] | None = None) -> None:
        for d in self.member_ids if members is None else members:
            request = self.coordinator.share_request(d)
            self.coordinator.add_complaints(self.members[d].receive(request, self.anchors))

    def vote(self, members: Iterable[str] | None = None) -> None:
        ballot = self.coordinator.ballot()
        for d in self.member_ids if members is None else members:
            self.coordinator.add_vote(self.members[d].vote(ballot))

    def open(self, members: Iterable[str] | None = None) -> None:
        certificate = self.coordinator.quorum_certificate()
        for d in self.member_ids if members is None else members:
            self.coordinator.add_opening(self.members[d].open(certificate))

    def finish(self, members: Iterable[str] | None = None) -> RoundResult:
        """Shares, votes and openings of these members; of all, if none are named."""
        members = list(self.member_ids if members is None else members)
        self.check_shares(members)
        self.vote(members)
        self.open(members)
        return self.coordinator.result()

    def random_inputs(self, seed: int, dims: Mapping[str, int] | None = None) -> dict[str, dict[str, Vector]]:
        """For each device, small centred values that cannot wrap."""
        rng = np.random.default_rng(seed)
        limit = MODULUS // (2 * len(self.ids)) - 1
        dims = dims or {spec.name: spec.dim for spec in self.manifest.sums}
        return {
            d: {
                name: (rng.integers(-limit, limit + 1, dim) % MODULUS).astype(np.uint32)
                for name, dim in dims.items()
            }
            for d in self.ids
        }


def specs(sums: Mapping[str, int], n_min: int) -> tuple[SumSpec, ...]:
    return tuple(SumSpec(name=name, dim=dim, n_min=n_min) for name, dim in sums.items())


def plain_sum(vectors: Iterable[Vector]) -> NDArray[np.int64]:
    """The centred sum, in integers."""
    total = np.zeros(1, np.int64)
    for vector in vectors:
        total = (total + vector) % MODULUS
    return np.where(total > MODULUS // 2, total - MODULUS, total)
