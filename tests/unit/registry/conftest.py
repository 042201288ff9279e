"""Databases to run the same tests on."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.simulators.postgres import Absent, postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    try:
        with postgres() as url:
            yield url
    except Absent as reason:
        pytest.skip(f"PostgreSQL: {reason}")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.db'}"
    server = sa.make_url(request.getfixturevalue("postgres_url"))
    name = f"t{uuid.uuid4().hex}"
    engine = sa.create_engine(server)
    with engine.begin() as connection:  # a schema each: a database each would cost 7 MB and half a second
        connection.execute(sa.text(f"CREATE SCHEMA {name}"))
    engine.dispose()
    return server.update_query_dict({"options": f"-csearch_path={name}"}).render_as_string()
