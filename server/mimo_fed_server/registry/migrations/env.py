"""Alembic's entry: runs on the connection that `database.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from mimo_fed_server.registry.database import VERSION_TABLE
from mimo_fed_server.registry.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
