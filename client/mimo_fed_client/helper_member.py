"""A helper organisation's part in a round: a device's membership, a stricter policy, and a log for auditors.

It answers the stages of `mimo_fed.round.membership` and no others, takes part in rounds of mode helper alone,
and gives no prekey while the fleet's signed anchors do not pin its key.
"""

from __future__ import annotations

from collections.abc import Callable

from mimo_fed.errors import PeerProtocolError
from mimo_fed.events import EventLog
from mimo_fed.round.device import Journal
from mimo_fed.round.membership import Membership, read_prekey_request
from mimo_fed.secagg import Anchors, Certificate, Entropy, Manifest, SignedManifest, SigningKey
from mimo_fed.secagg.messages import Ballot, indices_of
from mimo_fed_client.helper_log import RoundLog
from mimo_fed_client.helper_settings import HelperPolicy

MH_BYTES = 32


class HelperMember:
    """Answers the coordinator for one organisation.

    Args:
        journal: durable; holds prekeys, answers and what has been agreed to.
        log: tells auditors what was opened.
        key: the organisation's signing key.
        certificate: the enrolment authority's word for that key.
        anchors: returns the keys to trust now, from verified release metadata.
        policy: what the organisation opens.
        entropy: returns that many random bytes.
        now_s: returns seconds since the epoch.
        events: for the people watching.
    """

    def __init__(
        self,
        journal: Journal,
        log: RoundLog,
        *,
        key: SigningKey,
        certificate: Certificate,
        anchors: Callable[[], Anchors],
        policy: HelperPolicy,
        entropy: Entropy,
        now_s: Callable[[], float],
        events: EventLog,
    ) -> None:
        self._journal, self._log, self._policy = journal, log, policy
        self._key, self._anchors, self._now_s = key, anchors, now_s
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
        self._plain = dict(self._membership.stages)
        """how a member answers that is no helper"""
        self._membership.stages |= {
            "prekey": self._prekey,
            "join": self._join,
            "ballot": self._ballot,
            "open": self._open,
        }

    def handle(self, stage: str, payload: bytes) -> bytes:
        """Answer one request; an error of ours becomes an enveloped refusal."""
        return self._membership.handle(stage, payload)

    def _prekey(self, request: bytes) -> bytes:
        suite, _ = read_prekey_request(request)
        if suite not in self._policy.suite_names:
            raise PeerProtocolError(f"this helper does not take part in the suite: {suite!r}")
        if self._key.public_key not in self._anchors().helpers:
            raise PeerProtocolError(
                f"this helper is not pinned in the fleet's signed anchors: {self._key.public_key.hex()}",
                hint="`mimo-fed registry pin-helper` pins it; it looks at the registry again before long",
            )
        return self._plain["prekey"](request)

    def _join(self, data: bytes) -> bytes:
        signed = self._membership.verify(data)
        manifest, mh = signed.manifest, signed.mh.hex()
        if not self._log.has("joined", mh):
            self._check_times(manifest, mh)
        answer = self._plain["join"](data)
        self._log.add(
            "joined",
            mh,
            at_s=self._now_s(),
            round_id=manifest.round_id,
            round_kind=manifest.kind,
            sequence=manifest.sequence,
            base_digest=manifest.base_digest,
            suite=manifest.suite,
            deadline_at_s=manifest.deadline_at_s,
            n_min={spec.name: spec.n_min for spec in manifest.sums},
        )
        return answer

    def _check_times(self, manifest: Manifest, mh: str) -> None:
        """Refuse a round in a hurry, one that lasts too long, and one too soon after the last."""
        policy, now_s = self._policy, self._now_s()
        left_s = manifest.deadline_at_s - now_s
        if not policy.time_left_min_s <= left_s <= policy.time_left_max_s:
            raise PeerProtocolError(
                f"round's time is not within what this helper allows: {left_s:.0f} s left"
            )
        last_s = self._log.last_vote_at_s(manifest.kind, but=mh)
        if last_s is not None and now_s - last_s < policy.interval_s:
            raise PeerProtocolError(
                f"this helper has voted in a round of kind {manifest.kind} {now_s - last_s:.0f} s ago, "
                f"and does so every {policy.interval_s:.0f} s at most: {manifest.round_id}"
            )

    def _ballot(self, request: bytes) -> bytes:
        signed = self._known(request)
        ballot = Ballot.decode(request[MH_BYTES:], signed)
        sums = {signed.manifest.sums[i].name: len(ballot.entries(i)) for i in indices_of(ballot.opened)}
        answer = self._plain["ballot"](request)
        self._log.add(
            "voted", signed.mh.hex(), at_s=self._now_s(), round_kind=signed.manifest.kind, sums=sums
        )
        return answer

    def _open(self, request: bytes) -> bytes:
        signed = self._known(request)
        answer = self._plain["open"](request)
        self._log.add("opened", signed.mh.hex(), at_s=self._now_s())
        return answer

    def _known(self, request: bytes) -> SignedManifest:
        """Return the manifest, joined before, that a request names.

        Raises:
            PeerProtocolError: there is none, or it does not hold any more.
        """
        mh = request[:MH_BYTES].hex()
        if not self._log.has("joined", mh) or (data := self._journal.get(f"round/{mh}/manifest")) is None:
            raise PeerProtocolError(f"this helper takes no part in that round: {mh[:16]}")
        return self._membership.verify(data)
