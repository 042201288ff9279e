"""The registry's records: what was published, where the channels point, what the rounds reported.

Everything that must hold together is one transaction. Numbers are given out by the primary key: of two
publishers that race for a number one is refused by the database and tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from mimo_fed.release import CHANNELS, NO_PARENT, ReleaseInfo, adapter_path
from mimo_fed_server.registry.database import open_engine, upgrade
from mimo_fed_server.registry.problems import Conflict, NotFound, Unavailable
from mimo_fed_server.registry.tables import Blob, Channel, ChannelHistory, Release, Round

_RACES = 20


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A release before it has a number; without the evidence of a round unless that is named."""

    digest: str
    length: int
    base_fingerprint: str
    basis_epoch: int
    spec_digest: str
    round_id: str
    quorum_digest: str
    evidence_digest: str = ""
    evidence_length: int = 0


class Store:
    """Records of the registry in one database.

    Args:
        url: `sqlite:///PATH` or `postgresql+psycopg://...`.
        now: the clock; aware.
    """

    def __init__(self, url: str, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.engine = open_engine(url)
        self._now = now

    def prepare(self) -> None:
        """Bring the schema up to date."""
        upgrade(self.engine)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def publish(self, draft: Draft, channel: str) -> ReleaseInfo:
        """Give a release a number and point `channel` to it; the same round and digest again add nothing.

        Raises:
            NotFound: no such channel.
            Unavailable: the database refuses.
        """
        _check_channel(channel)
        for _ in range(_RACES):
            try:
                with self._session() as session:
                    return self._publish(session, draft, channel)
            except IntegrityError:
                continue
        raise Unavailable(f"the release could not be numbered in {_RACES} attempts: {draft.round_id}")

    def promote(self, number: int, channel: str) -> ReleaseInfo:
        """Point `channel` to a release that exists; devices refuse to go back, so the registry does too.

        Raises:
            NotFound: no such release or channel.
            Conflict: a lower number than the channel is on.
        """
        _check_channel(channel)
        with self._session() as session:
            release = session.get(Release, number)
            if release is None:
                raise NotFound(f"no such release: {number}", hint="`mimo-fed registry list` shows all")
            current = session.get(Channel, channel, with_for_update=True)
            if current is not None and current.number > number:
                raise Conflict(
                    f"{channel} is on release {current.number}; it cannot go back to {number}",
                    hint="publish the old bytes again: they get a new number",
                )
            self._point(session, channel, number)
            return _info(session, release, channel)

    def latest(self, channel: str) -> ReleaseInfo | None:
        """Return what a channel points to; None before its first release."""
        _check_channel(channel)
        with self._session() as session:
            row = session.get(Channel, channel)
            return None if row is None else _info(session, session.get_one(Release, row.number), channel)

    def history(self, channel: str, limit: int | None = None) -> tuple[ReleaseInfo, ...]:
        """Return the releases that a channel was ever on, the newest `limit` of them, lowest number first."""
        _check_channel(channel)
        query = (
            sa.select(Release)
            .join(ChannelHistory, ChannelHistory.number == Release.number)
            .where(ChannelHistory.name == channel)
            .order_by(Release.number.desc())
            .limit(limit)
        )
        with self._session() as session:
            newest_first = [_info(session, release, channel) for release in session.scalars(query)]
        return tuple(reversed(newest_first))

    def releases(self) -> list[dict[str, Any]]:
        """Return every release with the channels that point to it, lowest number first."""
        with self._session() as session:
            pointers = session.execute(sa.select(Channel.number, Channel.name).order_by(Channel.name)).all()
            return [
                {
                    "number": row.number,
                    "digest": row.digest,
                    "length": session.get_one(Blob, row.digest).length,
                    "round_id": row.round_id,
                    "parent": row.parent,
                    "base_fingerprint": row.base_fingerprint,
                    "basis_epoch": row.basis_epoch,
                    "quorum_digest": row.quorum_digest,
                    "evidence_digest": row.evidence_digest,
                    "created_at": row.created_at.isoformat(timespec="seconds"),
                    "channels": [name for number, name in pointers if number == row.number],
                }
                for row in session.scalars(sa.select(Release).order_by(Release.number))
            ]

    def put_round(self, round_id: str, record: dict[str, Any]) -> None:
        """Store a round's record; a later one replaces it."""
        now = self._now()
        with self._session() as session:
            row = session.get(Round, round_id)
            if row is None:
                session.add(Round(round_id=round_id, record=record, created_at=now, updated_at=now))
            else:
                row.record, row.updated_at = record, now

    def rounds(self) -> list[dict[str, Any]]:
        """Return every round's record, oldest first."""
        with self._session() as session:
            query = sa.select(Round).order_by(Round.created_at, Round.round_id)
            return [row.record for row in session.scalars(query)]

    def ping(self) -> None:
        """Raise `Unavailable` if the database does not answer."""
        with self._session() as session:
            session.execute(sa.text("SELECT 1"))

    def _publish(self, session: Session, draft: Draft, channel: str) -> ReleaseInfo:
        known = session.scalar(
            sa.select(Release).where(Release.round_id == draft.round_id, Release.digest == draft.digest)
        )
        if known is not None:
            return _info(session, known, channel)
        self._note_blob(session, draft.digest, draft.length)
        if draft.evidence_digest:
            self._note_blob(session, draft.evidence_digest, draft.evidence_length)
        top = session.scalar(sa.select(sa.func.max(Release.number)))
        pointer = session.get(Channel, channel)
        release = Release(
            number=0 if top is None else top + 1,
            digest=draft.digest,
            base_fingerprint=draft.base_fingerprint,
            basis_epoch=draft.basis_epoch,
            spec_digest=draft.spec_digest,
            round_id=draft.round_id,
            parent=NO_PARENT if pointer is None else pointer.number,
            quorum_digest=draft.quorum_digest,
            evidence_digest=draft.evidence_digest,
            created_at=self._now(),
        )
        session.add(release)
        session.flush()
        self._point(session, channel, release.number)
        return _info(session, release, channel)

    def _note_blob(self, session: Session, digest: str, length: int) -> None:
        if session.get(Blob, digest) is None:
            session.add(Blob(digest=digest, length=length, created_at=self._now()))
            session.flush()

    def _point(self, session: Session, channel: str, number: int) -> None:
        row = session.get(Channel, channel)
        if row is not None and row.number == number:
            return
        now = self._now()
        if row is None:
            session.add(Channel(name=channel, number=number, updated_at=now))
        else:
            row.number, row.updated_at = number, now
        session.add(ChannelHistory(name=channel, number=number, at=now))
        session.flush()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        try:
            with Session(self.engine, expire_on_commit=False) as session, session.begin():
                yield session
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise Unavailable(f"the database refused: {type(error).__name__}") from error


def _check_channel(channel: str) -> None:
    if channel not in CHANNELS:
        raise NotFound(f"no such channel: {channel[:40]}", hint=f"one of: {', '.join(CHANNELS)}")


def _info(session: Session, release: Release, channel: str) -> ReleaseInfo:
    evidence = release.evidence_digest
    return ReleaseInfo(
        number=release.number,
        channel=channel,
        digest=release.digest,
        length=session.get_one(Blob, release.digest).length,
        base_fingerprint=release.base_fingerprint,
        basis_epoch=release.basis_epoch,
        spec_digest=release.spec_digest,
        round_id=release.round_id,
        parent=release.parent,
        quorum_digest=release.quorum_digest,
        evidence_digest=evidence,
        evidence_length=session.get_one(Blob, evidence).length if evidence else 0,
        path=adapter_path(channel, release.base_fingerprint, release.number),
    )
