"""The device's side of a round, one stage a method.

    hello       nonce                -> who I am, signed                 (ties a transport's node to a device)
    prekey      round id             -> M0, a one-time public key
    contribute  M1, the manifest     -> M2: trained, clipped, encoded, sealed
    shares      my sealed shares     -> M2b: which of them are bad
    ballot      the survivor sets    -> M3: my one vote
    open        quorum certificate   -> M4: my sum of shares, and the prekey is erased
    installed   a release moved      -> what became of it here

Every answer is stored before it is sent. Asked the same again, the device gives the stored bytes; asked
something else about the same round, it refuses (docs/protocol.md).
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import delta_to_shells
from mimo_fed.errors import LocalProtocolError, MimoFedError, PeerProtocolError
from mimo_fed.events import EventLog
from mimo_fed.privacy import clip
from mimo_fed.round import envelope
from mimo_fed.round.device import Device, Evaluation, Journal, Policy, TrainedUpdate
from mimo_fed.round.layout import STATISTICS, Layout, layout_of
from mimo_fed.secagg import (
    Anchors,
    Certificate,
    DevicePolicy,
    Entropy,
    Member,
    SignedManifest,
    SigningKey,
    contribute,
    make_hello,
    make_prekey,
    verify_manifest,
)

Inputs = Mapping[str, NDArray[np.uint32]]
Tap = Callable[[str, Inputs], None]

MAX_PREKEYS = 8
"""rounds for which prekeys are kept; whoever asks for more loses the older ones"""


class Contributor:
    """Answers the coordinator for one device.

    Args:
        device: trains and judges.
        journal: durable; holds prekeys, answers and what has been agreed to.
        key: the device's signing key.
        certificate: the enrolment authority's word for that key.
        anchors: returns the keys to trust now, from verified release metadata.
        policy: what the owner allows.
        entropy: returns that many random bytes.
        now_s: returns seconds since the epoch.
        events: for the people watching.
        tap: tests alone: sees what is sealed, before it is sealed.
    """

    def __init__(
        self,
        device: Device,
        journal: Journal,
        *,
        key: SigningKey,
        certificate: Certificate,
        anchors: Callable[[], Anchors],
        policy: Policy,
        entropy: Entropy,
        now_s: Callable[[], float],
        events: EventLog,
        tap: Tap | None = None,
    ) -> None:
        self._device, self._journal = device, journal
        self._key, self._certificate = key, certificate
        self._anchors, self._policy = anchors, policy
        self._entropy, self._now_s = entropy, now_s
        self._events, self._tap = events, tap
        self._stepping = threading.Lock()
        """a step reads the journal, decides and writes it; two at once could vote twice"""
        self.seconds = {"train": 0.0, "protect": 0.0}
        self._stages: dict[str, Callable[[bytes], bytes]] = {
            "hello": self._hello,
            "prekey": self._prekey,
            "contribute": self._contribute,
            "shares": self._shares,
            "ballot": self._ballot,
            "open": self._open,
            "installed": device.installed,
        }

    def handle(self, stage: str, payload: bytes) -> bytes:
        """Answer one request; an error of ours becomes an enveloped refusal."""
        try:
            if stage not in self._stages:
                raise PeerProtocolError(f"unknown stage: {stage[:40]!r}")
            return envelope.ok(self._stages[stage](payload))
        except MimoFedError as error:
            self._events.emit("refused", stage=stage[:40], code=error.code, message=error.message)
            return envelope.failure(error)

    def _hello(self, nonce: bytes) -> bytes:
        return make_hello(self._key, self._certificate, nonce)

    def _prekey(self, request: bytes) -> bytes:
        round_id = _round_id(request)
        with self._stepping:
            if stored := self._journal.get(f"prekey/{round_id}/message"):
                return stored
            kept = self._journal.keys("prekey/")
            if len({key.split("/")[1] for key in kept}) >= MAX_PREKEYS:
                for key in kept:
                    self._journal.erase(key)
            secret, message = make_prekey(self._key, self._certificate, round_id, self._entropy)
            self._journal.put(f"prekey/{round_id}/secret", secret)
            self._journal.put(f"prekey/{round_id}/message", message)
            return message

    def _contribute(self, data: bytes) -> bytes:
        signed = verify_manifest(data, self._anchors(), int(self._now_s()))
        manifest, mh = signed.manifest, signed.mh.hex()
        if stored := self._journal.get(f"round/{mh}/m2"):
            return stored
        DevicePolicy(n_min_floor=self._policy.n_min_floor).check(manifest)
        layout = layout_of(manifest, self._device.spec)
        self._policy.check(layout.config)
        secret = self._own_prekey(signed)
        with self._stepping:
            self._agree(signed)
        self._events.emit("manifest.accepted", round_id=manifest.round_id, round_kind=manifest.kind)
        inputs = self._work(manifest.base_digest, layout)
        started = time.monotonic()
        if self._tap:
            self._tap(manifest.round_id, inputs)
        m2 = contribute(signed, self._key, self._certificate, self._device.rank, inputs, self._entropy)
        with self._stepping:
            self._keep(signed, secret, m2)
        self.seconds["protect"] += time.monotonic() - started
        self._events.emit("sealed", round_id=manifest.round_id, bytes=len(m2))
        return m2

    def _keep(self, signed: SignedManifest, secret: bytes, m2: bytes) -> None:
        """Store a contribution and the member that goes with it; a member that is there may have voted."""
        mh = signed.mh.hex()
        self._journal.put(f"round/{mh}/manifest", signed.encoded)
        if self._journal.get(f"round/{mh}/member") is None:
            member = Member(signed, self._key, self._certificate, secret)
            self._journal.put(f"round/{mh}/member", member.to_bytes())
        self._journal.put(f"round/{mh}/m2", m2)
        self._journal.erase(f"prekey/{signed.manifest.round_id}/secret")

    def _own_prekey(self, signed: SignedManifest) -> bytes:
        """Find the private half of the prekey that the manifest names for this device."""
        round_id, device_id = signed.manifest.round_id, self._certificate.device_id
        message = self._journal.get(f"prekey/{round_id}/message")
        secret = self._journal.get(f"prekey/{round_id}/secret")
        named = [m.encoded for m in signed.manifest.members if m.device_id == device_id]
        if message is None or secret is None or named != [message]:
            raise PeerProtocolError(f"manifest does not hold this device's own prekey: {round_id}")
        return secret

    def _agree(self, signed: SignedManifest) -> None:
        """Agree to one manifest of a sequence number, and never to an older one; forget older rounds."""
        sequence, mh = signed.manifest.sequence, signed.mh.hex()
        seen = json.loads(self._journal.get("agreed") or b'{"sequence": -1, "mh": ""}')
        if sequence < seen["sequence"] or (sequence == seen["sequence"] and mh != seen["mh"]):
            raise PeerProtocolError(
                f"manifest is not newer than one agreed to before: {sequence} after {seen['sequence']}"
            )
        self._journal.put("agreed", json.dumps({"sequence": sequence, "mh": mh}).encode())
        for key in self._journal.keys("round/"):
            if not key.startswith(f"round/{mh}/"):
                self._journal.erase(key)
        for key in self._journal.keys("prekey/"):
            if not key.startswith(f"prekey/{signed.manifest.round_id}/"):
                self._journal.erase(key)

    def _work(self, base_digest: str, layout: Layout) -> Inputs:
        """Train or judge, and write the numbers as the round's sums want them."""
        adapter = self._device.fetch_base(base_digest)
        started = time.monotonic()
        self._events.emit(f"{layout.config.kind}.started", round_id=layout.round_id)
        if layout.config.kind == "evaluate":
            judged = self._device.evaluate(adapter, layout.config)
            self._done(layout, started, judged.loss_current, judged.loss_candidate)
            return {STATISTICS: layout.statistics.encode(_judgement(judged))}
        update = self._device.train(adapter, layout.config, layout.round_id)
        self._done(layout, started, update.loss_before, update.loss_after)
        return self._encode(update, layout)

    def _done(self, layout: Layout, started: float, before: float, after: float) -> None:
        seconds = time.monotonic() - started
        self.seconds["train"] += seconds
        self._events.emit(
            f"{layout.config.kind}.done",
            round_id=layout.round_id,
            loss_before=round(before, 4),
            loss_after=round(after, 4),
            seconds=round(seconds, 2),
        )

    def _encode(self, update: TrainedUpdate, layout: Layout) -> Inputs:
        started = time.monotonic()
        spec, rank = self._device.spec, self._device.rank
        weight = max(1, min(update.weight, layout.config.privacy.weight_max))
        vectors = delta_to_shells(spec, update.delta, rank)
        clipped, norm, was_clipped = clip(vectors, layout.config.privacy.clip_norm)
        mine = spec.shells_of(rank)
        inputs = {s.name: layout.vector(s).encode(clipped[s.name], weight) for s in mine}
        statistics = {f"weight:{s.name}": float(weight if s in mine else 0) for s in spec.shells}
        statistics |= _losses(weight, update.loss_before, update.loss_after)
        statistics["clipped"] = float(was_clipped)
        inputs[STATISTICS] = layout.statistics.encode(statistics)
        self.seconds["protect"] += time.monotonic() - started
        self._events.emit("encoded", round_id=layout.round_id, norm=round(norm, 4), clipped=was_clipped)
        return inputs

    def _member(self, request: bytes) -> tuple[str, Member, bytes]:
        mh, body = request[:32].hex(), request[32:]
        manifest = self._journal.get(f"round/{mh}/manifest")
        state = self._journal.get(f"round/{mh}/member")
        if manifest is None or state is None:
            raise PeerProtocolError(f"this device takes no part in that round: {mh[:16]}")
        signed = verify_manifest(manifest, self._anchors(), int(self._now_s()))
        return mh, Member.from_bytes(signed, self._key, self._certificate, state), body

    def _step(self, request: bytes, act: Callable[[Member, bytes], bytes], event: str) -> bytes:
        """Let the member act and store its new state before its answer leaves."""
        with self._stepping:
            mh, member, body = self._member(request)
            answer = act(member, body)
            self._journal.put(f"round/{mh}/member", member.to_bytes())
        self._events.emit(event, mh=mh[:16])
        return answer

    def _shares(self, request: bytes) -> bytes:
        return self._step(request, Member.receive, "shares")

    def _ballot(self, request: bytes) -> bytes:
        return self._step(request, Member.vote, "vote")

    def _open(self, request: bytes) -> bytes:
        return self._step(request, Member.open, "opened")


def _losses(weight: int, before: float, after: float) -> dict[str, float]:
    if not (np.isfinite(before) and np.isfinite(after)):
        raise LocalProtocolError("training gave a loss that is not a number; nothing is sent")
    return {
        "weight": float(weight),
        "loss_before": weight * before,
        "loss_after": weight * after,
        "improved": float(after < before),
    }


def _judgement(judged: Evaluation) -> dict[str, float]:
    return _losses(judged.weight, judged.loss_current, judged.loss_candidate) | {"clipped": 0.0}


def _round_id(request: bytes) -> str:
    try:
        round_id = request.decode("ascii")
    except UnicodeDecodeError:
        round_id = ""
    if not round_id or len(round_id) > 64 or not round_id.replace("-", "").isalnum():
        raise PeerProtocolError(f"round id is not one: {hashlib.sha256(request).hexdigest()[:16]}")
    return round_id
