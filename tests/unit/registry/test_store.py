"""One conformance suite for the records, on every database that we support."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from mimo_fed.errors import ConfigError
from mimo_fed.release import NO_PARENT
from mimo_fed_server.registry.database import VERSION_TABLE, differences, migrate, open_engine
from mimo_fed_server.registry.problems import Conflict, NotFound, Unavailable
from mimo_fed_server.registry.store import Draft, Store
from mimo_fed_server.registry.tables import Release

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = Store(database_url, now=lambda: NOW)
    store.prepare()
    yield store
    store.close()


def _draft(round_id: str, content: bytes = b"adapter") -> Draft:
    return Draft(
        digest=hashlib.sha256(content).hexdigest(),
        length=len(content),
        base_fingerprint="a" * 64,
        basis_epoch=0,
        spec_digest="b" * 64,
        round_id=round_id,
        quorum_digest="c" * 64,
    )


def test_models_and_migrations_agree(store: Store) -> None:
    assert differences(store.engine) == []


def test_a_difference_between_models_and_database_is_seen(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE blob ADD COLUMN stray INTEGER"))
    assert differences(store.engine) != []


def test_our_version_table_is_not_flowers(store: Store) -> None:
    names = sa.inspect(store.engine).get_table_names()
    assert VERSION_TABLE in names
    assert "alembic_version" not in names


def test_preparing_again_changes_nothing(store: Store) -> None:
    store.publish(_draft("r0"), "dev")
    store.prepare()
    assert len(store.releases()) == 1


def test_numbers_count_from_zero_and_parents_follow_the_channel(store: Store) -> None:
    first = store.publish(_draft("r0"), "dev")
    second = store.publish(_draft("r1", b"other"), "dev")
    assert (first.number, first.parent) == (0, NO_PARENT)
    assert (second.number, second.parent) == (1, 0)
    assert store.latest("dev") == second
    assert store.latest("stable") is None


def test_evidence_follows_a_release_to_every_channel(store: Store) -> None:
    draft = replace(_draft("r0"), evidence_digest="e" * 64, evidence_length=99)
    info = store.publish(draft, "dev")
    assert (info.evidence_digest, info.evidence_length) == ("e" * 64, 99)
    assert store.publish(draft, "dev") == info
    assert store.promote(0, "stable") == info.on_channel("stable")
    assert store.releases()[0]["evidence_digest"] == "e" * 64


def test_releases_from_before_there_was_evidence_are_kept(store: Store) -> None:
    infos = [store.publish(_draft(name), "dev") for name in ("r0", "r1")]
    migrate(store.engine, "0001")
    assert "evidence_digest" not in {c["name"] for c in sa.inspect(store.engine).get_columns("release")}
    store.prepare()
    assert differences(store.engine) == []
    assert list(store.history("dev")) == infos
    assert {info.evidence_digest for info in infos} == {""}


def test_the_same_round_and_digest_is_the_same_release(store: Store) -> None:
    first = store.publish(_draft("r0"), "dev")
    store.publish(_draft("r1"), "dev")
    assert store.publish(_draft("r0"), "dev") == first
    assert store.latest("dev") == store.publish(_draft("r1"), "dev")
    assert len(store.releases()) == 2


def test_old_bytes_may_be_published_again_by_another_round(store: Store) -> None:
    numbers = [store.publish(_draft(name), "dev").number for name in ("r0", "r1")]
    assert numbers == [0, 1]


def test_promotion_goes_forward_only(store: Store) -> None:
    for name in ("r0", "r1"):
        store.publish(_draft(name), "dev")
    assert store.promote(1, "stable").path == "adapters/stable/aaaaaaaaaaaa/1/adapter.safetensors"
    assert store.promote(1, "stable").number == 1
    with pytest.raises(Conflict, match="on release 1; it cannot go back to 0"):
        store.promote(0, "stable")
    assert [info.number for info in store.history("stable")] == [1]


def test_what_is_not_there_is_refused(store: Store) -> None:
    with pytest.raises(NotFound, match="no such release: 5"):
        store.promote(5, "stable")
    with pytest.raises(NotFound, match="no such channel: beta"):
        store.publish(_draft("r0"), "beta")
    with pytest.raises(NotFound, match="no such channel"):
        store.latest("beta")


def test_racing_publishers_get_different_numbers(store: Store) -> None:
    names = [f"r{i}" for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        infos = list(pool.map(lambda name: store.publish(_draft(name, name.encode()), "dev"), names))
    assert sorted(info.number for info in infos) == list(range(8))


def test_racing_attempts_of_one_publisher_make_one_release(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        infos = list(pool.map(lambda _: store.publish(_draft("r0"), "dev"), range(4)))
    assert {info.number for info in infos} == {0}


def test_a_round_is_replaced_not_repeated(store: Store) -> None:
    store.put_round("r0", {"round_id": "r0", "loss_before": 2.5})
    store.put_round("r1", {"round_id": "r1"})
    store.put_round("r0", {"round_id": "r0", "loss_before": 2.5, "release": 1})
    assert store.rounds() == [
        {"round_id": "r0", "loss_before": 2.5, "release": 1},
        {"round_id": "r1"},
    ]


def test_moments_come_back_in_utc(store: Store) -> None:
    store.publish(_draft("r0"), "dev")
    with sa.orm.Session(store.engine) as session:
        assert session.get_one(Release, 0).created_at == NOW
    assert store.releases()[0]["created_at"] == "2026-11-24T02:00:00+00:00"


def test_a_database_that_is_away_is_told_as_such() -> None:
    store = Store("postgresql+psycopg://nobody@127.0.0.1:1/nothing?connect_timeout=1")
    with pytest.raises(Unavailable):
        store.prepare()
    with pytest.raises(Unavailable):
        store.latest("dev")
    store.close()


@pytest.mark.parametrize("url", ["", "mysql://x/y", "sqlite+aiosqlite:///x", "nonsense"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        open_engine(url)
