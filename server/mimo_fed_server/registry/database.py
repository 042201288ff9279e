"""Opening a database: SQLite by default, PostgreSQL by URL, the schema brought up to date by Alembic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from mimo_fed.errors import ConfigError
from mimo_fed_server.registry.problems import Unavailable
from mimo_fed_server.registry.tables import Base

VERSION_TABLE = "mimo_fed_alembic"
"""our own: Flower keeps `alembic_version` in its database, and the two may share a server"""

_SUPPORTED = ("sqlite", "postgresql+psycopg")


def open_engine(url: str) -> sa.Engine:
    """Connect lazily to `sqlite:///PATH` or `postgresql+psycopg://...`.

    Raises:
        ConfigError: not a database URL, or not one of these two.
    """
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        raise ConfigError("not a database URL", hint="sqlite:///PATH or postgresql+psycopg://...") from None
    if parsed.drivername not in _SUPPORTED:
        raise ConfigError(f"no such database: {parsed.drivername}", hint=f"one of: {', '.join(_SUPPORTED)}")
    try:
        engine = sa.create_engine(parsed, pool_pre_ping=True)
    except (NoSuchModuleError, ImportError) as error:
        raise ConfigError(f"the database's driver is missing: {error}") from None
    if parsed.drivername == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def upgrade(engine: sa.Engine) -> None:
    """Bring the schema to the newest version.

    Raises:
        Unavailable: the database cannot be reached, or is not ours.
    """
    migrate(engine, "head")


def migrate(engine: sa.Engine, revision: str) -> None:
    """Bring the schema to `head`, the newest version, or back to an older one.

    Raises:
        Unavailable: the database cannot be reached, or is not ours.
    """
    move = command.upgrade if revision == "head" else command.downgrade
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            move(config, revision)
    except SQLAlchemyError as error:
        raise Unavailable(f"the database cannot be prepared: {type(error).__name__}") from error


def differences(engine: sa.Engine) -> Sequence[Any]:
    """Compare the tables in the database with the models; empty when they agree."""
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        return list(compare_metadata(context, Base.metadata))


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
