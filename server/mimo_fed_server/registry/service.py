"""The registry as one object: records, bytes and signed metadata, kept in step.

Order of a publish: bytes on disk, then one transaction, then the metadata. A crash in between leaves records
that the metadata does not show yet; `Registry.start`, or the publisher's next attempt, shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_urlsafe

from mimo_fed.errors import RegistryError
from mimo_fed.release import CHANNELS, ReleaseInfo
from mimo_fed_server.registry.blobs import Blobs
from mimo_fed_server.registry.files import write_atomically
from mimo_fed_server.registry.problems import Conflict
from mimo_fed_server.registry.repository import Repository
from mimo_fed_server.registry.store import Draft, Store

TOKEN_BYTES = 32
LISTED = 16
"""newest releases in a channel's metadata, which is fetched whole whenever it changes and so must not grow"""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def initialize(home: Path, *, anchors: bytes, database: str | None = None) -> None:
    """Make a registry: keys, first metadata, schema, admin token.

    Args:
        home: folder of the registry; made if missing.
        anchors: keys that devices shall trust, as `Anchors.to_json` writes them.
        database: URL; None: SQLite in `home`.

    Raises:
        RegistryError: there is a registry already, or the database cannot be prepared.
    """
    if (home / "root.json").exists():
        raise Conflict(f"there is a registry here already: {home}")
    home.mkdir(parents=True, exist_ok=True)
    url = database or f"sqlite:///{home.resolve() / 'registry.db'}"
    store = Store(url)
    try:
        store.prepare()
    finally:
        store.close()
    write_atomically(home / "database-url", url.encode(), mode=0o600)
    write_atomically(home / "admin-token", token_urlsafe(TOKEN_BYTES).encode(), mode=0o600)
    write_atomically(home / "anchors.json", anchors)
    Repository(home, Blobs(home / "blobs")).initialize(anchors)


class Registry:
    """An initialized registry.

    Args:
        home: where `initialize` put it.
        database: another URL than the one given then.
        now: the clock; aware.

    Raises:
        RegistryError: there is no registry in `home`.
    """

    def __init__(
        self, home: Path, *, database: str | None = None, now: Callable[[], datetime] = _utc_now
    ) -> None:
        if not (home / "root.json").exists():
            raise RegistryError(
                f"there is no registry here: {home}", hint="run `mimo-fed registry init` first"
            )
        self.admin_token = (home / "admin-token").read_text().strip()
        self.store = Store(database or (home / "database-url").read_text().strip(), now=now)
        self.blobs = Blobs(home / "blobs")
        self.repository = Repository(home, self.blobs, now=now)

    def start(self) -> None:
        """Bring schema and metadata up to date."""
        self.store.prepare()
        for channel in CHANNELS:
            self.sync(channel)
        self.repository.renew()

    def close(self) -> None:
        """Let the database go."""
        self.store.close()

    def publish(self, adapter: bytes, draft: Draft, channel: str) -> ReleaseInfo:
        """Keep the bytes, number the release, sign it into the channel; harmless to repeat."""
        if self.blobs.put(adapter) != draft.digest or len(adapter) != draft.length:
            raise Conflict(f"the bytes are not what the draft says: {draft.digest}")
        info = self.store.publish(draft, channel)
        self.sync(channel)
        return info

    def promote(self, number: int, channel: str) -> ReleaseInfo:
        """Point a channel to a release and sign that; harmless to repeat."""
        info = self.store.promote(number, channel)
        self.sync(channel)
        return info

    def sync(self, channel: str) -> None:
        """Make the channel's signed metadata say what the records say."""
        self.repository.publish(
            channel, lambda: self.store.history(channel, LISTED), lambda: self.store.latest(channel)
        )
