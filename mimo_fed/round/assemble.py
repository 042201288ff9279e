"""The beginning of a round: who is asked, who opens, and the manifest that says so.

all       the cohort gives prekeys; whoever gave one is contributor and member
sampled   winners of the lottery give prekeys, 64 of them open; the cohort contributes
helper    every pinned organisation gives a prekey; the cohort contributes
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mimo_fed.adapter import AdapterSpec
from mimo_fed.errors import PeerProtocolError, RoundAborted
from mimo_fed.round.ask import Asker
from mimo_fed.round.cohort import Candidate, choose_cohort
from mimo_fed.round.fleet import Answer, Fleet
from mimo_fed.round.layout import SUITE_OF, Layout
from mimo_fed.round.membership import prekey_request
from mimo_fed.round.records import Plan
from mimo_fed.secagg import (
    MAX_MEMBERS,
    SAMPLED_SIZE,
    Anchors,
    Certificate,
    Entropy,
    Manifest,
    Prekey,
    beacon,
    lottery_bound,
    lottery_number,
    verify_prekey,
)

DISCOVER_S: Final = 10.0
PREKEY_S: Final = 20.0


@dataclass(kw_only=True)
class Assembly:
    """Gathers one round's devices.

    Attributes:
        fleet: the devices.
        asker: asks them.
        plan: what the round is about.
        anchors: the keys to trust.
        spec: shape of the global adapter.
        entropy: draws the cohort.
        now_s: seconds since the epoch.
        prekeys: what was gathered so far, by device id.
    """

    fleet: Fleet
    asker: Asker
    plan: Plan
    anchors: Anchors
    spec: AdapterSpec
    entropy: Entropy
    now_s: Callable[[], float]
    prekeys: dict[str, Prekey] = field(default_factory=dict)

    def gather(self) -> tuple[Manifest, tuple[str, ...]]:
        """Gather a committee and a cohort: the manifest, and the ids of those who are asked to contribute.

        Raises:
            RoundAborted: at half of the round's time too few devices, winners or helpers are there.
        """
        plan, config = self.plan, self.plan.config
        deadline_at_s = int(self.now_s() + config.deadline_s)
        limit_at_s = self.now_s() + 0.5 * config.deadline_s
        mode = config.secure_sum.committee
        members, cohort = {"all": self._all, "sampled": self._sampled, "helper": self._helper}[mode](
            limit_at_s
        )
        n_max = len(members) if mode == "all" else config.n_max
        layout = Layout(spec=self.spec, config=config, round_id=plan.round_id, n_max=n_max)
        manifest = Manifest(
            kind=config.kind,
            suite=SUITE_OF[config.secure_sum.suite],
            round_id=plan.round_id,
            sequence=plan.sequence,
            base_digest=plan.base_digest,
            sums=layout.sum_specs,
            n_max=n_max,
            word_bits=layout.word_bits,
            mode=mode,
            lottery=lottery_bound(self.anchors.population) if mode == "sampled" else 0,
            members=members,
            cohort=cohort if config.secure_sum.num_groups and mode != "all" else (),
            deadline_at_s=deadline_at_s,
            application=config.to_json(),
        )
        return manifest, cohort

    def draw_cohort(self, there: Iterable[str]) -> tuple[str, ...]:
        """Choose who is asked to contribute, fairly among those that are there."""
        config, known = self.plan.config, self.plan.known
        eligible = [known.get(d, Candidate(device_id=d)) for d in there]
        most = min(config.n_max, MAX_MEMBERS) if config.secure_sum.committee == "all" else config.n_max
        over = config.over_selection if config.open_at else 1.0
        chosen = choose_cohort(
            eligible,
            min(config.open_at or most, most),
            sequence=self.plan.sequence,
            draw=self.entropy,
            over_selection=over,
        )
        return chosen[:most]

    def devices_there(self, limit_at_s: float) -> dict[str, Certificate]:
        """Look who is there, helper organisations left out."""
        found = self._there(limit_at_s)
        return {d: c for d, c in found.items() if c.public_key not in self.anchors.helpers}

    def _all(self, limit_at_s: float) -> tuple[tuple[Prekey, ...], tuple[str, ...]]:
        """Ask a fair draw of the devices; when too few answer, draw among the others too."""
        cohort: tuple[str, ...] = ()
        while len(self.prekeys) < self.plan.min_devices and self.now_s() < limit_at_s:
            there = self.devices_there(limit_at_s)
            cohort = self.draw_cohort(there)
            if len(cohort) <= len(self.prekeys) or not set(cohort) - set(self.prekeys):
                cohort = tuple(there)
            self._ask(cohort, limit_at_s)
        self._require(len(self.prekeys), self.plan.min_devices, "devices")
        most = min(self.plan.config.n_max, MAX_MEMBERS)
        cohort = tuple(sorted(self.prekeys))[:most]
        return tuple(self.prekeys[d] for d in cohort), cohort

    def _sampled(self, limit_at_s: float) -> tuple[tuple[Prekey, ...], tuple[str, ...]]:
        """Ask winners of the lottery, least number first, until 64 have answered."""
        drawn, bound = beacon(self.plan.base_digest), lottery_bound(self.anchors.population)
        there: Mapping[str, Certificate] = {}
        while self.now_s() < limit_at_s:
            there = self.devices_there(limit_at_s)
            numbers = {d: lottery_number(drawn, d) for d in there}
            winners = sorted((d for d in there if numbers[d] < bound), key=numbers.__getitem__)
            missing = SAMPLED_SIZE - len(self.prekeys)
            if missing <= 0 and len(there) >= self.plan.min_devices:
                break
            self._ask([d for d in winners if d not in self.prekeys][: max(0, missing)], limit_at_s)
        self._require(len(self.prekeys), SAMPLED_SIZE, "winners of the lottery")
        self._require(len(there), self.plan.min_devices, "devices")
        return tuple(self.prekeys[d] for d in sorted(self.prekeys)), self.draw_cohort(there)

    def _helper(self, limit_at_s: float) -> tuple[tuple[Prekey, ...], tuple[str, ...]]:
        """Ask every pinned organisation."""
        pinned, there = self.anchors.helpers, dict[str, Certificate]()
        while self.now_s() < limit_at_s:
            found = self._there(limit_at_s)
            helpers = [d for d, c in found.items() if c.public_key in pinned]
            there = {d: c for d, c in found.items() if c.public_key not in pinned}
            self._ask([d for d in helpers if d not in self.prekeys], limit_at_s)
            if len(self.prekeys) == len(pinned) and len(there) >= self.plan.min_devices:
                break
        self._require(len(self.prekeys), len(pinned), "helper organisations")
        self._require(len(there), self.plan.min_devices, "devices")
        return tuple(self.prekeys[d] for d in sorted(self.prekeys)), self.draw_cohort(there)

    def _there(self, limit_at_s: float) -> dict[str, Certificate]:
        deadline_at_s = min(limit_at_s, self.now_s() + DISCOVER_S)
        return {c.device_id: c for c in self.fleet.discover(deadline_at_s=deadline_at_s)}

    def _ask(self, devices: Iterable[str], limit_at_s: float) -> None:
        suite = SUITE_OF[self.plan.config.secure_sum.suite]
        request = prekey_request(suite, self.plan.round_id)

        def take(answer: Answer, payload: bytes) -> None:
            prekey = verify_prekey(payload, self.anchors, suite, self.plan.round_id, int(self.now_s()))
            if prekey.device_id != answer.device_id:
                raise PeerProtocolError(f"prekey is another device's: {answer.device_id}")
            if any(_overlap(prekey, other) for other in self.prekeys.values()):
                raise PeerProtocolError(f"prekey or certificate has another's key: {answer.device_id}")
            self.prekeys[prekey.device_id] = prekey

        requests = {d: request for d in devices if d not in self.prekeys}
        end_at_s = min(limit_at_s, self.now_s() + PREKEY_S)
        self.asker.ask("prekey", requests, take, end_at_s=end_at_s)

    def _require(self, have: int, needed: int, what: str) -> None:
        if have < needed or not needed:
            raise RoundAborted(f"too few {what} to begin with {needed}: {have}")


def _overlap(one: Prekey, other: Prekey) -> bool:
    """Whether a manifest with both would be refused for naming a key or a certificate twice."""
    mine, theirs = one.certificate, other.certificate
    return (
        mine.public_key == theirs.public_key
        or mine.serial == theirs.serial
        or one.public_key == other.public_key
    )
