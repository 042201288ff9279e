import hashlib

import pytest

from mimo_fed.data.lots import RANKS, device_class_of, position, role_of

AUTHORS = [hashlib.sha256(str(number).encode()).hexdigest()[:10] for number in range(5000)]


def test_parts_are_shared_out_as_said() -> None:
    roles = [role_of(author, "seed") for author in AUTHORS]
    for role, share in (("federated", 0.70), ("tuning", 0.10), ("cold", 0.20)):
        assert abs(roles.count(role) / len(roles) - share) < 0.02


def test_a_part_is_the_same_each_time_and_another_with_another_seed() -> None:
    again = [role_of(author, "seed") for author in AUTHORS]
    assert again == [role_of(author, "seed") for author in AUTHORS]
    other = [role_of(author, "other") for author in AUTHORS]
    kept = sum(one == two for one, two in zip(again, other, strict=True)) / len(AUTHORS)
    assert kept == pytest.approx(0.7**2 + 0.1**2 + 0.2**2, abs=0.03)


def test_device_classes_are_equally_likely_and_do_not_go_with_the_part() -> None:
    classes = [device_class_of(author, "seed") for author in AUTHORS]
    assert set(classes) == set(RANKS)
    assert all(abs(classes.count(one) / len(classes) - 0.2) < 0.02 for one in RANKS)
    cold = [device_class_of(author, "seed") for author in AUTHORS if role_of(author, "seed") == "cold"]
    assert all(abs(cold.count(one) / len(cold) - 0.2) < 0.05 for one in RANKS)


def test_ranks_are_those_of_the_demo() -> None:
    assert sorted(set(RANKS.values())) == [4, 8, 16]


def test_a_place_is_from_zero_to_one() -> None:
    places = [position(author, "seed") for author in AUTHORS]
    assert 0 <= min(places) < 0.01
    assert 0.99 < max(places) < 1
