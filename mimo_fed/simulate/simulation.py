"""The simulation: round after round on the drivers of production, one stage a line; every round is kept.

    global round -> a round for each cohort -> (choices) -> (personal adapters) -> state in the folder

After the last round every device takes its personal steps on the final release, and picks its lambda.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.aggregate import ServerState, advance, next_clip_norm
from mimo_fed.config import AdapterConfig
from mimo_fed.data import DemoDevice
from mimo_fed.errors import ConfigError, RoundAborted
from mimo_fed.model import Base
from mimo_fed.model.stack import Personal, StackedModel
from mimo_fed.round.cohort import note_asked, note_contributed
from mimo_fed.simulate.personal import choose_cohorts, chunks, pick_scales
from mimo_fed.simulate.rounds import Played, Plays, Rounds
from mimo_fed.simulate.school import School, Stack, Turn
from mimo_fed.simulate.settings import SimulateSettings
from mimo_fed.simulate.sketched import play_sketch
from mimo_fed.simulate.state import Entry, Learner, State, StateFolder


class Progress(Protocol):
    """Who is told how far a simulation is."""

    def began(self, cohort: str, index: int, rounds: int, devices: int) -> None:
        """Hear that a round begins among so many devices."""
        ...

    def ended(self, entry: Entry, rounds: int) -> None:
        """Hear what a round gave."""
        ...


class Quiet:
    """Tells nobody."""

    def began(self, cohort: str, index: int, rounds: int, devices: int) -> None:
        """Do nothing."""

    def ended(self, entry: Entry, rounds: int) -> None:
        """Do nothing."""


class Simulation:
    """Many devices on one base.

    Args:
        base: the frozen base.
        devices: with their text; names are distinct.
        settings: what to do.
        folder: keeps the state after every round; a run that was cut short goes on from there. None: nowhere.
        progress: told of every round.
        fresh: start over, whatever is in the folder.
        stack: trains and measures; None: `mimo_fed.model.stack.StackedModel` on the base.
        rounds: runs a round; None: in this process.

    Raises:
        ConfigError: no devices, two of one name, one without text to train on, or the folder holds a run
            with other settings.
    """

    def __init__(
        self,
        base: Base,
        devices: Sequence[DemoDevice],
        settings: SimulateSettings,
        *,
        folder: Path | None = None,
        progress: Progress | None = None,
        fresh: bool = False,
        stack: Stack | None = None,
        rounds: Plays | None = None,
    ) -> None:
        self.base, self.settings = base, settings
        self.devices = {device.name: device for device in sorted(devices, key=lambda d: d.name)}
        if len(self.devices) != len(devices) or not devices:
            raise ConfigError(f"a simulation needs devices of distinct names: {len(devices)} given")
        if mute := [name for name, device in self.devices.items() if not device.corpus.train]:
            raise ConfigError(f"{len(mute)} devices have no text to train on, the first: {mute[0]}")
        self.specs = {"": spec_of(base, settings.round.adapter)}
        self.specs |= {name: spec_of(base, settings.cohort_adapter) for name in settings.cohorts}
        self.stack: Stack = stack or StackedModel(base, self.specs[""])
        self._school = School(self.stack, self.devices, settings)
        self._rounds: Plays = rounds or Rounds(self._school, settings)
        self._progress: Progress = progress or Quiet()
        self._folder = StateFolder(folder, self._digest()) if folder else None
        if self._folder and fresh:
            self._folder.clear()
        self._state = (self._folder.load(self.specs) if self._folder else None) or self._start()
        self._school.choices, self._school.personals = self._state.choices, self._state.personals

    @property
    def history(self) -> list[Entry]:
        """One entry a round, cohorts' rounds too."""
        return self._state.history

    @property
    def adapter(self) -> GlobalAdapter:
        """The global adapter as it is now."""
        return self._state.learners[""].adapter

    @property
    def cohorts(self) -> dict[str, GlobalAdapter]:
        """The adapters of the cohorts as they are now."""
        return {name: learner.adapter for name, learner in self._state.learners.items() if name}

    @property
    def choices(self) -> dict[str, str]:
        """The cohort of every device; empty: none."""
        return self._state.choices

    @property
    def personals(self) -> dict[str, Personal]:
        """Personal adapters of the devices that have one."""
        return self._state.personals

    def run(self) -> None:
        """Run what is left."""
        while self._state.num_done < self.settings.rounds:
            self._step()
            self._save()
        if not self._state.finished:
            self._refresh()
            self._state.finished = True
            self._save()

    def _start(self) -> State:
        settings = self.settings
        learners = {
            name: Learner(GlobalAdapter.zero(spec), ServerState.empty(settings.phase(name, 0)))
            for name, spec in self.specs.items()
        }
        return State(learners=learners, choices=dict(self._school.choices))

    def _step(self) -> None:
        """Run one round of the global adapter and what follows it."""
        index, settings = self._state.num_done, self.settings
        for slot, name in enumerate(self._state.learners):
            self._round(name, index, sequence=2 * (1 + index * len(self._state.learners) + slot))
        done = index + 1
        if settings.cohorts and settings.choose_every and done % settings.choose_every == 0:
            devices = list(self.devices.values())
            self._state.choices |= choose_cohorts(
                self.stack, devices, self.adapter, self.cohorts, self._state.choices
            )
        if settings.refresh_every and done % settings.refresh_every == 0 and done < settings.rounds:
            self._refresh()
        self._state.num_done = done

    def _round(self, name: str, index: int, sequence: int) -> None:
        """Run one round of one adapter; too few devices leave it where it is."""
        learner, started = self._state.learners[name], time.monotonic()
        config = self.settings.config_of(name, learner.num_rounds, len(self.devices), learner.clip_norm)
        turn = Turn(
            sequence=sequence,
            config=config,
            adapter=learner.adapter,
            shared=self.adapter,
            cohorts=self.cohorts,
        )
        there = frozenset(d for d, chosen in self._state.choices.items() if name in ("", chosen))
        entry: Entry = {"round": index + 1, "cohort": name, "phase": config.train.phase}
        self._progress.began(name, index, self.settings.rounds, len(there))
        try:
            if self.settings.method == "sketch" and not name:
                played, learner.adapter = play_sketch(self._rounds, self._school, turn, there, learner.known)
            else:
                played = self._rounds.play(turn, there, learner.known)
                self._advance(learner, turn, played)
            learner.num_rounds += 1
            self._note(learner, turn, played)
            entry |= entry_of(played)
        except RoundAborted as aborted:
            entry |= {"aborted": aborted.message, "asked": len(there), "survivors": 0}
        entry["seconds"] = round(time.monotonic() - started, 2)
        self._state.history.append(entry)
        self._progress.ended(entry, self.settings.rounds)

    def _advance(self, learner: Learner, turn: Turn, played: Played) -> None:
        """Let the server take its step."""
        advanced = advance(
            learner.adapter,
            turn.config.train.phase,
            played.outcome.means,
            state=learner.server,
            config=turn.config.server,
            next_phase=self.settings.phase(turn.config.cohort, learner.num_rounds + 1),
        )
        learner.adapter, learner.server = advanced.adapter, advanced.state

    def _note(self, learner: Learner, turn: Turn, played: Played) -> None:
        """Remember who was asked and who contributed, and move the clip norm if it is to follow."""
        sequence, clip_norm = played.outcome.manifest.sequence, turn.config.privacy.clip_norm
        if target := self.settings.clip_target:
            learner.clip_norm = next_clip_norm(clip_norm, 1 - played.outcome.clipped_share, target=target)
        learner.known |= note_asked(learner.known, played.outcome.cohort, sequence)
        learner.known |= note_contributed(learner.known, played.outcome.result.survivors, sequence)

    def _refresh(self) -> None:
        """Let every device take personal steps on the newest release and pick its lambda."""
        settings, devices = self.settings, list(self.devices.values())
        config = settings.config_of("", 0, len(devices))
        turn = Turn(
            sequence=self._last_sequence,
            config=config,
            adapter=self.adapter,
            shared=self.adapter,
            cohorts=self.cohorts,
        )
        self._school.begin(turn)
        for some in chunks(devices) if settings.refresh_steps else ():
            names = [device.name for device in some]
            self._school.teach_personal(names, settings.refresh_steps, config.train, salt="refresh")
        self._state.personals |= pick_scales(
            self.stack, devices, self.adapter, self.cohorts, self._state.choices, self._state.personals
        )

    @property
    def _last_sequence(self) -> int:
        return 2 * (1 + self._state.num_done * len(self._state.learners)) - 1

    def _save(self) -> None:
        if self._folder:
            self._folder.save(self._state)

    def _digest(self) -> str:
        """Name everything that the run depends on."""
        texts = {name: digest_of(device) for name, device in self.devices.items()}
        raw = {"settings": self.settings.digest(), "base": self.base.fingerprint, "devices": texts}
        return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()


def spec_of(base: Base, config: AdapterConfig) -> AdapterSpec:
    """Return the shape of an adapter on a base."""
    return AdapterSpec(base_fingerprint=base.fingerprint, modules=base.modules(config.targets), config=config)


def digest_of(device: DemoDevice) -> str:
    """SHA-256 of a device: its text by split, its class, rank and language."""
    corpus = device.corpus
    raw = [device.device_class, device.rank, device.language, corpus.train, corpus.validation, corpus.test]
    return hashlib.sha256(json.dumps(raw).encode()).hexdigest()


def entry_of(played: Played) -> Entry:
    """Say in one entry of the history what an opened round gave."""
    outcome = played.outcome
    before, after = outcome.losses
    return {
        "asked": len(outcome.cohort),
        "survivors": len(outcome.result.survivors),
        "loss_before": round(before, 6),
        "loss_after": round(after, 6),
        "clipped": round(outcome.clipped_share, 4),
        "floats_up": round(played.floats_up, 1),
        "bytes_up": round(played.bytes_up, 1),
        "closed": sorted(outcome.closed),
    }
