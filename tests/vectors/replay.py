"""The operations of the JSON files, done by the package: to make the vectors, and to test it with them.

HPKE draws its ephemeral keys by itself, so what `contribute` seals differs from call to call. Here recorded
bytes take the place of what it would seal, after they were opened with the recipient's key and found to hold
what was to be sealed, for that recipient and that context.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimo_fed.codec import Reader
from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg import (
    Arithmetic,
    Backend,
    Certificate,
    Coordinator,
    DevicePolicy,
    Member,
    MemorySpool,
    SignedManifest,
    SigningKey,
    choose,
    contribute,
    crypto,
    verify_evidence,
    verify_manifest,
    verify_quorum,
)
from mimo_fed.secagg.crypto import Box, sealed_bytes
from mimo_fed.secagg.messages import decode_quorum
from tests.vectors import replay_primitives
from tests.vectors.replay_primitives import Given, anchors_of
from tests.vectors.store import Operation, Store

CONTRIBUTE = importlib.import_module("mimo_fed.secagg.contribute")
Vector = NDArray[np.uint32]
Act = Callable[["Package", Operation, Store], Any]


class Seals:
    """Stands in for `seal`: recorded bytes where they hold what is to be sealed, else what `seal` gives.

    Args:
        secrets: private halves of prekeys by their public halves.
        recorded: sealed rows, in the order in which they will be asked for.
        fresh: where no recorded row fits, seal; else refuse.
    """

    def __init__(self, secrets: Mapping[bytes, bytes], recorded: Iterator[bytes], *, fresh: bool) -> None:
        self._secrets, self._recorded, self._fresh = secrets, recorded, fresh

    def __call__(self, suite: str, public: bytes, info: bytes, data: bytes) -> bytes:
        sealed = next(self._recorded, b"")
        try:
            if Box(suite, self._secrets[public]).unseal(info, sealed) == data:
                return sealed
        except PeerProtocolError:
            pass
        if not self._fresh:
            raise ValueError("recorded bytes do not hold what is to be sealed")
        return crypto.seal(suite, public, info, data)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let `contribute` seal with this."""
        original = vars(CONTRIBUTE)["seal"]
        setattr(CONTRIBUTE, "seal", self)  # noqa: B010
        try:
            yield
        finally:
            setattr(CONTRIBUTE, "seal", original)  # noqa: B010


def rows_of(m2: bytes, suite: str, size: int, words: int) -> Iterator[bytes]:
    """Cut the sealed rows out of a recorded contribution whose words have so many bytes."""
    reader = Reader(m2)
    reader.blob()
    start = reader.position + 64
    length = (len(m2) - start - words) // size
    if length < sealed_bytes(suite, 0):
        return
    for i in range(size):
        yield m2[start + i * length :][:length]


class Package:
    """Does the operations of one file: keeps its rounds, members and coordinators.

    Args:
        backend: for the arithmetic of masks.
        fresh: whether `contribute` may seal what is not recorded.
    """

    def __init__(self, backend: Backend | None = None, *, fresh: bool = False) -> None:
        self.backend = backend or choose("numpy")
        self.rounds: dict[str, SignedManifest] = {}
        self.fresh = fresh
        self._members: dict[str, Member] = {}
        self._coordinators: dict[str, Coordinator] = {}

    def execute(self, op: Operation, store: Store) -> Any:
        """See `store.Execute`."""
        if (act := replay_primitives.ACTS.get(op["op"])) is not None:
            return act(self.backend, op, store)
        return ACTS[op["op"]](self, op, store)

    def signed(self, op: Operation) -> SignedManifest:
        return self.rounds[op.get("round", "main")]

    def member(self, op: Operation, store: Store) -> Member:
        label = str(op.get("session", op["member"]))
        if label not in self._members:
            party = store.parties[op["member"]]
            key = SigningKey(store.get(party["key"]))
            certificate = Certificate.decode(store.get(party["certificate"]))
            self._members[label] = Member(self.signed(op), key, certificate, store.get(party["prekey"]))
        return self._members[label]

    def coordinator(self, op: Operation, store: Store) -> Coordinator:
        label = str(op.get("session", "main"))
        if label not in self._coordinators:
            arithmetic = Arithmetic(backend=self.backend)
            session = Coordinator(self.signed(op), anchors_of(op, store), MemorySpool(), arithmetic)
            self._coordinators[label] = session
        return self._coordinators[label]


