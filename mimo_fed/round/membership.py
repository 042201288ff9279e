"""A place on committees: what a device, or a helper organisation, does so that sums can be opened.

    prekey   suite, round id      -> M0, a one-time public key
    join     M1, the manifest     -> nothing: the place is taken, for members that need not contribute
    shares   my sealed shares     -> M2b: which contributors are bad
    ballot   the survivors        -> M3: my one vote
    open     quorum certificate   -> M4: my sums of shares

Every answer is stored before it is sent. Asked the same again, the same bytes are given; asked something else
about the same round, it refuses (docs/protocol.md 5.13).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Final

from mimo_fed.codec import Reader, Writer
from mimo_fed.errors import MimoFedError, PeerProtocolError
from mimo_fed.events import EventLog
from mimo_fed.round import envelope
from mimo_fed.round.device import Journal
from mimo_fed.secagg import (
    SUITES,
    Anchors,
    Certificate,
    DevicePolicy,
    Entropy,
    Member,
    SignedManifest,
    SigningKey,
    check_name,
    make_hello,
    make_prekey,
    verify_manifest,
)

MAX_PREKEYS: Final = 8
"""rounds for which prekeys are kept; whoever asks for more loses the oldest"""
MAX_ROUNDS: Final = 8
"""rounds under way that are remembered; whoever begins more loses the oldest"""


class Membership:
    """Answers the coordinator for one member.

    Args:
        journal: durable; holds prekeys, answers and what has been agreed to.
        key: the member's signing key.
        certificate: the enrolment authority's word for that key.
        anchors: returns the keys to trust now, from verified release metadata.
        policy: what the owner demands of a manifest.
        entropy: returns that many random bytes.
        now_s: returns seconds since the epoch.
        events: for the people watching.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        key: SigningKey,
        certificate: Certificate,
        anchors: Callable[[], Anchors],
        policy: DevicePolicy,
        entropy: Entropy,
        now_s: Callable[[], float],
        events: EventLog,
    ) -> None:
        self.journal, self.key, self.certificate = journal, key, certificate
        self.stepping = threading.Lock()
        """a step reads the journal, decides and writes it; two at once could vote twice"""
        self._anchors, self._policy = anchors, policy
        self._entropy, self._now_s, self._events = entropy, now_s, events
        self.stages: dict[str, Callable[[bytes], bytes]] = {
            "hello": self._hello,
            "prekey": self._prekey,
            "join": self._join,
            "shares": self._shares,
            "ballot": self._ballot,
            "open": self._open,
        }

    def handle(self, stage: str, payload: bytes) -> bytes:
        """Answer one request; an error of ours becomes an enveloped refusal."""
        try:
            if stage not in self.stages:
                raise PeerProtocolError(f"unknown stage: {stage[:40]!r}")
            return envelope.ok(self.stages[stage](payload))
        except MimoFedError as error:
            self._events.emit("refused", stage=stage[:40], code=error.code, message=error.message)
            return envelope.failure(error)

    def verify(self, data: bytes) -> SignedManifest:
        """Check a manifest by the rules and by the owner's policy.

        Raises:
            PeerProtocolError: it breaks one or the other.
        """
        signed = verify_manifest(data, self._anchors(), int(self._now_s()))
        self._policy.check(signed.manifest)
        return signed

    def agree(self, signed: SignedManifest) -> None:
        """Agree to one manifest of a sequence number, and never to an older one; forget rounds that are over.

        Raises:
            PeerProtocolError: a newer one, or another of the same number, was agreed to before.
        """
        sequence, mh = signed.manifest.sequence, signed.mh.hex()
        seen = json.loads(self.journal.get("agreed") or b'{"sequence": -1, "mh": "", "until": {}}')
        if sequence < seen["sequence"] or (sequence == seen["sequence"] and mh != seen["mh"]):
            raise PeerProtocolError(
                f"manifest is not newer than one agreed to before: {sequence} after {seen['sequence']}"
            )
        until = {k: t for k, t in seen.get("until", {}).items() if t >= self._now_s() and k != mh}
        kept = dict(list(until.items())[1 - MAX_ROUNDS :]) | {mh: signed.manifest.deadline_at_s}
        self.journal.put("agreed", json.dumps({"sequence": sequence, "mh": mh, "until": kept}).encode())
        for key in self.journal.keys("round/"):
            if key.split("/")[1] not in kept:
                self.journal.erase(key)

    def own_prekey(self, signed: SignedManifest) -> bytes:
        """Find the private half of the prekey that the manifest names for this member.

        Raises:
            PeerProtocolError: it names another, or this one is no member.
        """
        manifest = signed.manifest
        message = self.journal.get(f"prekey/{manifest.round_id}/message")
        secret = self.journal.get(f"prekey/{manifest.round_id}/secret")
        named = manifest.members[manifest.index_of(self.certificate.device_id)].encoded
        if message is None or secret is None or named != message:
            raise PeerProtocolError(f"manifest does not hold this device's own prekey: {manifest.round_id}")
        return secret

    def take_place(self, signed: SignedManifest, secret: bytes) -> None:
        """Store the member, unless it is there: one that is there may have voted."""
        mh = signed.mh.hex()
        self.journal.put(f"round/{mh}/manifest", signed.encoded)
        if self.journal.get(f"round/{mh}/member") is None:
            member = Member(signed, self.key, self.certificate, secret)
            self.journal.put(f"round/{mh}/member", member.to_bytes())

    def drop_prekey(self, round_id: str) -> None:
        """Erase the private half; the member holds it for as long as it is needed."""
        self.journal.erase(f"prekey/{round_id}/secret")

    def _hello(self, nonce: bytes) -> bytes:
        return make_hello(self.key, self.certificate, nonce)

    def _prekey(self, request: bytes) -> bytes:
        suite, round_id = read_prekey_request(request)
        with self.stepping:
            if stored := self.journal.get(f"prekey/{round_id}/message"):
                return stored
            self._make_room()
            secret, message = make_prekey(suite, self.key, self.certificate, round_id, self._entropy)
            self.journal.put(f"prekey/{round_id}/secret", secret)
            self.journal.put(f"prekey/{round_id}/made_at", f"{self._now_s():020.3f}".encode())
            self.journal.put(f"prekey/{round_id}/message", message)
            return message

    def _make_room(self) -> None:
        """Forget the oldest prekeys if there are too many."""
        kept = {key.split("/")[1] for key in self.journal.keys("prekey/")}
        by_age = sorted((self.journal.get(f"prekey/{r}/made_at") or b"", r) for r in kept)
        for _, round_id in by_age[: max(0, 1 + len(by_age) - MAX_PREKEYS)]:
            for key in self.journal.keys(f"prekey/{round_id}/"):
                self.journal.erase(key)

    def _join(self, data: bytes) -> bytes:
        signed = self.verify(data)
        with self.stepping:
            if self.journal.get(f"round/{signed.mh.hex()}/member") is None:
                secret = self.own_prekey(signed)
                self.agree(signed)
                self.take_place(signed, secret)
                self.drop_prekey(signed.manifest.round_id)
        self._events.emit("joined", round_id=signed.manifest.round_id, mode=signed.manifest.mode)
        return b""

    def _member(self, request: bytes) -> tuple[str, Member, bytes]:
        mh, body = request[:32].hex(), request[32:]
        manifest = self.journal.get(f"round/{mh}/manifest")
        state = self.journal.get(f"round/{mh}/member")
        if manifest is None or state is None:
            raise PeerProtocolError(f"this device takes no part in that round: {mh[:16]}")
        signed = verify_manifest(manifest, self._anchors(), int(self._now_s()))
        return mh, Member.from_bytes(signed, self.key, self.certificate, state), body

    def _step(self, request: bytes, act: Callable[[Member, bytes], bytes], event: str) -> bytes:
        """Let the member act and store its state before its answer leaves."""
        with self.stepping:
            mh, member, body = self._member(request)
            answer = act(member, body)
            self.journal.put(f"round/{mh}/member", member.to_bytes())
        self._events.emit(event, mh=mh[:16])
        return answer

    def _shares(self, request: bytes) -> bytes:
        return self._step(request, lambda member, body: member.receive(body, self._anchors()), "shares")

    def _ballot(self, request: bytes) -> bytes:
        return self._step(request, Member.vote, "vote")

    def _open(self, request: bytes) -> bytes:
        return self._step(request, Member.open, "opened")


def prekey_request(suite: str, round_id: str) -> bytes:
    """Ask for a prekey of a suite and round."""
    return Writer().text(suite).text(round_id).bytes()


def read_prekey_request(request: bytes) -> tuple[str, str]:
    """Read what `prekey_request` wrote.

    Raises:
        PeerProtocolError: malformed, or a suite that is not known.
    """
    reader = Reader(request, "prekey request")
    suite, round_id = reader.text(max_len=160), reader.text(max_len=64)
    reader.finish()
    if suite not in SUITES:
        raise PeerProtocolError(
            f"prekey is asked for in an unknown suite: {suite!r}",
            hint="this agent is older or newer than the coordinator; it keeps serving its model",
        )
    return suite, check_name(round_id, "round id")
