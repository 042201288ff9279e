"""A goal is met by its figure, and clear only where the whole interval agrees."""

from __future__ import annotations

import pytest

from mimo_fed.evaluate.bootstrap import Estimate
from mimo_fed.evaluate.metrics import BITS, panel, summarise
from mimo_fed.evaluate.records import Row
from mimo_fed.evaluate.verdict import Goal, judge
from tests.unit.evaluate.rows import ROLES, rows_of


def _goal(figure: Estimate | None, *, line: float = 0.8, at_least: bool = True) -> Goal:
    return Goal(text="", figure=figure, line=line, at_least=at_least, percent=True)


@pytest.mark.parametrize(
    ("figure", "met", "clear"),
    [
        (Estimate(0.9, 0.85, 0.95), True, True),
        (Estimate(0.9, 0.75, 0.95), True, False),
        (Estimate(0.8, 0.8, 0.9), True, True),
        (Estimate(0.7, 0.6, 0.79), False, True),
        (Estimate(0.7, 0.6, 0.8), False, False),
        (Estimate(0.9), True, False),
        (None, None, False),
    ],
)
def test_met_and_clear(figure: Estimate | None, met: bool | None, clear: bool) -> None:
    goal = _goal(figure)
    assert (goal.met, goal.clear) == (met, clear)


def test_no_gain_is_not_a_gain() -> None:
    assert _goal(Estimate(0.0, 0.0, 0.1), line=0.0, at_least=False).met is False
    assert _goal(Estimate(0.1, 0.0, 0.2), line=0.0, at_least=False).clear is False


def _judged(rows: list[Row]) -> tuple[Goal, ...]:
    both = [panel(rows, group, BITS) for group in ("federated", "cold")]
    return judge(*(() if p is None else summarise(p, ROLES) for p in both), ROLES)


def test_the_goals_are_judged_on_the_arms_that_the_roles_name() -> None:
    rows = [
        *rows_of("local", [2.0] * 9 + [1.0]),
        *rows_of("full", [1.5] * 9 + [1.4]),
        *rows_of("base", [3.0] * 10, first=50, group="cold"),
        *rows_of("global + cohort", [2.5] * 10, first=50, group="cold"),
    ]
    share, worst, cold = _judged(rows)
    assert share.figure is not None
    assert share.figure.value == pytest.approx(0.9)
    assert worst.figure is not None
    assert worst.figure.value == pytest.approx(0.5)
    assert cold.figure is not None
    assert (cold.figure.value, cold.clear) == (pytest.approx(0.5), True)
    assert [g.met for g in (share, worst, cold)] == [True, True, True]


def test_a_loss_is_not_met_and_what_was_not_run_is_not_measured() -> None:
    rows = [*rows_of("local", [2.0] * 10), *rows_of("full", [1.5] * 7 + [2.1] * 3)]
    assert [goal.met for goal in _judged(rows)] == [False, False, None]
