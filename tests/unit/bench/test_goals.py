from __future__ import annotations

from typing import Any

import pytest

from mimo_fed.bench.goals import Goal, at, growth, judge, spread


def document(**figures: Any) -> dict[str, Any]:
    return {"params": 10_000_000, **figures}


def verdict(found: dict[str, Any], figure: str) -> Any:
    return next(goal["met"] for goal in judge(found) if goal["figure"] == figure)


@pytest.mark.parametrize(("measured", "met"), [(7.9, True), (8.0, True), (8.1, False)])
def test_a_cost_is_met_up_to_its_goal(measured: float, met: bool) -> None:
    assert verdict(document(protect_ns_per_param={"numba": measured}), "protect, numba") is met


@pytest.mark.parametrize(("measured", "met"), [(39.9, False), (40.0, True)])
def test_a_ratio_is_met_from_its_goal_on(measured: float, met: bool) -> None:
    found = document(vs={"flower_32": {"client_time_ratio": measured}})
    assert verdict(found, "Flower SecAgg+, 32: client time") is met


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert verdict(document(), "protect, numba") is None
    assert verdict(document(protect_ns_per_param={"numba": None}), "protect, numba") is None


@pytest.mark.parametrize(
    ("num_params", "goals"), [(1_000, []), (1_000_000, ["<= 0.06"]), (10_000_000, ["<= 0.01"])]
)
def test_the_goal_for_uploads_depends_on_the_length(num_params: int, goals: list[str]) -> None:
    found = judge({"params": num_params, "upload_overhead": 0.005})
    assert [goal["goal"] for goal in found if goal["figure"].startswith("upload")] == goals


@pytest.mark.parametrize(("control", "met"), [(0.55, False), (1.0, None)])
def test_two_threads_are_judged_only_where_they_had_two_cores(control: float, met: bool | None) -> None:
    found = document(protect_wall_ratio_2_threads=0.9, control_wall_ratio_2_threads=control)
    assert verdict(found, "protect, wall time of two threads") is met


def test_spread_is_half_the_range_over_the_middle() -> None:
    assert spread({"0": 9.5, "0.4": 10.5}) == pytest.approx(0.05)


def test_growth_is_what_one_more_device_adds_as_a_part_of_its_message() -> None:
    found = document(
        client={"bytes": 1_000_000}, coordinator_peak_mb={"1000": 129.8, "10": 30.8, "100": 900.0}
    )
    assert growth(found) == pytest.approx(0.1)
    with pytest.raises(KeyError):
        growth(document(client={"bytes": 1}, coordinator_peak_mb={"10": 1.0}))


def test_a_goal_says_its_direction() -> None:
    assert Goal(figure="f", unit="u", read=at("f"), at_most=1.15).text == "<= 1.15"
    assert Goal(figure="f", unit="u", read=at("f"), at_least=40).text == ">= 40"
