"""What the coordinator keeps of its rounds: one SQLite file, and a folder of contributions.

The database is the coordinator's own, beside the registry's: it holds inputs of rounds that are under way.
A contribution is a file, synced before it is acknowledged; everything else is a row.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import ForeignKey, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mimo_fed.config import RoundConfig
from mimo_fed.errors import LocalProtocolError
from mimo_fed.round.cohort import Candidate
from mimo_fed.round.records import Plan, Record
from mimo_fed_server.registry.files import write_atomically


class Base(DeclarativeBase):
    """Tables of the coordinator."""


class RoundRow(Base):
    """One round: open, done or aborted."""

    __tablename__ = "round"
    sequence: Mapped[int] = mapped_column(primary_key=True)
    round_id: Mapped[str] = mapped_column(unique=True)
    cycle: Mapped[int] = mapped_column(index=True)
    config: Mapped[str]
    base_digest: Mapped[str]
    state: Mapped[str] = mapped_column(default="open")
    started_at: Mapped[float]


class RecordRow(Base):
    """One stored input of a round."""

    __tablename__ = "record"
    id: Mapped[int] = mapped_column(primary_key=True)
    round_id: Mapped[str] = mapped_column(ForeignKey("round.round_id"), index=True)
    stage: Mapped[str]
    device_id: Mapped[str]
    data: Mapped[bytes]


class StepRow(Base):
    """One finished step of a cycle (train, publish, judge, promote, notify) and what it gave."""

    __tablename__ = "step"
    cycle: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[str]


class DeviceRow(Base):
    """How often a device was asked, and was in a sum: for a fair draw of cohorts."""

    __tablename__ = "device"
    device_id: Mapped[str] = mapped_column(primary_key=True)
    last_round: Mapped[int | None]
    num_rounds: Mapped[int]
    last_contributed: Mapped[int | None]
    num_contributed: Mapped[int]


class FileSpool:
    """Contributions of one round as files, each whole and synced or not there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def put(self, name: str, data: bytes) -> None:
        """Store a contribution; durable when it returns. The same bytes again cost a comparison."""
        path = self._path(name)
        if path.exists() and path.read_bytes() == data:
            return
        write_atomically(path, data)

    def get(self, name: str) -> bytes:
        """Return a contribution."""
        return self._path(name).read_bytes()

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return a part of a contribution."""
        with self._path(name).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def num_bytes(self) -> int:
        """Return the size of all contributions together."""
        return sum(p.stat().st_size for p in self._folder.glob("*.m2"))

    def all(self) -> Iterator[bytes]:
        """Yield every contribution, by name."""
        yield from (p.read_bytes() for p in sorted(self._folder.glob("*.m2")))

    def _path(self, name: str) -> Path:
        if not name or not all(c.isalnum() or c in "-_." for c in name) or name.startswith("."):
            raise LocalProtocolError(f"name cannot be a file's: {name!r}")
        return self._folder / name


class StoredRound:
    """A `RoundStore` on the database and the spool."""

    def __init__(self, database: RoundsDatabase, round_id: str) -> None:
        self._database, self._round_id = database, round_id
        self._spool = FileSpool(database.home / "spool" / round_id)

    @property
    def spool(self) -> FileSpool:
        """Where this round's contributions are."""
        return self._spool

    def append(self, record: Record) -> None:
        """Store an input."""
        with self._database.session() as session:
            row = RecordRow(
                round_id=self._round_id, stage=record.stage, device_id=record.device_id, data=record.data
            )
            session.add(row)

    def records(self) -> tuple[Record, ...]:
        """Return the inputs in the order in which they were stored."""
        query = select(RecordRow).where(RecordRow.round_id == self._round_id).order_by(RecordRow.id)
        with self._database.session() as session:
            return tuple(Record(r.stage, r.device_id, r.data) for r in session.scalars(query))

    def contributions(self) -> Iterator[bytes]:
        """Yield the contributions in the spool, one at a time."""
        return self._spool.all()


