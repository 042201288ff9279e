"""One round of a simulation, from the draw of the cohort to the opened sums, with encryption or without.

With it: `mimo_fed.round.coordinate.Coordination` over the fleet in memory. Without: the same draw, the same
plan, the same updates, and `plain` in place of everything between a device's update and the opened sum.

Time stands still but for `Clock.tick`, and all entropy is named by the simulation's seed and the round's
number: a round that is run again gives the same bits, whatever was before it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from mimo_fed.adapter import AdapterSpec
from mimo_fed.config import RoundConfig
from mimo_fed.errors import RoundAborted
from mimo_fed.events import EventLog
from mimo_fed.round.ask import Asker
from mimo_fed.round.assemble import Assembly
from mimo_fed.round.cohort import Candidate
from mimo_fed.round.coordinate import Coordination
from mimo_fed.round.device import Policy
from mimo_fed.round.fleet import Answer
from mimo_fed.round.layout import SUITE_OF, Layout
from mimo_fed.round.outcome import Outcome, read_outcome
from mimo_fed.round.prepare import prepare
from mimo_fed.round.records import Plan
from mimo_fed.secagg import Certificate, Manifest
from mimo_fed.secagg.manifest import num_words
from mimo_fed.simulate.device import SimulatedDevice
from mimo_fed.simulate.fleet import MemoryFleet
from mimo_fed.simulate.plain import PlainSums
from mimo_fed.simulate.school import School, Teach, Turn, seed_of
from mimo_fed.simulate.settings import SimulateSettings
from mimo_fed.simulate.stores import MemoryStore, Stream

START_S: Final = 1_790_000_000.0
TICK_S: Final = 60.0
"""what looking for devices takes: a round that waits for devices that are not there comes to its end"""
_DRAWS: Final = 1 << 32


class Clock:
    """Seconds since the epoch, as the simulation counts them."""

    def __init__(self) -> None:
        self.at_s = START_S

    def __call__(self) -> float:
        """Return the time."""
        return self.at_s

    def tick(self) -> None:
        """Let a little time pass."""
        self.at_s += TICK_S


class SchoolFleet(MemoryFleet):
    """A fleet that tells the school whom a round asks, and in which only some devices are there."""

    def __init__(self, school: School, clock: Clock, policy: Policy, seed: str, helpers: int) -> None:
        names = sorted(school.devices)
        devices = {name: SimulatedDevice(name, school) for name in names}
        super().__init__(
            devices, policy=policy, now_s=clock, seed=seed, helpers=helpers, population=len(names)
        )
        self._school, self._clock = school, clock

    def discover(self, *, deadline_at_s: float) -> tuple[Certificate, ...]:
        """Look who is there; it takes a while."""
        self._clock.tick()
        return super().discover(deadline_at_s=deadline_at_s)

    def ask(
        self, stage: str, requests: Mapping[str, bytes], *, deadline_at_s: float, stop: Callable[[], bool]
    ) -> Iterator[Answer]:
        """Ask one party after the other."""
        if stage == "contribute":
            self._school.expect(name for name in requests if not self.lost(stage, name))
        yield from super().ask(stage, requests, deadline_at_s=deadline_at_s, stop=stop)


@dataclass(frozen=True, kw_only=True)
class Played:
    """A round that was opened.

    Attributes:
        outcome: what it gave.
        spec: shape of what was summed.
        floats_up: mean number of floats of an update, over its survivors.
        bytes_up: mean bytes that a survivor sent; without encryption, of the words it would have sent.
    """

    outcome: Outcome
    spec: AdapterSpec
    floats_up: float
    bytes_up: float


class Plays(Protocol):
    """What runs a round; `Rounds` in this process, or many processes behind Flower."""

    def play(
        self,
        turn: Turn,
        there: frozenset[str],
        known: Mapping[str, Candidate],
        teach: Teach | None = None,
    ) -> Played:
        """Run a round; see `Rounds.play`."""
        ...


class Rounds:
    """Runs rounds for a school.

    Args:
        school: the devices.
        settings: of the simulation.
    """

    def __init__(self, school: School, settings: SimulateSettings) -> None:
        self._school, self._settings, self._clock = school, settings, Clock()
        helpers = 3 if settings.round.secure_sum.committee == "helper" else 0
        policy = policy_for(settings.round)
        self._fleet = SchoolFleet(school, self._clock, policy, f"fleet/{settings.seed}", helpers)

    def play(
        self,
        turn: Turn,
        there: frozenset[str],
        known: Mapping[str, Candidate],
        teach: Teach | None = None,
    ) -> Played:
        """Run a round.

        Args:
            turn: what is trained.
            there: devices that may be asked.
            known: what earlier rounds say of devices, for a fair draw.
            teach: gives the updates of some devices; None: the school trains the adapter of the turn.

        Raises:
            RoundAborted: too few devices; nothing was opened.
        """
        plan = plan_of(turn, self._settings.seed, known)
        self._school.begin(turn, teach)
        self._clock.at_s = START_S + turn.sequence * 2 * turn.config.deadline_s
        self._fleet.begin_round(turn.sequence)
        self._fleet.lost = self._lost(turn.sequence, there)
        try:
            return (
                self._encrypted(turn, plan) if self._settings.encryption else self._plain(turn, plan, there)
            )
        finally:
            self._fleet.end_round()

    def _lost(self, sequence: int, there: frozenset[str]) -> Callable[[str, str], bool]:
        """Return who does not answer what: devices that are not there, and those that vanish on the way."""
        bound = self._settings.dropout * _DRAWS

        def lost(stage: str, name: str) -> bool:
            if name in self._fleet.helpers:
                return False
            if name not in there:
                return True
            drawn = seed_of(f"{self._settings.seed}/{sequence}/{name}/dropout") % _DRAWS
            return stage not in {"hello", "prekey"} and drawn < bound

        return lost

    def _entropy(self, turn: Turn) -> Stream:
        return Stream(f"cohort/{self._settings.seed}/{turn.sequence}")

    def _encrypted(self, turn: Turn, plan: Plan) -> Played:
        store = MemoryStore()
        outcome = Coordination(
            self._fleet,
            store,
            key=self._fleet.key,
            anchors=self._fleet.anchors,
            spec=turn.spec,
            entropy=self._entropy(turn),
            now_s=self._clock,
            events=EventLog(None),
        ).run(plan)
        sent = [len(data) for data in store.spool.files.values()]
        return self._played(turn, outcome, sum(sent) / max(1, len(sent)))

    def _plain(self, turn: Turn, plan: Plan, there: frozenset[str]) -> Played:
        if len(there) < plan.min_devices:
            raise RoundAborted(f"too few devices to begin with {plan.min_devices}: {len(there)}")
        cohort = self._draw(turn, plan, there)
        layout = Layout(spec=turn.spec, config=turn.config, round_id=plan.round_id, n_max=len(cohort))
        manifest = manifest_of(turn.config, plan, layout)
        sums = PlainSums(manifest, cohort, layout)
        asked = [name for name in cohort if not self._fleet.lost("contribute", name)]
        self._school.expect(asked)
        for name in asked:
            update = self._school.update(name)
            sums.add(name, prepare(update, layout, self._school.rank(name)))
        outcome = read_outcome(manifest, cohort, turn.spec, sums.result(), 0)
        words = sum(
            num_words(spec) * outcome.result.sums[spec.name].num_devices * manifest.word_bits / 8
            for spec in manifest.sums
            if spec.name in outcome.result.sums
        )
        return self._played(turn, outcome, words / max(1, len(outcome.result.survivors)))

    def _draw(self, turn: Turn, plan: Plan, there: frozenset[str]) -> tuple[str, ...]:
        """Draw the cohort as the coordinator does; nobody opens anything, so no committee bounds its size."""
        events, config = EventLog(None), plan.config
        secure = replace(config.secure_sum, committee="helper")
        assembly = Assembly(
            fleet=self._fleet,
            asker=Asker(fleet=self._fleet, now_s=self._clock, events=events),
            plan=replace(plan, config=replace(config, secure_sum=secure)),
            anchors=self._fleet.anchors,
            spec=turn.spec,
            entropy=self._entropy(turn),
            now_s=self._clock,
        )
        return assembly.draw_cohort(there)

    def _played(self, turn: Turn, outcome: Outcome, bytes_up: float) -> Played:
        ranks = [self._school.rank(name) for name in outcome.result.survivors]
        return played_of(outcome, turn.spec, ranks, bytes_up)


def policy_for(config: RoundConfig) -> Policy:
    """Return the policy of an owner who agrees to rounds like this one."""
    return Policy(
        n_min_floor=config.n_min,
        clip_norm_max=math.inf,
        word_bits_min=config.privacy.word_bits,
        tokens_max=sys.maxsize,
        seq_len_max=sys.maxsize,
        personal_rank_max=sys.maxsize,
        suites=(config.secure_sum.suite,),
    )


def plan_of(turn: Turn, seed: int, known: Mapping[str, Candidate]) -> Plan:
    """Return the plan of a round."""
    return Plan(
        round_id=f"train-{turn.sequence}-{seed}",
        sequence=turn.sequence,
        config=turn.config,
        base_digest=turn.digest,
        min_devices=turn.config.n_min,
        known=known,
    )


def played_of(outcome: Outcome, spec: AdapterSpec, ranks: Sequence[int], bytes_up: float) -> Played:
    """Return what a round gave, with the mean upload of its survivors; `ranks` are theirs."""
    phase = outcome.config.train.phase
    counts = [sum(spec.dim(shell, phase) for shell in spec.shells_of(rank)) for rank in ranks]
    return Played(outcome=outcome, spec=spec, floats_up=sum(counts) / max(1, len(counts)), bytes_up=bytes_up)


def manifest_of(config: RoundConfig, plan: Plan, layout: Layout) -> Manifest:
    """Return the manifest of a round that nobody signs: no members, nothing sealed."""
    return Manifest(
        kind=config.kind,
        suite=SUITE_OF[config.secure_sum.suite],
        round_id=plan.round_id,
        sequence=plan.sequence,
        base_digest=plan.base_digest,
        sums=layout.sum_specs,
        n_max=layout.n_max,
        word_bits=layout.word_bits,
        mode=config.secure_sum.committee,
        members=(),
        deadline_at_s=int(START_S),
        application=config.to_json(),
    )
