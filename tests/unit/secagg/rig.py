"""A whole round in one process: real devices, a real coordinator, entropy from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from mimo_fed.secagg import (
    MODULUS,
    Anchors,
    Certificate,
    Coordinator,
    Manifest,
    Member,
    MemorySpool,
    Prekey,
    RoundResult,
    SignedManifest,
    SigningKey,
    SumSpec,
    contribute,
    issue_certificate,
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
    """The parties of one round."""

    def __init__(self, n: int, sums: Mapping[str, int], *, seed: str = "rig", **manifest: object) -> None:
        self.entropy = SeededEntropy(seed)
        self.authority = SigningKey.generate(self.entropy)
        self.coordinator_key = SigningKey.generate(self.entropy)
        self.anchors = Anchors(self.coordinator_key.public_key, self.authority.public_key, frozenset())
        self.ids = [f"device-{i:02d}" for i in range(n)]
        self.keys = {d: SigningKey.generate(self.entropy) for d in self.ids}
        self.certificates = {d: self.certify(d, self.keys[d], i + 1) for i, d in enumerate(self.ids)}
        self.secrets: dict[str, bytes] = {}
        self.round_id = str(manifest.pop("round_id", "round-1"))
        n_min = int(str(manifest.pop("n_min", 2)))
        defaults: dict[str, object] = {
            "kind": "train",
            "round_id": self.round_id,
            "sequence": 1,
            "base_digest": "00" * 32,
            "sums": tuple(SumSpec(name=name, dim=dim, n_min=n_min) for name, dim in sums.items()),
            "n_max": n,
            "members": tuple(self.prekey(d) for d in self.ids),
            "deadline_at_s": NOW_S + 600,
            "application": b"{}",
        }
        self.manifest = Manifest(**{**defaults, **manifest})  # type: ignore[arg-type]
        self.m1 = make_manifest(self.coordinator_key, self.manifest)
        self.signed: SignedManifest = verify_manifest(self.m1, self.anchors, NOW_S)
        self.spool = MemorySpool()
        self.coordinator = Coordinator(self.signed, self.anchors, self.spool)
        self.members = {d: self.member(d) for d in self.ids}

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
            self.keys[device_id], self.certificates[device_id], self.round_id, self.entropy
        )
        return verify_prekey(m0, self.anchors, self.round_id, NOW_S)

    def member(self, device_id: str) -> Member:
        return Member(
            self.signed, self.keys[device_id], self.certificates[device_id], self.secrets[device_id]
        )

    def m2(self, device_id: str, inputs: Mapping[str, Vector], rank: int = 4) -> bytes:
        return contribute(
            self.signed, self.keys[device_id], self.certificates[device_id], rank, inputs, self.entropy
        )

    def gather(self, inputs: Mapping[str, Mapping[str, Vector]]) -> None:
        """Contributions of these devices, then no more."""
        for device_id, mine in inputs.items():
            self.coordinator.add(self.m2(device_id, mine))
        self.coordinator.close()

    def check_shares(self, devices: Iterable[str]) -> None:
        for d in devices:
            self.coordinator.add_complaints(self.members[d].receive(self.coordinator.share_request(d)))

    def vote(self, devices: Iterable[str]) -> None:
        ballot = self.coordinator.ballot()
        for d in devices:
            self.coordinator.add_vote(self.members[d].vote(ballot))

    def open(self, devices: Iterable[str]) -> None:
        certificate = self.coordinator.quorum_certificate()
        for d in devices:
            self.coordinator.add_opening(self.members[d].open(certificate))

    def finish(self, devices: Iterable[str]) -> RoundResult:
        """Shares, votes and openings of these devices."""
        devices = list(devices)
        self.check_shares(devices)
        self.vote(devices)
        self.open(devices)
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


def plain_sum(vectors: Iterable[Vector]) -> NDArray[np.int64]:
    """The centred sum, in integers."""
    total = np.zeros(1, np.int64)
    for vector in vectors:
        total = (total + vector) % MODULUS
    return np.where(total > MODULUS // 2, total - MODULUS, total)