def _verify_manifest(package: Package, op: Operation, store: Store) -> dict[str, Any]:
    signed = verify_manifest(store.get(op["m1"]), anchors_of(op, store), op["now_s"])
    package.rounds[op.get("round", "main")] = signed
    c = signed.manifest.committee
    return {
        "mh": signed.mh,
        "committee": [c.size, c.quorum, c.threshold, c.corrupt, c.packing],
        "members": [member.device_id for member in signed.manifest.members],
        "groups": signed.groups,
    }


def _check_policy(package: Package, op: Operation, store: Store) -> None:
    policy = DevicePolicy(n_min_floor=op["n_min_floor"], suites=tuple(op["suites"]), modes=tuple(op["modes"]))
    policy.check(package.signed(op).manifest)


def _contribute(package: Package, op: Operation, store: Store) -> bytes:
    party, signed = store.parties[op["device"]], package.signed(op)
    manifest = signed.manifest
    certificate = Certificate.decode(store.get(op.get("certificate", party["certificate"])))
    inputs = {name: np.array(values, np.uint32) for name, values in op["inputs"].items()}
    recorded = store.find(op["out"][1:]) or b"" if "out" in op else b""
    secrets = {m.public_key: store.get(store.parties[m.device_id]["prekey"]) for m in manifest.members}
    words = sum(len(v) + 64 for v in inputs.values()) * manifest.word_bits // 8
    rows = rows_of(recorded, manifest.suite, len(manifest.members), words) if recorded else iter(())
    drawn = b"".join(map(store.get, [*op["seeds"], op["nonce"], op["sharing"]]))
    with Seals(secrets, rows, fresh=package.fresh).in_place():
        return contribute(
            signed,
            SigningKey(store.get(party["key"])),
            certificate,
            op["rank"],
            inputs,
            Given(drawn),
            Arithmetic(backend=package.backend),
        )


def _result(package: Package, op: Operation, store: Store) -> dict[str, Any]:
    result = package.coordinator(op, store).result()
    return {
        "totals": {name: opened.total_D.tolist() for name, opened in result.sums.items()},
        "devices": {name: list(opened.devices) for name, opened in result.sums.items()},
        "closed": sorted(result.closed),
        "liars": list(result.liars),
    }


def _quorum(package: Package, op: Operation, store: Store) -> dict[str, Any]:
    data, signed = store.get(op["certificate"]), package.signed(op)
    return {"ballot": verify_quorum(signed, data), "voters": list(decode_quorum(data, signed)[1])}


def _audit(op: Operation, store: Store) -> dict[str, Any]:
    audit = verify_evidence(store.get(op["evidence"]), anchors_of(op, store))
    return {
        "round_id": audit.round_id,
        "voters": list(audit.voters),
        "opened": dict(audit.opened),
        "closed": list(audit.closed),
        "survivors": list(audit.survivors),
        "quorum_digest": audit.quorum_digest,
    }


ACTS: dict[str, Act] = {
    "manifest.verify": _verify_manifest,
    "policy.check": lambda package, op, store: _check_policy(package, op, store),
    "contribute": _contribute,
    "coordinator.add": lambda p, op, store: p.coordinator(op, store).add(store.get(op["m2"])),
    "coordinator.close": lambda p, op, store: p.coordinator(op, store).close(),
    "coordinator.share_request": lambda p, op, store: p.coordinator(op, store).share_request(op["member"]),
    "coordinator.add_complaints": lambda p, op, store: p.coordinator(op, store).add_complaints(
        store.get(op["complaints"])
    ),
    "coordinator.ballot": lambda p, op, store: p.coordinator(op, store).ballot(),
    "coordinator.add_vote": lambda p, op, store: p.coordinator(op, store).add_vote(store.get(op["vote"])),
    "coordinator.quorum_certificate": lambda p, op, store: p.coordinator(op, store).quorum_certificate(),
    "coordinator.add_opening": lambda p, op, store: p.coordinator(op, store).add_opening(
        store.get(op["opening"])
    ),
    "coordinator.result": _result,
    "coordinator.evidence": lambda p, op, store: p.coordinator(op, store).result().evidence,
    "member.receive": lambda p, op, store: p.member(op, store).receive(
        store.get(op["request"]), anchors_of(op, store)
    ),
    "member.vote": lambda p, op, store: p.member(op, store).vote(store.get(op["ballot"])),
    "member.open": lambda p, op, store: p.member(op, store).open(store.get(op["certificate"])),
    "quorum.check": _quorum,
    "evidence.check": lambda _, op, store: _audit(op, store),
}
