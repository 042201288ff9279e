"""The registry as one object: records, bytes and signed metadata, kept in step.

Order of a publish: evidence and adapter on disk, then one transaction, then the metadata. A crash in between
leaves records that the metadata does not show yet; `Registry.start`, or the publisher's next attempt, shows
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_urlsafe

from mimo_fed.errors import RegistryError
from mimo_fed.release import CHANNELS, ReleaseInfo
from mimo_fed_server.registry.blobs import Blobs
from mimo_fed_server.registry.evidence import read_quorum_digest
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

    def keep_evidence(self, evidence: bytes) -> tuple[str, str]:
        """Keep the evidence of a round for a publish to come, and return its digest and its votes' hash.

        Raises:
            BadRequest: it is not the form of evidence.
        """
        votes = read_quorum_digest(evidence)
        return self.blobs.put(evidence), votes

    def publish(self, adapter: bytes, draft: Draft, channel: str) -> ReleaseInfo:
        """Keep the bytes, number the release, sign it into the channel; harmless to repeat.

        Raises:
            Conflict: the bytes are not the draft's, or it names a quorum certificate without the evidence
                that has it.
        """
        draft = self._with_evidence(draft)
        if self.blobs.put(adapter) != draft.digest or len(adapter) != draft.length:
            raise Conflict(f"the bytes are not what the draft says: {draft.digest}")
        info = self.store.publish(draft, channel)
        self.sync(channel)
        return info

    def _with_evidence(self, draft: Draft) -> Draft:
        """Check that the evidence is here and has the votes that the draft names."""
        if not draft.evidence_digest:
            if draft.quorum_digest:
                raise Conflict(f"a quorum certificate is named without evidence: {draft.quorum_digest}")
            return draft
        if not self.blobs.path(draft.evidence_digest).exists():
            raise Conflict(f"the evidence was not sent: {draft.evidence_digest}", hint="send it first")
        evidence = self.blobs.get(draft.evidence_digest)
        if read_quorum_digest(evidence) != draft.quorum_digest:
            raise Conflict(f"the evidence has another quorum certificate than: {draft.quorum_digest!r}")
        return replace(draft, evidence_length=len(evidence))

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
