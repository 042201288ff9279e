"""The operations of the JSON files, done by the second implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.vectors.second import identity, manifest, primitives, ring, sealing, sharing
from tests.vectors.second.coordinator import Coordinator, audit
from tests.vectors.second.identity import Anchors
from tests.vectors.second.member import Member, Randomness, contribute
from tests.vectors.second.messages import packed, read_quorum, residues
from tests.vectors.second.primitives import Given, Reader, Stream
from tests.vectors.store import Operation, Store

_WIDTHS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
Act = Callable[["Sessions", Operation, Store], Any]


class Sessions:
    """Does the operations of one file: keeps its rounds, members and coordinators."""

    def __init__(self) -> None:
        self._rounds: dict[str, manifest.Round] = {}
        self._members: dict[str, Member] = {}
        self._coordinators: dict[str, Coordinator] = {}

    def execute(self, op: Operation, store: Store) -> Any:
        """See `store.Execute`."""
        return ACTS[op["op"]](self, op, store)

    def round(self, op: Operation) -> manifest.Round:
        return self._rounds[op.get("round", "main")]

    def keep(self, name: str, found: manifest.Round) -> None:
        self._rounds[name] = found

    def member(self, op: Operation, store: Store) -> Member:
        label = str(op.get("session", op["member"]))
        if label not in self._members:
            party = store.parties[op["member"]]
            key, prekey = store.get(party["key"]), store.get(party["prekey"])
            self._members[label] = Member(self.round(op), op["member"], key, prekey)
        return self._members[label]

    def coordinator(self, op: Operation, store: Store) -> Coordinator:
        label = str(op.get("session", "main"))
        if label not in self._coordinators:
            self._coordinators[label] = Coordinator(self.round(op), _anchors(op, store))
        return self._coordinators[label]


def _anchors(op: Operation, store: Store) -> Anchors:
    return Anchors.of(store.anchors[op.get("anchors", "main")])


def _write(op: Operation, store: Store) -> bytes:
    out = b""
    for kind, value in op["fields"]:
        if kind in _WIDTHS:
            out += primitives.number(value, _WIDTHS[kind])
        elif kind == "f64":
            out += primitives.real(value)
        elif kind == "text":
            out += primitives.text(value)
        else:
            out += primitives.blob(store.get(value)) if kind == "blob" else store.get(value)
    return out


def _read(op: Operation, store: Store) -> list[Any]:
    reader, out = Reader(store.get(op["data"])), list[Any]()
    for kind, *bound in op["fields"]:
        if kind in _WIDTHS:
            out.append(reader.number(_WIDTHS[kind]))
        elif kind == "f64":
            out.append(reader.real())
        elif kind == "text":
            out.append(reader.text(*bound))
        else:
            out.append(reader.blob(*bound) if kind == "blob" else reader.raw(*bound))
    reader.end()
    return out


def _values(op: Operation) -> list[int]:
    """A vector: its values, or how many of i -> i * factor mod q."""
    stated = op["values"]
    if isinstance(stated, list):
        return list(stated)
    return [i * stated["factor"] % primitives.Q for i in range(stated["count"])]


def _mask(op: Operation, store: Store) -> bytes:
    secret = residues(store.get(op["secret"]))
    secret += [0] * (ring.N - len(secret))
    return packed(ring.mask(ring.public_key(store.get(op["mh"]), op["sum"]), secret, op["length"]))


def _protect(op: Operation, store: Store) -> bytes:
    mh, seed = store.get(op["mh"]), store.get(op["seed"])
    return ring.protect(mh, op["sum"], seed, _values(op), op["bits"], op["errors"])


def _unmask(op: Operation, store: Store) -> list[float]:
    key = ring.public_key(store.get(op["mh"]), op["sum"])
    secret = ring.secret_of(store.get(op["seed"]))
    return [float(v) for v in ring.unmask(key, secret, op["words"], op["bits"])]


def _polynomials(op: Operation, store: Store) -> sharing.Rows:
    numbers = manifest.committee(op["mode"], op["size"])
    secrets = [ring.secret_of(store.get(seed)) for seed in op["seeds"]]
    return sharing.polynomials(secrets, numbers.threshold, numbers.packing, store.get(op["sharing"]))


def _share(op: Operation, store: Store) -> bytes:
    return packed(sharing.share(_polynomials(op, store), op["member"] + 1)[: op.get("take")])


def _prove(op: Operation, store: Store) -> bytes:
    return b"".join(map(packed, sharing.prove(_polynomials(op, store), store.get(op["challenge"]))))


def _check_proof(op: Operation, store: Store) -> None:
    r, values = manifest.committee(op["mode"], op["size"]).threshold, residues(store.get(op["proof"]))
    proof = [values[k * r : (k + 1) * r] for k in range(sharing.MASKS)]
    row, challenge = residues(store.get(op["row"])), store.get(op["challenge"])
    sharing.check_proof(row, op["member"] + 1, proof, challenge, r)


def _reconstruct(op: Operation, store: Store) -> dict[str, Any]:
    numbers = manifest.committee(op["mode"], op["size"])
    encoded = {int(member): store.get(value) for member, value in op["answers"].items()}
    fold = primitives.digest("fold", b"".join(encoded[member] for member in sorted(encoded)))
    answers = {member: residues(data) for member, data in encoded.items()}
    secret, liars = sharing.reconstruct(answers, numbers.threshold, numbers.packing, fold)
    return {"secret": packed(secret), "liars": liars}


def _path(op: Operation, store: Store) -> bytes:
    return b"".join(primitives.path([primitives.leaf(store.get(v)) for v in op["entries"]], op["index"]))


def _check_path(op: Operation, store: Store) -> None:
    hashes = store.get(op["path"])
    siblings = [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
    primitives.check_path(store.get(op["root"]), store.get(op["entry"]), op["index"], op["size"], siblings)


def _groups(op: Operation, store: Store) -> dict[str, int]:
    ids, draw = set(op["cohort"]), store.get(op["beacon"])
    return identity.assign_groups(ids, draw, op["groups"])


def _verify_manifest(sessions: Sessions, op: Operation, store: Store) -> dict[str, Any]:
    found = manifest.verify(store.get(op["m1"]), _anchors(op, store), op["now_s"])
    sessions.keep(op.get("round", "main"), found)
    return {"mh": found.mh, "committee": list(found.numbers), "members": found.ids, "groups": found.groups}


def _check_policy(sessions: Sessions, op: Operation, store: Store) -> None:
    manifest.check_policy(sessions.round(op), op["n_min_floor"], op["suites"], op["modes"])


def _contribute(sessions: Sessions, op: Operation, store: Store) -> bytes:
    drawn = Randomness([store.get(s) for s in op["seeds"]], store.get(op["nonce"]), store.get(op["sharing"]))
    party, found = store.parties[op["device"]], sessions.round(op)
    secrets = {i: store.get(store.parties[i]["prekey"]) for i in found.ids}
    key, certificate = store.get(party["key"]), store.get(op.get("certificate", party["certificate"]))
    recorded = store.get(op["out"]) if op["success"] else b""
    return contribute(found, key, certificate, op["rank"], op["inputs"], drawn, recorded, secrets)


def _result(sessions: Sessions, op: Operation, store: Store) -> dict[str, Any]:
    result = sessions.coordinator(op, store).result()
    totals = {name: [float(v) for v in total] for name, total in result.totals.items()}
    return {"totals": totals, "devices": result.devices, "closed": result.closed, "liars": result.liars}


def _quorum(sessions: Sessions, op: Operation, store: Store) -> dict[str, Any]:
    ballot, voters = read_quorum(store.get(op["certificate"]), sessions.round(op))
    return {"ballot": ballot, "voters": voters}


ACTS: dict[str, Act] = {
    "codec.write": lambda _, op, store: _write(op, store),
    "codec.read": lambda _, op, store: _read(op, store),
    "tag": lambda _, op, store: primitives.tagged(op["domain"], store.get(op["message"])),
    "hash": lambda _, op, store: primitives.digest(op["domain"], store.get(op["message"])),
    "public_key": lambda _, op, store: primitives.public_of(store.get(op["key"])),
    "sign": lambda _, op, store: primitives.sign(
        store.get(op["key"]), op["domain"], store.get(op["message"])
    ),
    "signature.check": lambda _, op, store: primitives.check_signature(
        store.get(op["public"]), op["domain"], store.get(op["message"]), store.get(op["signature"])
    ),
    "derive": lambda _, op, store: primitives.derive(
        store.get(op["key"]), op["domain"], store.get(op["context"])
    ),
    "stream": lambda _, op, store: Stream(store.get(op["key"]), op["which"]).take(op["skip"] + op["length"])[
        op["skip"] :
    ],
    "uniform": lambda _, op, store: packed(
        ring.uniform(Stream(store.get(op["key"]), op["which"]), op["count"])
    ),
    "uniform.words": lambda _, op, store: packed(ring.uniform(Given(store.get(op["stream"])), op["count"])),
    "errors": lambda _, op, store: ring.errors(Stream(store.get(op["key"]), op["which"]), op["count"]),
    "ring.root": lambda _, op, store: ring.psi(),
    "mask": lambda _, op, store: _mask(op, store),
    "protect": lambda _, op, store: _protect(op, store),
    "round": lambda _, op, store: b"".join(
        ring.rounded(v, op["bits"]).to_bytes(op["bits"] // 8, "little") for v in op["values"]
    ),
    "unmask": lambda _, op, store: _unmask(op, store),
    "tree.root": lambda _, op, store: primitives.root([primitives.leaf(store.get(v)) for v in op["entries"]]),
    "tree.path": lambda _, op, store: _path(op, store),
    "tree.check": lambda _, op, store: _check_path(op, store),
    "share": lambda _, op, store: _share(op, store),
    "proof": lambda _, op, store: _prove(op, store),
    "proof.check": lambda _, op, store: _check_proof(op, store),
    "reconstruct": lambda _, op, store: _reconstruct(op, store),
    "unseal": lambda _, op, store: sealing.unseal(
        op["suite"], store.get(op["key"]), store.get(op["info"]), store.get(op["sealed"])
    ),
    "committee": lambda _, op, store: list(manifest.committee(op["mode"], op["size"])),
    "beacon": lambda _, op, store: identity.beacon(op["base_digest"]),
    "lottery.bound": lambda _, op, store: manifest.lottery_bound(op["population"]),
    "lottery.number": lambda _, op, store: identity.lottery_number(store.get(op["beacon"]), op["device"]),
    "groups": lambda _, op, store: _groups(op, store),
    "certificate.check": lambda _, op, store: _anchors(op, store).check(
        identity.read_certificate(store.get(op["certificate"])), op["at_s"]
    ),
    "hello.check": lambda _, op, store: (
        identity.check_hello(
            store.get(op["hello"]), store.get(op["nonce"]), _anchors(op, store), op["now_s"]
        ).device_id
    ),
    "prekey.check": lambda _, op, store: (
        identity.check_prekey(
            store.get(op["prekey"]), _anchors(op, store), op["suite"], op["round_id"], op["now_s"]
        ).public
    ),
    "prekey.public": lambda _, op, store: sealing.public_of(op["suite"], store.get(op["key"])),
    "manifest.verify": _verify_manifest,
    "policy.check": _check_policy,
    "contribute": _contribute,
    "coordinator.add": lambda s, op, store: s.coordinator(op, store).add(store.get(op["m2"])),
    "coordinator.close": lambda s, op, store: s.coordinator(op, store).close(),
    "coordinator.share_request": lambda s, op, store: s.coordinator(op, store).share_request(op["member"]),
    "coordinator.add_complaints": lambda s, op, store: s.coordinator(op, store).add_complaints(
        store.get(op["complaints"])
    ),
    "coordinator.ballot": lambda s, op, store: s.coordinator(op, store).ballot(),
    "coordinator.add_vote": lambda s, op, store: s.coordinator(op, store).add_vote(store.get(op["vote"])),
    "coordinator.quorum_certificate": lambda s, op, store: s.coordinator(op, store).quorum_certificate(),
    "coordinator.add_opening": lambda s, op, store: s.coordinator(op, store).add_opening(
        store.get(op["opening"])
    ),
    "coordinator.result": _result,
    "coordinator.evidence": lambda s, op, store: s.coordinator(op, store).evidence(),
    "member.receive": lambda s, op, store: s.member(op, store).receive(
        store.get(op["request"]), _anchors(op, store)
    ),
    "member.vote": lambda s, op, store: s.member(op, store).vote(store.get(op["ballot"])),
    "member.open": lambda s, op, store: s.member(op, store).open(store.get(op["certificate"])),
    "quorum.check": _quorum,
    "evidence.check": lambda _, op, store: vars(audit(store.get(op["evidence"]), _anchors(op, store))),
}
