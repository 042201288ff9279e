"""The coordinator's side of a round, one stage a line; it holds no arithmetic and no transport.

Every accepted input is stored before it is used, and the aggregation session is a pure function of its
inputs in their order: after a kill, the stored round is replayed and goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import AdapterSpec
from mimo_fed.config import RoundConfig
from mimo_fed.errors import MimoFedError, PeerProtocolError, RoundAborted
from mimo_fed.events import EventLog
from mimo_fed.round import envelope
from mimo_fed.round.fleet import Answer, Fleet
from mimo_fed.round.layout import STATISTICS, Layout, layout_of
from mimo_fed.secagg import (
    SUITE,
    Anchors,
    Coordinator,
    Manifest,
    Prekey,
    RoundResult,
    SignedManifest,
    SigningKey,
    Spool,
    make_manifest,
    verify_manifest,
    verify_prekey,
)

MIN_PATIENCE_S = 2.0


@dataclass(frozen=True)
class Record:
    """One stored input of a round: its stage, whose it is ('' for the coordinator's own), and its bytes."""

    stage: str
    device_id: str
    data: bytes


class RoundStore(Protocol):
    """Where one round is kept; whatever was appended is there after a kill."""

    @property
    def spool(self) -> Spool:
        """Where contributions are kept."""
        ...

    def append(self, record: Record) -> None:
        """Store an input; durable when it returns."""
        ...

    def records(self) -> tuple[Record, ...]:
        """Return what was appended, in order."""
        ...

    def contributions(self) -> tuple[bytes, ...]:
        """Return the contributions in the spool."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a round is about.

    Attributes:
        round_id: unique, letters, digits and hyphens.
        sequence: greater than that of every earlier round.
        config: what it fixes.
        base_digest: SHA-256 of the adapter to train from, or to judge.
        min_devices: fewest devices that must be there to begin.
        patience_s: how long the last answers of a short stage are waited for once there are enough.
    """

    round_id: str
    sequence: int
    config: RoundConfig
    base_digest: str
    min_devices: int
    patience_s: float = 3.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a round gave.

    Attributes:
        manifest: what the devices agreed to.
        result: the opened sums and the quorum certificate.
        means: per opened shell, float64 (D,): the weighted mean of the updates.
        statistics: decoded sums; see `Layout.statistics`.
        votes: how many members signed the survivor sets.
    """

    manifest: Manifest
    result: RoundResult
    means: Mapping[str, NDArray[np.float64]]
    statistics: Mapping[str, float]
    votes: int

    @property
    def losses(self) -> tuple[float, float]:
        """Weighted mean loss before and after (current and candidate), nats per token."""
        weight = max(1.0, round(self.statistics["weight"]))
        return self.statistics["loss_before"] / weight, self.statistics["loss_after"] / weight

    @property
    def dropouts(self) -> tuple[str, ...]:
        """Members that are in no opened sum."""
        return tuple(m.device_id for m in self.manifest.members if m.device_id not in self.result.survivors)


class Coordination:
    """Drives one round from plan to opened sums.

    Args:
        fleet: the devices.
        store: this round's records.
        key: the coordinator's signing key.
        anchors: the keys to trust.
        spec: shape of the global adapter.
        now_s: returns seconds since the epoch.
        events: for the people watching.
    """

    def __init__(
        self,
        fleet: Fleet,
        store: RoundStore,
        *,
        key: SigningKey,
        anchors: Anchors,
        spec: AdapterSpec,
        now_s: Callable[[], float],
        events: EventLog,
    ) -> None:
        self._fleet, self._store = fleet, store
        self._key, self._anchors, self._spec = key, anchors, spec
        self._now_s, self._events = now_s, events

    def run(self, plan: Plan) -> Outcome:
        """Run the round, or go on with it where its records end.

        Raises:
            RoundAborted: too few devices, votes or openings before the deadline; nothing was opened.
        """
        kept = self._store.records()
        signed = self._manifest(plan, kept)
        session = Coordinator(signed, self._anchors, self._store.spool)
        self._replay(session, kept, plan.round_id)
        stages = {r.stage for r in kept}
        if "closed" not in stages:
            self._contributions(session, signed, plan)
        if "ballot" not in stages:
            self._complaints(session, signed, plan)
        if "certificate" not in stages:
            self._votes(session, signed, plan)
        if not session.can_open:
            self._openings(session, signed, plan)
        return self._read(session, signed)

    def _manifest(self, plan: Plan, kept: tuple[Record, ...]) -> SignedManifest:
        """Make the manifest from the prekeys of the devices that are there, or take the stored one."""
        stored = [r.data for r in kept if r.stage == "manifest"]
        if stored:
            return self._own(stored[0])
        deadline_at_s = int(self._now_s() + plan.config.deadline_s)
        prekeys = self._prekeys(plan)
        layout = Layout(spec=self._spec, config=plan.config, round_id=plan.round_id, n_max=len(prekeys))
        manifest = Manifest(
            kind=plan.config.kind,
            suite=SUITE,
            round_id=plan.round_id,
            sequence=plan.sequence,
            base_digest=plan.base_digest,
            sums=layout.sum_specs(),
            n_max=len(prekeys),
            word_bits=plan.config.privacy.word_bits,
            mode="all",
            members=prekeys,
            deadline_at_s=deadline_at_s,
            application=plan.config.to_json(),
        )
        data = make_manifest(self._key, manifest)
        self._store.append(Record("manifest", "", data))
        cohort = [p.device_id for p in prekeys]
        kind, sequence = manifest.kind, manifest.sequence
        self._events.emit(
            "round.started", round_id=plan.round_id, round_kind=kind, sequence=sequence, cohort=cohort
        )
        return self._own(data)

    def _own(self, data: bytes) -> SignedManifest:
        """Check the round's own manifest as its devices do.

        Raises:
            RoundAborted: its deadline has passed, or a member's certificate counts no longer.
        """
        try:
            return verify_manifest(data, self._anchors, int(self._now_s()))
        except PeerProtocolError as error:
            raise RoundAborted(f"no device would go on with this round: {error.message}") from None

    def _prekeys(self, plan: Plan) -> tuple[Prekey, ...]:
        """Ask the devices that are there for a prekey each; at most n_max of them."""
        limit_at_s = self._now_s() + 0.5 * plan.config.deadline_s
        found: dict[str, Prekey] = {}
        while len(found) < plan.min_devices and self._now_s() < limit_at_s:
            there = self._fleet.discover(deadline_at_s=min(limit_at_s, self._now_s() + 10))
            requests = {d: plan.round_id.encode() for d in there if d not in found}

            def take(answer: Answer, payload: bytes) -> None:
                prekey = verify_prekey(payload, self._anchors, plan.round_id, int(self._now_s()))
                if prekey.device_id != answer.device_id:
                    raise PeerProtocolError(f"prekey is another device's: {answer.device_id}")
                if any(_overlap(prekey, other) for other in found.values()):
                    raise PeerProtocolError(f"prekey or certificate has another's key: {answer.device_id}")
                found[prekey.device_id] = prekey

            self._collect("prekey", requests, take, lambda: False, min(limit_at_s, self._now_s() + 20), 0.0)
        if len(found) < plan.min_devices:
            raise RoundAborted(f"too few devices to begin with {plan.min_devices}: {len(found)}")
        return tuple(found[d] for d in sorted(found))[: plan.config.n_max]

    def _contributions(self, session: Coordinator, signed: SignedManifest, plan: Plan) -> None:
        """Take each contribution as it arrives; once a quorum is in, wait as long again for the rest."""
        manifest = signed.manifest
        started_s, have = self._now_s(), set(session.contributors)
        end_at_s = manifest.deadline_at_s - 0.25 * plan.config.deadline_s
        requests = {m.device_id: signed.encoded for m in manifest.members if m.device_id not in have}

        def take(answer: Answer, payload: bytes) -> None:
            device_id = session.add(payload)
            have.add(device_id)
            self._events.emit(
                "contribution", round_id=manifest.round_id, device=device_id, bytes=len(payload)
            )

        def enough() -> bool:
            return len(have) >= max(manifest.committee.quorum, plan.config.n_min)

        self._events.emit("stage", round_id=manifest.round_id, stage="contribute")
        self._collect("contribute", requests, take, enough, end_at_s, None, started_s)
        session.close()
        self._store.append(Record("closed", "", b""))

    def _complaints(self, session: Coordinator, signed: SignedManifest, plan: Plan) -> None:
        request, add = session.share_request, session.add_complaints
        self._short(session, signed, plan, "shares", request, "complaint", add)
        self._store.append(Record("ballot", "", session.ballot()))

    def _votes(self, session: Coordinator, signed: SignedManifest, plan: Plan) -> None:
        ballot = session.ballot()
        have = self._short(session, signed, plan, "ballot", lambda _: ballot, "vote", session.add_vote)
        if not session.has_quorum:
            raise RoundAborted(f"too few votes for a quorum of {signed.manifest.committee.quorum}: {have}")
        self._store.append(Record("certificate", "", session.quorum_certificate()))

    def _openings(self, session: Coordinator, signed: SignedManifest, plan: Plan) -> None:
        certificate = session.quorum_certificate()
        have = self._short(
            session, signed, plan, "open", lambda _: certificate, "opening", session.add_opening
        )
        if not session.can_open:
            raise RoundAborted(f"too few members opened, {signed.manifest.committee.threshold} must: {have}")

    def _short(
        self,
        session: Coordinator,
        signed: SignedManifest,
        plan: Plan,
        stage: str,
        request: Callable[[str], bytes],
        record: str,
        add: Callable[[bytes], None],
    ) -> int:
        """Ask the contributors one of the short questions; after enough, the rest get `patience_s`.

        An answer that the session takes is stored as a `record`. Returns how many devices have answered, in
        an earlier life of the coordinator too.
        """
        have = {r.device_id for r in self._store.records() if r.stage == record}

        def take(answer: Answer, payload: bytes) -> None:
            add(payload)
            self._store.append(Record(record, answer.device_id, payload))
            have.add(answer.device_id)

        self._events.emit("stage", round_id=signed.manifest.round_id, stage=stage)
        requests = {d: signed.mh + request(d) for d in session.contributors if d not in have}
        needed, end_at_s = signed.manifest.committee.quorum, signed.manifest.deadline_at_s
        self._collect(stage, requests, take, lambda: len(have) >= needed, end_at_s, plan.patience_s)
        return len(have)

    def _collect(
        self,
        stage: str,
        requests: Mapping[str, bytes],
        take: Callable[[Answer, bytes], None],
        enough: Callable[[], bool],
        end_at_s: float,
        patience_s: float | None,
        started_s: float = 0.0,
    ) -> None:
        """Hand each good answer to `take`; a bad one is an event, and costs the others nothing."""
        enough_at_s: list[float] = []

        def stop() -> bool:
            now_s = self._now_s()
            if not enough_at_s and enough():
                enough_at_s.append(now_s)
            if not enough_at_s:
                return False
            wait_s = enough_at_s[0] - started_s if patience_s is None else patience_s
            return now_s > enough_at_s[0] + max(MIN_PATIENCE_S, wait_s)

        if not requests:
            return
        for answer in self._fleet.ask(stage, requests, deadline_at_s=end_at_s, stop=stop):
            try:
                take(answer, envelope.unwrap(answer.payload))
            except MimoFedError as error:
                self._events.emit(
                    "refusal", stage=stage, device=answer.device_id, code=error.code, message=error.message
                )

    def _replay(self, session: Coordinator, kept: tuple[Record, ...], round_id: str) -> None:
        """Bring a new session to where the stored one was; there may be nothing but the manifest yet."""
        contributions = self._store.contributions()
        if len(kept) < 2 and not contributions:
            return
        for data in contributions:
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
        self._events.emit(
            "round.adopted", round_id=round_id, stage=kept[-1].stage, contributions=len(session.contributors)
        )

    def _read(self, session: Coordinator, signed: SignedManifest) -> Outcome:
        """Decode the opened sums: means of the shells by the weights in the statistics."""
        result = session.result()
        layout = layout_of(signed.manifest, self._spec)
        if STATISTICS not in result.sums:
            raise RoundAborted(f"statistics stayed closed: {result.closed.get(STATISTICS, 'not opened')}")
        statistics = layout.statistics.decode(result.sums[STATISTICS].total_D)
        means = {}
        for shell in layout.shells:
            if shell.name in result.sums:
                weight = round(statistics[f"weight:{shell.name}"])
                if weight < 1:
                    raise RoundAborted(f"contributors to a shell declared no weight: {shell.name}")
                means[shell.name] = layout.vector(shell).decode(result.sums[shell.name].total_D) / weight
        votes = sum(r.stage == "vote" for r in self._store.records())
        return Outcome(
            manifest=signed.manifest, result=result, means=means, statistics=statistics, votes=votes
        )


def _overlap(one: Prekey, other: Prekey) -> bool:
    """Whether a manifest with both would be refused for naming a key or a certificate twice."""
    mine, theirs = one.certificate, other.certificate
    return (
        mine.public_key == theirs.public_key
        or mine.serial == theirs.serial
        or one.public_key == other.public_key
    )
