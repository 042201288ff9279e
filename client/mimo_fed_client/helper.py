"""The service of a helper organisation: opens sums together with the others, and does nothing else.

It holds no model and no text. It connects as a device does, so it listens on no port, and runs nothing that
was sent. Whom to trust it learns from the registry's signed metadata.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from mimo_fed.errors import ConfigError, MimoFedError
from mimo_fed.events import EventLog
from mimo_fed_client.helper_log import RoundLog
from mimo_fed_client.helper_member import HelperMember
from mimo_fed_client.helper_settings import HelperSettings
from mimo_fed_client.identity import Identity, enrol_device
from mimo_fed_client.journal import FileJournal, state_key
from mimo_fed_client.lock import only_agent
from mimo_fed_client.releases import Releases
from mimo_fed_client.updater import Updater
from mimo_fed_client.usage import Usage

LOOK_CHANNEL = "dev"
STOP_S = 10.0
"""longest wait for a look at the registry when the service ends"""


class Helper:
    """One organisation's service, running. A context manager: the folder's lock and the connections are its.

    Args:
        settings: the organisation's.
        stop: set when the service shall end.
        now_s: seconds since the epoch.

    Raises:
        ConfigError: the settings, a damaged round log, or another process runs on this home.
        TransportError: the authority cannot be reached, and the helper is not enrolled.
        RegistryError: the authority refused the token.
    """

    def __init__(
        self,
        settings: HelperSettings,
        *,
        stop: threading.Event | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self.stop, self._now_s = settings, stop or threading.Event(), now_s
        self._resources = ExitStack()
        try:
            self._resources.enter_context(only_agent(settings.home))
            self._build()
        except BaseException:
            self._resources.close()
            raise

    def _build(self) -> None:
        settings, home = self.settings, self.settings.home
        self.events = EventLog(home / "events.jsonl")
        self.identity: Identity = enrol_device(settings)
        journal = FileJournal(home / "journal", state_key(home / "state.key"))
        updater = Updater(home / "updater", settings.registry_url, _read(settings.root_file))
        self._resources.callback(updater.close)
        self.releases = Releases(
            updater, journal, patience_s=0.0, usage=Usage(home / "usage.json"), now_s=self._now_s
        )
        self._member = HelperMember(
            journal,
            RoundLog(home / "rounds.jsonl"),
            key=self.identity.key,
            certificate=self.identity.certificate,
            anchors=self.releases.anchors,
            policy=settings.policy,
            entropy=os.urandom,
            now_s=self._now_s,
            events=self.events,
        )
        self._trust: dict[str, Any] = {}
        self.events.emit(
            "helper.started",
            pid=os.getpid(),
            helper=settings.helper_id,
            public_key=self.identity.key.public_key.hex(),
            test_only=settings.policy.test_only,
        )

    def __enter__(self) -> Helper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the folder and the connections go."""
        try:
            self.events.emit("helper.stopped")
        finally:
            self._resources.close()

    def handle(self, stage: str, payload: bytes) -> bytes:
        """Answer one request of a round; any thread may call."""
        return self._member.handle(stage, payload)

    def look(self) -> None:
        """Take the registry's newest signed view; a failure is an event, and so is a change of trust."""
        try:
            self.releases.latest(LOOK_CHANNEL)
            anchors = self.releases.anchors()
        except MimoFedError as error:
            self.events.emit("look.failed", code=error.code, message=error.message)
            return
        mine = self.identity
        trust = {
            "pinned": mine.key.public_key in anchors.helpers,
            "revoked": mine.certificate.serial in anchors.revoked,
            "helpers": len(anchors.helpers),
        }
        if trust != self._trust:
            self._trust = trust
            self.events.emit("trust", **trust)

    def watch(self) -> None:
        """Look again and again until stopped."""
        while not self.stop.wait(self.settings.poll_s):
            self.look()

    def run(self) -> None:
        """Answer rounds over Flower until stopped.

        Raises:
            TransportError: the SuperLink refuses this node.
        """
        from mimo_fed_client.node import EmbeddedNode

        settings = self.settings
        self.look()
        certificates = _read(settings.root_certificates) if settings.root_certificates else None
        node = EmbeddedNode(
            settings.superlink, self.handle, root_certificates=certificates, events=self.events
        )
        node.run_beside(self.watch, self.stop, patience_s=STOP_S)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"a file that the settings name cannot be read ({error.strerror}): {path}"
        ) from None
