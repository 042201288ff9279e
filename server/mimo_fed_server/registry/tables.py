"""The registry's tables.

`release`, `channel_history`, `round` and `blob` only grow; `channel` is the one mutable pointer. Private keys
and tokens are never here. The signed metadata is written from these rows, so the two can be compared.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, aware on both sides; SQLite itself keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive moment, store the rest in UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a moment needs a zone: {value}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Root of the registry's models."""


class Blob(Base):
    """Bytes that are kept, by what they are."""

    __tablename__ = "blob"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    length: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Release(Base):
    """An immutable numbered adapter."""

    __tablename__ = "release"
    __table_args__ = (UniqueConstraint("round_id", "digest", name="uq_release_round_id_digest"),)

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(
        String(64), ForeignKey("blob.digest", name="fk_release_digest"), index=True
    )
    base_fingerprint: Mapped[str] = mapped_column(String(64))
    basis_epoch: Mapped[int]
    spec_digest: Mapped[str] = mapped_column(String(64))
    round_id: Mapped[str] = mapped_column(String(128))
    parent: Mapped[int] = mapped_column(BigInteger)
    quorum_digest: Mapped[str] = mapped_column(String(64))
    evidence_digest: Mapped[str] = mapped_column(String(64), server_default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Channel(Base):
    """Where each channel points now."""

    __tablename__ = "channel"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, ForeignKey("release.number", name="fk_channel_number"))
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ChannelHistory(Base):
    """Every release that a channel was ever on, in order."""

    __tablename__ = "channel_history"
    __table_args__ = (UniqueConstraint("name", "number", name="uq_channel_history_name_number"),)

    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(32))
    number: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("release.number", name="fk_channel_history_number")
    )
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class Round(Base):
    """What the coordinator reported of a round."""

    __tablename__ = "round"

    round_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    record: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
