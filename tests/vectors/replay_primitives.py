"""Those operations of the JSON files that keep nothing, done by the package; see `replay`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimo_fed.codec import Reader, Writer
from mimo_fed.secagg import (
    BINOMIAL,
    NO_ERROR,
    Anchors,
    Backend,
    Certificate,
    SigningKey,
    assign_groups,
    beacon,
    committee_rule,
    crypto,
    lottery_bound,
    lottery_number,
    merkle,
    ring,
    shamir,
    verify,
    verify_hello,
    verify_prekey,
)
from mimo_fed.secagg.consistency import check_shares, prove
from mimo_fed.secagg.crypto import Box, Keystream, digest, digest_of, tagged
from mimo_fed.secagg.decoding import reconstruct
from mimo_fed.secagg.modular import MODULUS
from mimo_fed.secagg.words import round_to_words
from tests.vectors.store import Operation, Store

Vector = NDArray[np.uint32]
Act = Callable[[Backend, Operation, Store], Any]


class Given:
    """A stream, or entropy, whose bytes a vector states."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, length: int) -> bytearray:
        self._at += length
        if self._at > len(self._data):
            raise ValueError("the stated bytes are too few")
        return bytearray(self._data[self._at - length : self._at])

    def __call__(self, length: int) -> bytes:
        return bytes(self.take(length))


def anchors_of(op: Operation, store: Store) -> Anchors:
    stated = store.anchors[op.get("anchors", "main")]
    return Anchors(
        bytes.fromhex(stated["coordinator"]),
        bytes.fromhex(stated["authority"]),
        frozenset(stated["revoked"]),
        frozenset(map(bytes.fromhex, stated["helpers"])),
        stated["population"],
    )


def residues(data: bytes) -> Vector:
    return np.frombuffer(data, "<u4").astype(np.uint32)


def packed(values: NDArray[Any]) -> bytes:
    return values.astype("<u4").tobytes()


def _write(op: Operation, store: Store) -> bytes:
    writer = Writer()
    for kind, value in op["fields"]:
        getattr(writer, kind)(store.get(value) if kind in ("blob", "raw") else value)
    return writer.bytes()


def _read(op: Operation, store: Store) -> list[Any]:
    reader, out = Reader(store.get(op["data"])), []
    for kind, *bound in op["fields"]:
        named = {"max_len": bound[0]} if kind in ("blob", "text") else {}
        out.append(getattr(reader, kind)(*([] if named else bound), **named))
    reader.finish()
    return out


def _derive(op: Operation, store: Store) -> bytes:
    return crypto.derive(store.get(op["key"]), op["domain"], store.get(op["context"]))


def _stream(op: Operation, store: Store) -> bytes:
    stream = Keystream(store.get(op["key"]), op["which"])
    stream.take(op["skip"])
    return bytes(stream.take(op["length"]))


def _uniform(op: Operation, store: Store) -> bytes:
    return packed(ring.uniform(Keystream(store.get(op["key"]), op["which"]), op["count"]))


def _uniform_words(op: Operation, store: Store) -> bytes:
    return packed(ring.uniform(Given(store.get(op["stream"])), op["count"]))  # type: ignore[arg-type]


def _errors(op: Operation, store: Store) -> list[int]:
    drawn: list[int] = ring.binomial(Keystream(store.get(op["key"]), op["which"]), op["count"]).tolist()
    return drawn


def _secret_of(seed: bytes) -> Vector:
    return ring.uniform(Keystream(crypto.derive(seed, "secret")), ring.RING)


def _mask(backend: Backend, op: Operation, store: Store) -> bytes:
    """a s, from a vector of zeros without errors whose residues are not rounded."""
    secret, given = np.zeros(ring.RING, np.uint32), residues(store.get(op["secret"]))
    secret[: len(given)] = given
    words = backend.protect(
        public=ring.public_key(store.get(op["mh"]), op["sum"]),
        secret=secret,
        errors_key=bytes(32),
        error=NO_ERROR,
        values_D=np.zeros(op["length"], np.uint32),
        word_bits=32,
    )
    return bytes(words)


def _values(op: Operation) -> Vector:
    stated = op["values"]
    if isinstance(stated, list):
        return np.array(stated, np.uint32)
    values = np.arange(stated["count"], dtype=np.uint64) * np.uint64(stated["factor"]) % np.uint64(MODULUS)
    return values.astype(np.uint32)


def _protect(backend: Backend, op: Operation, store: Store) -> bytes:
    seed, values = store.get(op["seed"]), _values(op)
    words = backend.protect(
        public=ring.public_key(store.get(op["mh"]), op["sum"]),
        secret=_secret_of(seed),
        errors_key=crypto.derive(seed, "errors"),
        error=BINOMIAL if op["errors"] else NO_ERROR,
        values_D=np.concatenate([values, np.zeros(64, np.uint32)]),
        word_bits=op["bits"],
    )
    return bytes(words)


def _unmask(backend: Backend, op: Operation, store: Store) -> list[float]:
    dtype = {16: np.uint16, 24: np.uint32, 32: np.uint64}[op["bits"]]
    total: list[float] = backend.unmask(
        public=ring.public_key(store.get(op["mh"]), op["sum"]),
        secret=_secret_of(store.get(op["seed"])),
        words_D=np.array(op["words"], np.uint64).astype(dtype),
        word_bits=op["bits"],
    ).tolist()
    return total


