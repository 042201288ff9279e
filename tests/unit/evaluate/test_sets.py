"""A set of users as an evaluation takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimo_fed.data.lots import role_of
from mimo_fed.errors import DataError
from mimo_fed.evaluate.sets import load_set
from tests.unit.evaluate.population import COUNTS, LABELS, SEED, user_set, write_set


def test_roles_are_those_of_the_lot(tmp_path: Path) -> None:
    users = load_set(write_set(tmp_path / "homes", intents=True))
    for role, count in COUNTS.items():
        devices = getattr(users, role)
        assert len(devices) == count
        assert {role_of(device.author, SEED) for device in devices} == {role}
    assert (users.name, users.labels) == ("homes", LABELS)
    assert users.provenance == {"source": "made up"}, "long lists are left to the digest"


def test_fewer_users_are_drawn_and_always_the_same(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    few = load_set(folder, max_users=11)
    assert sum(len(some) for some in (few.federated, few.tuning, few.cold)) == 11
    assert few.digest == load_set(folder, max_users=11).digest
    assert few.digest != load_set(folder).digest


def test_a_role_without_enough_users_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few users for the role"):
        load_set(write_set(tmp_path / "set"), max_users=2)


def test_languages_with_enough_users() -> None:
    users = user_set()
    assert users.languages(users.federated, 3) == ("fr", "it")
    assert users.languages(users.federated, 4) == ("fr",)
    assert users.min_rank == 4
