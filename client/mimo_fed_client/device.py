"""The device that the round's driver talks to: its text, its model, its way to releases.

Everything that computes runs in one thread at a time, under one of the machine's compute slots, and leaves
the adapter that serves mounted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mimo_fed.adapter import AdapterSpec
from mimo_fed.config import RoundConfig, TrainConfig
from mimo_fed.errors import AdapterError, MimoFedError, PeerProtocolError
from mimo_fed.events import EventLog
from mimo_fed.round.device import Evaluation, TrainedUpdate
from mimo_fed_client.compute import ComputeSlots
from mimo_fed_client.durable import write_durably
from mimo_fed_client.install import Installer
from mimo_fed_client.mounted import Mounted
from mimo_fed_client.releases import Releases
from mimo_fed_client.states import TRAINING, Machine
from mimo_fed_client.usage import Usage

Stop = Callable[[], bool]
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Notice:
    """What the coordinator says when it is through with a release: its number, and whether that was all."""

    release: int
    last: bool

    @classmethod
    def from_json(cls, data: bytes) -> Notice:
        """Read a notice; more keys than these are passed over.

        Raises:
            PeerProtocolError: it is not one.
        """
        try:
            raw = json.loads(data)
            release, last = raw["release"], raw.get("last", False)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise PeerProtocolError(f"notice of a release is not one: {data[:60]!r}") from None
        if type(release) is not int or type(last) is not bool:
            raise PeerProtocolError(f"notice of a release is not one: {data[:60]!r}")
        return cls(release, last)


class LocalDevice:
    """Trains, judges and installs on this machine.

    Args:
        device_id: its name; seeds differ by it.
        rank: of its class.
        mounted: the model and the text.
        spec: shape of the global adapter.
        installer: keeps the model on the newest good release.
        releases: the way to the registry.
        compute: the machine's compute slots.
        personal_file: where the personal adapter is kept; it never leaves the device.
        personal_steps: extra steps once the last release is in.
        report: called when the last release is in and the personal adapter has settled.
        usage: counts seconds.
        events: for the people watching.
        stop: polled in training.
    """

    def __init__(
        self,
        *,
        device_id: str,
        rank: int,
        mounted: Mounted,
        spec: AdapterSpec,
        installer: Installer,
        releases: Releases,
        compute: ComputeSlots,
        personal_file: Path,
        personal_steps: int,
        report: Callable[[], None],
        usage: Usage,
        events: EventLog,
        stop: Stop = lambda: False,
    ) -> None:
        spec.shells_of(rank)
        self._device_id, self._rank, self._spec = device_id, rank, spec
        self._mounted, self._installer, self._releases = mounted, installer, releases
        self._compute, self._personal_file = compute, personal_file
        self._personal_steps, self._report = personal_steps, report
        self._usage, self._events, self._stop = usage, events, stop
        self._train_config = TrainConfig()
        self.machine = Machine(TRAINING, lambda state: events.emit("state", state=state.lower()))
        self._load_personal()

    @property
    def rank(self) -> int:
        """Rank of this device's class."""
        return self._rank

    @property
    def spec(self) -> AdapterSpec:
        """Shape of the global adapter on this device's base."""
        return self._spec

    @property
    def cohort(self) -> str:
        """None yet: this agent trains the global adapter alone, and declines rounds of cohorts."""
        return ""

    def fetch_base(self, digest: str) -> bytes:
        """Return the newest release of channel dev; it must have this digest.

        Raises:
            SpecMismatch: the channel is on another release.
            TransportError: the registry cannot be reached.
            VerificationError: what it says is forged.
        """
        return self._releases.base(digest)

    def train(self, base: bytes, config: RoundConfig, seed: str) -> TrainedUpdate:
        """Train the personal adapter, then the global one, both from `base`; what serves is mounted again.

        Raises:
            SpecMismatch: `base` does not fit this device, or the personal adapter came to no number.
            DataError: there is no text.
            TrainingStopped: the agent is being stopped; nothing has changed.
        """
        self.machine.move("train")
        try:
            update = self._train(base, config, seed)
        except BaseException:
            self.machine.move("failed")
            raise
        self.machine.move("trained")
        return update

    def _train(self, base: bytes, config: RoundConfig, seed: str) -> TrainedUpdate:
        mounted, corpus = self._mounted, self._mounted.corpus
        self._train_config = config.train
        drawn = _seed(self._device_id, seed)
        with self._compute.hold(self._stop) as waited_s:
            self._usage.add("train", -waited_s)  # the round's driver counts it with the training
            try:
                mounted.mount(base)
                self._train_personal(config.train, drawn, config.train.num_personal_steps)
                found = mounted.model.train_global(
                    corpus.train,
                    rank=self._rank,
                    config=config.train,
                    seed=drawn,
                    held_out=corpus.held_out,
                    progress=self._progress("train"),
                    stop=self._stop,
                )
            finally:
                mounted.mount(self._installer.serving)
        mounted.remember(base, found.loss_before)
        return TrainedUpdate(
            delta=found.delta,
            weight=corpus.weight(config.privacy.weight_max),
            num_steps=found.num_steps,
            loss_before=found.loss_before,
            loss_after=found.loss_after,
        )

    def _train_personal(self, config: TrainConfig, seed: int, num_steps: int) -> None:
        model = self._mounted.model
        if not num_steps or model.limits.forward_only:
            return
        found = model.train_personal(
            self._mounted.corpus.train,
            config=config,
            seed=seed,
            num_steps=num_steps,
            progress=self._progress("personal"),
            stop=self._stop,
        )
        write_durably(self._personal_file, model.personal_bytes())
        self._events.emit(
            "personal.trained",
            steps=num_steps,
            loss_before=round(found.loss_before, 4),
            loss_after=round(found.loss_after, 4),
        )

    def evaluate(self, candidate: bytes, config: RoundConfig) -> Evaluation:
        """Compare a candidate with what serves, on this device's held-out text.

        Raises:
            SpecMismatch: the candidate does not fit.
            InstallError: it holds values that are not finite.
        """
        self.machine.move("judge")
        mounted = self._mounted
        try:
            with self._compute.hold(self._stop) as waited_s:
                self._usage.add("train", -waited_s)
                try:
                    current, found = mounted.loss(self._installer.serving), mounted.loss(candidate)
                finally:
                    mounted.mount(self._installer.serving)
        except BaseException:
            self.machine.move("failed")
            raise
        self.machine.move("trained")
        weight = mounted.corpus.weight(config.privacy.weight_max)
        return Evaluation(weight=weight, loss_current=current, loss_candidate=found)

    def installed(self, request: bytes) -> bytes:
        """Install what channel stable points to; after the last release, settle and report in any case.

        Returns:
            JSON: the release asked about, what became of it here, and seconds by install state.

        Raises:
            PeerProtocolError: the request is not a notice.
            TransportError: the registry cannot be reached.
            InstallError: the disk is full or read-only.
        """
        notice = Notice.from_json(request)
        failed: MimoFedError | None = None
        seconds: dict[str, float] = {}
        try:
            seconds = self._installer.check().seconds
        except MimoFedError as error:
            failed = error
        if notice.last:
            self.settle()
        if failed:
            raise failed
        state = "unchanged"
        if self._installer.is_bad(notice.release):
            state = "rolled_back"
        elif self._installer.release == notice.release:
            state = "committed"
        answer = {"release": notice.release, "state": state, "seconds": seconds}
        return json.dumps(answer).encode()

    def settle(self) -> None:
        """Train the personal adapter on top of what serves, choose its share again, and report."""
        with self._compute.hold(self._stop):
            with self._usage.timed("train"):
                seed = _seed(self._device_id, f"settle-{self._installer.release}")
                self._train_personal(self._train_config, seed, self._personal_steps)
                share = self._mounted.model.pick_lambda(self._mounted.corpus.held_out)
            write_durably(self._personal_file, self._mounted.model.personal_bytes())
            self._events.emit("personal.share", share=share)
            self._report()

    def _load_personal(self) -> None:
        """Take the kept personal adapter; one that does not fit any more is set aside, not lost."""
        if not self._personal_file.exists():
            return
        try:
            self._mounted.model.load_personal(self._personal_file.read_bytes())
        except AdapterError as error:
            aside = self._personal_file.with_suffix(".unfit")
            self._personal_file.replace(aside)
            self._events.emit("personal.unfit", message=error.message)

    def _progress(self, what: str) -> Progress:
        def tell(step: int, num_steps: int, loss: float) -> None:
            self._events.emit("progress", what=what, step=step, num_steps=num_steps, loss=round(loss, 4))

        return tell


def _seed(device_id: str, what: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{device_id}/{what}".encode()).digest()[:4], "big")
