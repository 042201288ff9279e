"""The device's side of a round, one stage a method.

    contribute  M1, the manifest     -> M2: trained, clipped, encoded, sealed
    installed   a release moved      -> what became of it here
    later       come back then       -> nothing: the device rests
    the rest    see `membership`

Every answer is stored before it is sent. Asked the same again, the device gives the stored bytes; asked
something else about the same round, it refuses (docs/protocol.md 5.13).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import PeerProtocolError
from mimo_fed.events import EventLog
from mimo_fed.round.cohort import read_rest
from mimo_fed.round.device import Device, Evaluation, Journal, Policy, TrainedUpdate
from mimo_fed.round.layout import STATISTICS, Layout, layout_of, sum_name
from mimo_fed.round.membership import Membership
from mimo_fed.round.prepare import loss_statistics, prepare
from mimo_fed.secagg import (
    Anchors,
    Arithmetic,
    Certificate,
    Entropy,
    SignedManifest,
    SigningKey,
    contribute,
)

Inputs = Mapping[str, NDArray[np.uint32]]
Tap = Callable[[str, Inputs], None]


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
        rest: told for how many seconds the coordinator will not need this device.
        arithmetic: how masks are computed.
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
        rest: Callable[[float], None] = lambda _: None,
        arithmetic: Arithmetic | None = None,
        tap: Tap | None = None,
    ) -> None:
        self._device, self._policy = device, policy
        self._entropy, self._events = entropy, events
        self._rest, self._tap = rest, tap
        self._arithmetic = arithmetic or Arithmetic()
        self._membership = Membership(
            journal,
            key=key,
            certificate=certificate,
            anchors=anchors,
            policy=policy.of_manifests(),
            entropy=entropy,
            now_s=now_s,
            events=events,
        )
        self.seconds = {"train": 0.0, "protect": 0.0}
        self._membership.stages |= {
            "contribute": self._contribute,
            "installed": device.installed,
            "later": self._later,
        }

    def handle(self, stage: str, payload: bytes) -> bytes:
        """Answer one request; an error of ours becomes an enveloped refusal."""
        return self._membership.handle(stage, payload)

    def _later(self, request: bytes) -> bytes:
        seconds, reason = read_rest(request)
        self._events.emit("rest", seconds=round(seconds, 1), reason=reason)
        self._rest(seconds)
        return b""

    def _contribute(self, data: bytes) -> bytes:
        membership = self._membership
        signed = membership.verify(data)
        manifest = signed.manifest
        if stored := membership.journal.get(f"round/{signed.mh.hex()}/m2"):
            return stored
        layout = layout_of(manifest, self._device.spec)
        self._policy.check(layout.config)
        if layout.config.cohort not in ("", self._device.cohort):
            raise PeerProtocolError(f"round trains the adapter of another cohort: {layout.config.cohort}")
        secret = self._place(signed)
        with membership.stepping:
            membership.agree(signed)
        self._events.emit("manifest.accepted", round_id=manifest.round_id, round_kind=manifest.kind)
        group = signed.groups.get(membership.certificate.device_id, 0)
        inputs = self._work(signed, layout, group)
        started = time.monotonic()
        if self._tap:
            self._tap(manifest.round_id, inputs)
        m2 = contribute(
            signed,
            membership.key,
            membership.certificate,
            self._device.rank,
            inputs,
            self._entropy,
            self._arithmetic,
        )
        with membership.stepping:
            self._keep(signed, secret, m2)
        self.seconds["protect"] += time.monotonic() - started
        self._events.emit("sealed", round_id=manifest.round_id, bytes=len(m2))
        return m2

    def _place(self, signed: SignedManifest) -> bytes | None:
        """Return this device's prekey if it has a place on the committee that it has not taken yet."""
        ids = {member.device_id for member in signed.manifest.members}
        mh = signed.mh.hex()
        if self._membership.certificate.device_id not in ids:
            return None
        if self._membership.journal.get(f"round/{mh}/member") is not None:
            return None
        return self._membership.own_prekey(signed)

    def _keep(self, signed: SignedManifest, secret: bytes | None, m2: bytes) -> None:
        """Store a contribution, and before it the member that goes with it."""
        membership = self._membership
        if secret is not None:
            membership.take_place(signed, secret)
        membership.journal.put(f"round/{signed.mh.hex()}/m2", m2)
        if secret is not None:
            membership.drop_prekey(signed.manifest.round_id)

    def _work(self, signed: SignedManifest, layout: Layout, group: int) -> Inputs:
        """Train or judge, and write the numbers as the round's sums want them."""
        adapter = self._device.fetch_base(signed.manifest.base_digest)
        started = time.monotonic()
        self._events.emit(f"{layout.config.kind}.started", round_id=layout.round_id)
        if layout.config.kind == "evaluate":
            judged = self._device.evaluate(adapter, layout.config)
            self._done(layout, started, judged.loss_current, judged.loss_candidate)
            return {STATISTICS: layout.statistics.encode(_judgement(judged))}
        update = self._device.train(adapter, layout.config, signed.mh.hex())
        self._done(layout, started, update.loss_before, update.loss_after)
        return self._encode(update, layout, group)

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

    def _encode(self, update: TrainedUpdate, layout: Layout, group: int) -> Inputs:
        started = time.monotonic()
        ready = prepare(update, layout, self._device.rank)
        inputs = {
            sum_name(s, group): layout.encoding(s).encode(
                ready.vectors[s.name], ready.weight, ready.num_steps
            )
            for s in layout.spec.shells_of(self._device.rank)
        }
        inputs[STATISTICS] = layout.statistics.encode(ready.statistics)
        self.seconds["protect"] += time.monotonic() - started
        self._events.emit(
            "encoded",
            round_id=layout.round_id,
            norm=round(ready.norm, 4),
            clipped=bool(ready.statistics["clipped"]),
        )
        return inputs


def _judgement(judged: Evaluation) -> dict[str, float]:
    losses = loss_statistics(judged.weight, judged.loss_current, judged.loss_candidate)
    return losses | {"clipped": 0.0}
