"""The coordinator's side of a round, one stage a line; it holds no arithmetic and no transport.

Every accepted input is stored before it is used, and the aggregation session is a pure function of its
inputs in their order: after a kill, the stored round is replayed and goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mimo_fed.adapter import AdapterSpec
from mimo_fed.errors import PeerProtocolError, RoundAborted
from mimo_fed.events import EventLog
from mimo_fed.round.ask import Asker, Patience
from mimo_fed.round.assemble import Assembly
from mimo_fed.round.fleet import Answer, Fleet
from mimo_fed.round.outcome import Outcome, read_outcome
from mimo_fed.round.records import Plan, Record, RoundStore
from mimo_fed.secagg import (
    Anchors,
    Arithmetic,
    Coordinator,
    Entropy,
    SignedManifest,
    SigningKey,
    make_manifest,
    verify_manifest,
)

COLLECT_SHARE: Final = 0.75
"""of a round's time in which contributions are taken; the rest is for opening"""
LOOK_AGAIN_S: Final = 60.0
"""how often an asynchronous round looks for devices that have come"""


class Coordination:
    """Drives one round from plan to opened sums.

    Args:
        fleet: the devices.
        store: this round's records.
        key: the coordinator's signing key.
        anchors: the keys to trust.
        spec: shape of the global adapter.
        entropy: draws the cohort.
        now_s: returns seconds since the epoch.
        events: for the people watching.
        arithmetic: how masks are computed.
    """

    def __init__(
        self,
        fleet: Fleet,
        store: RoundStore,
        *,
        key: SigningKey,
        anchors: Anchors,
        spec: AdapterSpec,
        entropy: Entropy,
        now_s: Callable[[], float],
        events: EventLog,
        arithmetic: Arithmetic | None = None,
    ) -> None:
        self._fleet, self._store = fleet, store
        self._key, self._anchors, self._spec = key, anchors, spec
        self._entropy, self._now_s, self._events = entropy, now_s, events
        self._arithmetic = arithmetic or Arithmetic()
        self._asker = Asker(fleet=fleet, now_s=now_s, events=events)

    def run(self, plan: Plan) -> Outcome:
        """Run the round, or go on with it where its records end.

        Raises:
            RoundAborted: too few devices, votes or openings before the deadline; nothing was opened.
        """
        kept = self._store.records()
        signed = self._manifest(plan, kept)
        session = Coordinator(signed, self._anchors, self._store.spool, self._arithmetic)
        self._replay(session, kept, plan.round_id)
        stages = {r.stage for r in kept}
        if "closed" not in stages:
            self._join(signed, plan)
            self._contributions(session, signed, plan)
        if "ballot" not in stages:
            self._complaints(session, signed, plan)
        if "certificate" not in stages:
            self._votes(session, signed, plan)
        if not session.can_open:
            self._openings(session, signed, plan)
        votes = sum(r.stage == "vote" for r in self._store.records())
        return read_outcome(signed.manifest, self._cohort(), self._spec, session.result(), votes)

    def _manifest(self, plan: Plan, kept: tuple[Record, ...]) -> SignedManifest:
        """Make the manifest with the devices that are there, or take the stored one."""
        stored = [r.data for r in kept if r.stage == "manifest"]
        if stored:
            return self._own(stored[0])
        manifest, cohort = self._assembly(plan).gather()
        data = make_manifest(self._key, manifest)
        self._store.append(Record("cohort", "", "\n".join(cohort).encode()))
        self._store.append(Record("manifest", "", data))
        self._events.emit(
            "round.started",
            round_id=plan.round_id,
            round_kind=manifest.kind,
            sequence=manifest.sequence,
            mode=manifest.mode,
            cohort=list(cohort),
            members=len(manifest.members),
        )
        return self._own(data)

    def _assembly(self, plan: Plan) -> Assembly:
        return Assembly(
            fleet=self._fleet,
            asker=self._asker,
            plan=plan,
            anchors=self._anchors,
            spec=self._spec,
            entropy=self._entropy,
            now_s=self._now_s,
        )

    def _own(self, data: bytes) -> SignedManifest:
        """Check the round's own manifest as its devices do.

        Raises:
            RoundAborted: its deadline has passed, or a member's certificate counts no longer.
        """
        try:
            return verify_manifest(data, self._anchors, int(self._now_s()))
        except PeerProtocolError as error:
            raise RoundAborted(f"no device would go on with this round: {error.message}") from None

    def _join(self, signed: SignedManifest, plan: Plan) -> None:
        """Have the members that need not contribute take their places; no device trains before enough have.

        Raises:
            RoundAborted: fewer than a quorum took their places.
        """
        if signed.manifest.mode == "all":
            return
        needed = signed.manifest.committee.quorum
        have = self._short(signed, plan, "join", lambda _: signed.encoded, "joined", lambda _: None)
        if have < needed:
            raise RoundAborted(f"too few members took their places, {needed} must: {have}")

    def _contributions(self, session: Coordinator, signed: SignedManifest, plan: Plan) -> None:
        """Take each contribution as it arrives, until there are enough of them."""
        manifest, started_s = signed.manifest, self._now_s()
        have = set(session.contributors)
        end_at_s = manifest.deadline_at_s - (1 - COLLECT_SHARE) * plan.config.deadline_s

        def take(answer: Answer, payload: bytes) -> None:
            device_id = session.add(payload)
            have.add(device_id)
            self._events.emit(
                "contribution", round_id=manifest.round_id, device=device_id, bytes=len(payload)
            )

        patience = self._patience(signed, plan, have, started_s)
        self._events.emit("stage", round_id=manifest.round_id, stage="contribute")
        asked = self._cohort()
        while True:
            requests = {d: signed.encoded for d in asked if d not in have}
            part_at_s = min(end_at_s, self._now_s() + LOOK_AGAIN_S) if self._waits(plan) else end_at_s
            self._asker.ask("contribute", requests, take, end_at_s=part_at_s, patience=patience)
            if not self._waits(plan) or patience.enough() or self._now_s() >= end_at_s:
                break
            asked = (*asked, *self._newcomers(signed, plan, asked))
        session.close()
        self._store.append(Record("closed", "", b""))

    def _patience(self, signed: SignedManifest, plan: Plan, have: set[str], started_s: float) -> Patience:
        """Open an asynchronous round at its number; another waits as long again once a sum can open."""
        if plan.config.open_at:
            return Patience(enough=lambda: len(have) >= plan.config.open_at, after_s=0.0)
        quorum = signed.manifest.committee.quorum if signed.manifest.mode == "all" else 0
        needed = max(quorum, plan.config.n_min)
        return Patience(enough=lambda: len(have) >= needed, since_s=started_s)

    def _cohort(self) -> tuple[str, ...]:
        """Return who is asked to contribute, as it was drawn."""
        stored = next(r.data for r in reversed(self._store.records()) if r.stage == "cohort")
        return tuple(stored.decode().split("\n"))

    def _newcomers(self, signed: SignedManifest, plan: Plan, asked: tuple[str, ...]) -> tuple[str, ...]:
        """Draw among the devices that have come since."""
        assembly, allowed = self._assembly(plan), signed.manifest.contributors
        there = set(assembly.devices_there(signed.manifest.deadline_at_s)) - set(asked)
        return assembly.draw_cohort(there if allowed is None else there & allowed)

    def _waits(self, plan: Plan) -> bool:
        """Whether devices that come later are asked as well."""
        return bool(plan.config.open_at) and plan.config.secure_sum.committee != "all"

    def _complaints(self, session: Coordinator, signed: SignedManifest, plan: Plan) -> None:
        request, add = session.share_request, session.add_complaints
        self._short(signed, plan, "shares", request, "complaint", add, session)
        self._store.append(Record("ballot", "", session.ballot()))

    def _votes(self, session: Coordinator, signed: SignedManifest, plan: Plan) -> None:
        ballot = session.ballot()
        have = self._short(signed, plan, "ballot", lambda _: ballot, "vote", session.add_vote, session)
        if not session.has_quorum:
            raise RoundAborted(f"too few votes for a quorum of {signed.manifest.committee.quorum}: {have}")
        self._store.append(Record("certificate", "", session.quorum_certificate()))

    def _openings(self, session: Coordinator, signed: SignedManifest, plan: Plan) -> None:
        certificate, add = session.quorum_certificate(), session.add_opening
        have = self._short(signed, plan, "open", lambda _: certificate, "opening", add, session)
        if not session.can_open:
            raise RoundAborted(f"too few members opened, {signed.manifest.committee.threshold} must: {have}")

    def _short(
        self,
        signed: SignedManifest,
        plan: Plan,
        stage: str,
        request: Callable[[str], bytes],
        record: str,
        add: Callable[[bytes], None],
        session: Coordinator | None = None,
    ) -> int:
        """Ask the members one of the short questions; after enough, the rest get `patience_s`.

        An answer that the session takes is stored as a `record`. Returns how many members have answered, in
        an earlier life of the coordinator too.
        """
        manifest = signed.manifest
        have = {r.device_id for r in self._store.records() if r.stage == record}

        def take(answer: Answer, payload: bytes) -> None:
            add(payload)
            self._store.append(Record(record, answer.device_id, payload))
            have.add(answer.device_id)

        self._events.emit("stage", round_id=manifest.round_id, stage=stage)
        members = tuple(member.device_id for member in manifest.members)
        asked = session.contributors if session and manifest.mode == "all" else members
        head = signed.mh if session else b""
        requests = {d: head + request(d) for d in asked if d not in have}
        patience = Patience(enough=lambda: len(have) >= manifest.committee.quorum, after_s=plan.patience_s)
        self._asker.ask(stage, requests, take, end_at_s=manifest.deadline_at_s, patience=patience)
        return len(have)

    def _replay(self, session: Coordinator, kept: tuple[Record, ...], round_id: str) -> None:
        """Bring a new session to where the stored one was; there may be nothing but the manifest yet."""
        for data in self._store.contributions():
            session.add(data)
        for record in kept:
            if record.stage == "closed":
                session.close()
            elif record.stage == "complaint":
                session.add_complaints(record.data)
            elif record.stage == "ballot":
                if session.ballot() != record.data:
                    raise RoundAborted("stored ballot and stored contributions disagree")
            elif record.stage == "vote":
                session.add_vote(record.data)
            elif record.stage == "opening":
                session.add_opening(record.data)
        if len(kept) > 2 or session.contributors:
            self._events.emit(
                "round.adopted",
                round_id=round_id,
                stage=kept[-1].stage,
                contributions=len(session.contributors),
            )
