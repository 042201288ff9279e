"""From a signed pointer to an adapter that serves, one state after the other (docs/states.md).

The old release serves until the pointer has moved; whatever fails before leaves it there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.errors import AdapterError, InstallError, MimoFedError, SpecMismatch
from mimo_fed.events import EventLog
from mimo_fed.release import ReleaseInfo
from mimo_fed_client.compute import ComputeSlots
from mimo_fed_client.durable import write_durably
from mimo_fed_client.mounted import Mounted
from mimo_fed_client.releases import Releases
from mimo_fed_client.settings import InstallSettings
from mimo_fed_client.slots import Installed, Slots
from mimo_fed_client.states import INSTALL, Machine
from mimo_fed_client.usage import Usage

CHANNEL = "stable"
PROGRESS_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a look at the channel came to.

    Attributes:
        state: committed, rolled_back or unchanged.
        release: the number that was found; what serves if nothing was; -1 for none.
        seconds: by install state, of this look.
    """

    state: str
    release: int
    seconds: dict[str, float]


class Installer:
    """Keeps the model on the newest good release of channel stable.

    Args:
        mounted: the model.
        spec: the shape that fits.
        slots: what is on disk.
        releases: the way to the registry.
        compute: a trial waits for a slot of the machine.
        settings: bounds.
        state_file: the install state, stored before each act.
        usage: counts seconds.
        events: for the people watching.
        stop: polled while waiting.
    """

    def __init__(
        self,
        mounted: Mounted,
        spec: AdapterSpec,
        *,
        slots: Slots,
        releases: Releases,
        compute: ComputeSlots,
        settings: InstallSettings,
        state_file: Path,
        usage: Usage,
        events: EventLog,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._mounted, self._spec = mounted, spec
        self._slots, self._releases, self._compute = slots, releases, compute
        self._settings, self._state_file = settings, state_file
        self._usage, self._events, self._stop = usage, events, stop
        self._machine = Machine(INSTALL, self._store)
        self._release, self._tries = -1, 0
        self._seconds: dict[str, float] = {}
        self._since = time.monotonic()
        self._zero = GlobalAdapter.zero(spec).to_safetensors()
        self._serving: Installed | None = None
        self._recover()

    @property
    def serving(self) -> bytes:
        """The adapter that serves; the zero adapter before the first install."""
        return self._serving.data if self._serving else self._zero

    @property
    def release(self) -> int:
        """Number of the release that serves; -1 before the first install."""
        return self._serving.info.number if self._serving else -1

    def check(self) -> Outcome:
        """Look once, and install what is there.

        Raises:
            TransportError: the registry cannot be reached, or the download broke.
            ReleaseError: the registry's metadata is not what was signed.
            InstallError: the disk is full or read-only.
        """
        self._seconds = {}
        try:
            return self._install()
        except MimoFedError as error:
            self._events.emit(
                "install.failed", state=self._machine.state, code=error.code, message=error.message
            )
            self._back_to_idle()
            raise

    def _install(self) -> Outcome:
        self._move("look")
        info = self._releases.latest(CHANNEL)
        if info is None or info.number == self.release or info.number in self._slots.bad():
            self._move("nothing")
            return self._outcome("unchanged", self.release if info is None else info.number)
        self._tries = self._tries if info.number == self._release else 0
        self._release = info.number
        self._events.emit("release.found", release=info.number, digest=info.digest, bytes=info.length)
        self._move("found")
        data = self._releases.fetch(info, self._progress())
        self._move("downloaded")
        if reason := self._unfit(data, info):
            return self._roll_back(reason)
        self._events.emit("release.verified", release=info.number)
        self._move("verified")
        with self._usage.timed("swap"):
            self._slots.stage(data, info)
        self._tries += 1
        self._move("staged")
        try:
            reason = self._trial(data)
        except (SpecMismatch, InstallError) as error:
            reason = error.message
        if reason:
            return self._roll_back(reason)
        self._move("passed")
        return self._commit(Installed(data, info))

    def _unfit(self, data: bytes, info: ReleaseInfo) -> str:
        """Say why a release does not fit this device; empty if it does."""
        spec = self._spec
        if (info.base_fingerprint, info.spec_digest) != (spec.base_fingerprint, spec.digest()):
            return f"made for another base or shape: {info.spec_digest[:16]}"
        with self._usage.timed("verify"):
            try:
                adapter = GlobalAdapter.from_safetensors(data, spec)
            except AdapterError as error:
                return error.message
        if adapter.epoch != info.basis_epoch:
            return f"of basis epoch {adapter.epoch}, signed as of {info.basis_epoch}"
        return ""

    def _trial(self, data: bytes) -> str:
        """Run the release beside the one that serves; say why it must not serve, or nothing."""
        mounted, bound = self._mounted, self._settings.loss_bound
        with self._compute.hold(self._stop), self._usage.timed("verify"):
            before = after = 0.0
            report = mounted.model.trial(data, (), loss_bound=bound)
            if report.ok and data != self.serving:
                try:
                    before, after = mounted.loss(self.serving), mounted.loss(data)
                finally:
                    mounted.mount(self.serving)
        reason = report.reason
        if report.ok and not after <= before * (1 + bound):
            reason = f"loss on held-out text would rise by more than {bound:.0%}: {before:.4f} to {after:.4f}"
        self._events.emit("release.trial", release=self._release, ok=not reason, reason=reason)
        return reason

    def _commit(self, staged: Installed) -> Outcome:
        with self._usage.timed("swap"):
            self._slots.commit(staged.info.number)
            self._mounted.mount(staged.data)
        self._serving, self._tries = staged, 0
        self._move("done")
        self._events.emit("release.committed", release=self.release, digest=staged.info.digest)
        self._events.emit("installed", release=self.release, state="committed")
        return self._outcome("committed", self.release)

    def _roll_back(self, reason: str) -> Outcome:
        self._move("failed")
        self._slots.mark_bad(self._release, reason)
        self._tries = 0
        self._move("done")
        self._events.emit("release.rolled_back", release=self._release, reason=reason, serving=self.release)
        self._events.emit("installed", release=self.release, state="rolled_back")
        return self._outcome("rolled_back", self._release)

    def is_bad(self, number: int) -> bool:
        """Say whether that release failed here."""
        return number in self._slots.bad()

    def _recover(self) -> None:
        """Go on where a kill struck: finish a commit, count a trial, and mount what serves."""
        state, self._release, self._tries = self._stored()
        if state == "COMMIT":
            try:
                self._slots.commit(self._release)
            except InstallError:  # the pointer had moved already
                self._events.emit("install.recovered", state=state, release=self._release)
        elif state == "TRIAL" and self._tries >= self._settings.tries:
            self._slots.mark_bad(self._release, f"its trial ended with the process {self._tries} times")
        elif state == "ROLLBACK":
            self._slots.mark_bad(self._release, "it failed its trial")
        if state not in ("IDLE", "COMMIT"):
            self._events.emit("install.recovered", state=state, release=self._release)
        self._store("IDLE")
        if (current := self._slots.current()) is not None:
            try:
                self._mounted.mount(current.data)
                self._serving = current
            except (AdapterError, InstallError) as error:
                self._events.emit("slot.unfit", release=current.info.number, message=error.message)

    def _back_to_idle(self) -> None:
        """Leave a state whose act raised."""
        if self._machine.state != "IDLE":
            self._tries = 0
            self._machine = Machine(INSTALL, self._store)
            self._store("IDLE")

    def _move(self, event: str) -> None:
        left, now = self._machine.state, time.monotonic()
        self._machine.move(event)
        if left != "IDLE":
            self._seconds[left.lower()] = round(now - self._since, 3)
        self._since = now
        if event not in ("look", "nothing") and self._machine.state != "IDLE":
            self._events.emit("state", state=self._machine.state.lower())

    def _store(self, state: str) -> None:
        if state == "CHECK":  # a look changes nothing
            return
        record = {"state": state, "release": self._release, "tries": self._tries}
        write_durably(self._state_file, json.dumps(record).encode())

    def _stored(self) -> tuple[str, int, int]:
        try:
            raw = json.loads(self._state_file.read_bytes())
            return str(raw["state"]), int(raw["release"]), int(raw["tries"])
        except (OSError, ValueError, KeyError, TypeError):
            return "IDLE", -1, 0

    def _outcome(self, state: str, release: int) -> Outcome:
        return Outcome(state=state, release=release, seconds=dict(self._seconds))

    def _progress(self) -> Callable[[int, int], None]:
        """Return a callback that tells of a download about twenty times."""
        told = [-1]

        def tell(done: int, total: int) -> None:
            step = PROGRESS_STEPS * done // max(1, total)
            if step != told[0]:
                told[0] = step
                self._events.emit("progress", what="download", step=step, num_steps=PROGRESS_STEPS)

        return tell