class RoundsDatabase:
    """All rounds of one coordinator.

    Args:
        home: the coordinator's folder; `coordinator.db` and `spool/` are made in it.
    """

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self._engine = create_engine(f"sqlite:///{home / 'coordinator.db'}")
        event.listen(self._engine, "connect", _durable)
        Base.metadata.create_all(self._engine)

    def close(self) -> None:
        """Let the file go."""
        self._engine.dispose()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction; committed and synced at the end, undone on an error."""
        with Session(self._engine) as session, session.begin():
            yield session

    def steps(self, cycle: int) -> dict[str, Any]:
        """Return the finished steps of a cycle and what each gave."""
        with self.session() as session:
            rows = session.scalars(select(StepRow).where(StepRow.cycle == cycle))
            return {row.name: json.loads(row.data) for row in rows}

    def finish(self, cycle: int, name: str, result: Any) -> None:
        """Mark a step of a cycle as done, and with it the round that it ran."""
        query = select(RoundRow).where(RoundRow.cycle == cycle, RoundRow.state == "open")
        with self.session() as session:
            for row in session.scalars(query):
                row.state = "done"
            session.merge(StepRow(cycle=cycle, name=name, data=json.dumps(result)))

    def cycles_done(self) -> int:
        """Return how many cycles went through to the end."""
        with self.session() as session:
            return len(session.scalars(select(StepRow.cycle).where(StepRow.name == "notify")).all())

    def open_round(self, cycle: int, config: RoundConfig) -> tuple[Plan, float] | None:
        """Return the round of this kind that is under way in the cycle and when it began, if there is one."""
        query = select(RoundRow).where(RoundRow.cycle == cycle, RoundRow.state == "open")
        with self.session() as session:
            for row in session.scalars(query):
                stored = RoundConfig.from_json(row.config.encode())
                if stored.kind == config.kind:
                    return _plan(row, stored), row.started_at
        return None

    def new_round(
        self, cycle: int, config: RoundConfig, base_digest: str, now_s: float
    ) -> tuple[Plan, float]:
        """Store a new round with the next sequence number; contributions of ended ones of its kind go."""
        with self.session() as session:
            last = session.scalar(select(RoundRow.sequence).order_by(RoundRow.sequence.desc()).limit(1)) or 0
            row = RoundRow(
                sequence=last + 1,
                round_id=f"{config.kind}-{last + 1}-{secrets.token_hex(4)}",
                cycle=cycle,
                config=config.to_json().decode(),
                base_digest=base_digest,
                started_at=now_s,
                state="open",
            )
            session.add(row)
            session.flush()
            for ended in session.scalars(select(RoundRow.round_id).where(RoundRow.state != "open")):
                if ended.startswith(f"{config.kind}-"):
                    shutil.rmtree(self.home / "spool" / ended, ignore_errors=True)
            return _plan(row, config), now_s

    def end_round(self, round_id: str, state: str) -> None:
        """Mark a round done or aborted."""
        with self.session() as session:
            row = session.scalars(select(RoundRow).where(RoundRow.round_id == round_id)).one()
            row.state = state

    def known_devices(self) -> dict[str, Candidate]:
        """Return what earlier rounds say of each device."""
        with self.session() as session:
            return {row.device_id: _candidate(row) for row in session.scalars(select(DeviceRow))}

    def note_devices(self, records: Iterable[Candidate]) -> None:
        """Store changed records of devices."""
        with self.session() as session:
            for record in records:
                session.merge(DeviceRow(**asdict(record)))

    def num_aborted(self, cycle: int, kind: str) -> int:
        """Return how many rounds of this kind were aborted in the cycle."""
        query = select(RoundRow.sequence).where(
            RoundRow.cycle == cycle, RoundRow.state == "aborted", RoundRow.round_id.startswith(f"{kind}-")
        )
        with self.session() as session:
            return len(session.scalars(query).all())


def _candidate(row: DeviceRow) -> Candidate:
    return Candidate(
        device_id=row.device_id,
        last_round=row.last_round,
        num_rounds=row.num_rounds,
        last_contributed=row.last_contributed,
        num_contributed=row.num_contributed,
    )


def _plan(row: RoundRow, config: RoundConfig) -> Plan:
    return Plan(
        round_id=row.round_id,
        sequence=row.sequence,
        config=config,
        base_digest=row.base_digest,
        min_devices=config.n_min,
    )


def _durable(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()