def _leaves(op: Operation, store: Store) -> list[bytes]:
    return [merkle.leaf(store.get(entry)) for entry in op["entries"]]


def _check_path(op: Operation, store: Store) -> None:
    hashes = store.get(op["path"])
    siblings = [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
    merkle.check_path(store.get(op["root"]), store.get(op["entry"]), op["index"], op["size"], siblings)


def _sharing(op: Operation, store: Store) -> shamir.Sharing:
    committee = committee_rule(op["mode"], op["size"])
    secrets = [_secret_of(store.get(seed)).astype(np.uint64) for seed in op["seeds"]]
    stream = Keystream(crypto.derive(store.get(op["sharing"]), "shares"))
    return shamir.share(secrets, committee.size, committee.threshold, committee.packing, stream)


def _check_proof(op: Operation, store: Store) -> None:
    threshold, proof = committee_rule(op["mode"], op["size"]).threshold, residues(store.get(op["proof"]))
    row, challenge = residues(store.get(op["row"])), store.get(op["challenge"])
    check_shares(row, op["member"], proof.reshape(4, threshold), challenge, threshold)


def _reconstruct(op: Operation, store: Store) -> dict[str, Any]:
    committee = committee_rule(op["mode"], op["size"])
    encoded = {int(member): store.get(value) for member, value in op["answers"].items()}
    fold = digest_of("fold", (encoded[member] for member in sorted(encoded)))
    answers = {member: residues(data) for member, data in encoded.items()}
    secret, liars = reconstruct(answers, committee.threshold, committee.packing, fold)
    return {"secret": packed(secret), "liars": list(liars)}


def _check_certificate(op: Operation, store: Store) -> None:
    certificate = Certificate.decode(store.get(op["certificate"]))
    anchors_of(op, store).check(certificate, op["at_s"])


def _groups(op: Operation, store: Store) -> dict[str, int]:
    return assign_groups(op["cohort"], store.get(op["beacon"]), op["groups"])


def _committee(op: Operation) -> list[int]:
    c = committee_rule(op["mode"], op["size"])
    return [c.size, c.quorum, c.threshold, c.corrupt, c.packing]


ACTS: dict[str, Act] = {
    "codec.write": lambda _, op, store: _write(op, store),
    "codec.read": lambda _, op, store: _read(op, store),
    "tag": lambda _, op, store: tagged(op["domain"], store.get(op["message"])),
    "hash": lambda _, op, store: digest(op["domain"], store.get(op["message"])),
    "public_key": lambda _, op, store: SigningKey(store.get(op["key"])).public_key,
    "sign": lambda _, op, store: SigningKey(store.get(op["key"])).sign(
        op["domain"], store.get(op["message"])
    ),
    "signature.check": lambda _, op, store: verify(
        store.get(op["public"]), op["domain"], store.get(op["message"]), store.get(op["signature"])
    ),
    "derive": lambda _, op, store: _derive(op, store),
    "stream": lambda _, op, store: _stream(op, store),
    "uniform": lambda _, op, store: _uniform(op, store),
    "uniform.words": lambda _, op, store: _uniform_words(op, store),
    "errors": lambda _, op, store: _errors(op, store),
    "ring.root": lambda _, op, store: ring.root(),
    "mask": _mask,
    "protect": _protect,
    "round": lambda _, op, store: round_to_words(np.array(op["values"], np.uint64), op["bits"]),
    "unmask": _unmask,
    "tree.root": lambda _, op, store: merkle.root(_leaves(op, store)),
    "tree.path": lambda _, op, store: b"".join(merkle.path(merkle.tree(_leaves(op, store)), op["index"])),
    "tree.check": lambda _, op, store: _check_path(op, store),
    "share": lambda _, op, store: packed(_sharing(op, store).shares()[op["member"]][: op.get("take")]),
    "proof": lambda _, op, store: packed(prove(_sharing(op, store), store.get(op["challenge"]))),
    "proof.check": lambda _, op, store: _check_proof(op, store),
    "reconstruct": lambda _, op, store: _reconstruct(op, store),
    "unseal": lambda _, op, store: Box(op["suite"], store.get(op["key"])).unseal(
        store.get(op["info"]), store.get(op["sealed"])
    ),
    "committee": lambda _, op, store: _committee(op),
    "beacon": lambda _, op, store: beacon(op["base_digest"]),
    "lottery.bound": lambda _, op, store: lottery_bound(op["population"]),
    "lottery.number": lambda _, op, store: lottery_number(store.get(op["beacon"]), op["device"]),
    "groups": lambda _, op, store: _groups(op, store),
    "certificate.check": lambda _, op, store: _check_certificate(op, store),
    "hello.check": lambda _, op, store: (
        verify_hello(
            store.get(op["hello"]), store.get(op["nonce"]), anchors_of(op, store), op["now_s"]
        ).device_id
    ),
    "prekey.check": lambda _, op, store: (
        verify_prekey(
            store.get(op["prekey"]), anchors_of(op, store), op["suite"], op["round_id"], op["now_s"]
        ).public_key
    ),
    "prekey.public": lambda _, op, store: Box(op["suite"], store.get(op["key"])).public,
}
