"""Figures are well formed, name what they show and are the same twice; labels keep apart."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from mimo_fed.errors import DataError
from mimo_fed.evaluate import plots
from mimo_fed.evaluate.findings import Findings, compute
from mimo_fed.evaluate.history import loss_curves
from mimo_fed.evaluate.labels import Label, place, spread
from mimo_fed.page.svg import INK, new_figure
from tests.unit.evaluate.rows import ROLES, arm_record, results, rows_of, whole


@pytest.fixture(scope="module")
def found() -> Findings:
    return whole()


def test_all_figures_are_drawn_and_the_same_twice(found: Findings) -> None:
    drawn = plots.draw_all(found)
    assert list(drawn) == ["gains", "worst", "loss", "bytes"]
    for svg in drawn.values():
        ElementTree.fromstring(svg)  # noqa: S314 our own output
    assert plots.draw_all(found) == drawn


def test_figures_say_what_they_show(found: Findings) -> None:
    drawn = plots.draw_all(found)
    for word in ("de: 5", "language: users", "above the line: full is better, 80 % of 20 users"):
        assert word in drawn["gains"], word
    section = found.section("federated")
    assert section is not None
    for summary in section.summaries:
        assert f">{summary.arm}<" in drawn["worst"]
        assert f">{summary.worst_decile.value:.3f}<" in drawn["worst"]
        assert f">{summary.arm}<" in drawn["bytes"]
    assert ">global and 2 more<" in drawn["loss"]


def test_what_was_not_run_is_not_drawn() -> None:
    made = compute(results(), rows_of("base", [2.0, 1.0]))
    assert list(plots.draw_all(made)) == ["worst"]
    cold = compute(results(), rows_of("base", [2.0, 1.0], group="cold"))
    assert plots.draw_all(cold) == {}


def test_the_same_arm_has_the_same_colour_everywhere() -> None:
    colours = {plots.arm_colour(arm, ROLES) for arm in ("full", "local", "global")}
    assert len(colours) == 3
    assert plots.arm_colour("sketch", ROLES) == INK not in colours


def _history(*losses: float | None, cohort: str = "") -> tuple[dict[str, object], ...]:
    return tuple({"round": n, "cohort": cohort, "loss_before": loss} for n, loss in enumerate(losses, 1))


def test_curves_average_seeds_leave_out_cohorts_and_join_arms_of_one_run() -> None:
    curves = loss_curves(
        [
            arm_record("global", 0, history=_history(4.0, 3.0)),
            arm_record("global", 1, history=(*_history(2.0, 1.0, 0.5), *_history(9.0, cohort="de"))),
            arm_record("full", 0, history=_history(3.0, 2.0)),
            arm_record("B", 0, history=_history(3.0, None)),
            arm_record("local", 0),
        ]
    )
    assert curves == {("global", "full"): ((1, 3.0), (2, 2.0)), ("B",): ((1, 3.0),)}
    with pytest.raises(DataError, match="no round number: None"):
        loss_curves([arm_record(history=({"loss_before": 1.0},))])


@pytest.mark.parametrize(
    ("wanted", "placed"),
    [
        ([], []),
        ([5.0], [5.0]),
        ([0.0, 9.0, 4.0], [0.0, 9.0, 4.0]),
        ([3.0, 3.0], [2.5, 3.5]),
        ([3.0, 1.0, 1.0], [3.0, 0.5, 1.5]),
        ([1.0, 1.2, 1.4], [0.2, 1.2, 2.2]),
    ],
)
def test_places_are_spread_as_little_as_it_takes(wanted: list[float], placed: list[float]) -> None:
    assert spread(wanted, 1.0) == pytest.approx(placed)


def test_spread_places_keep_their_order_and_their_distance() -> None:
    wanted = [2.0, 1.9, 7.0, 2.1, 2.05, 6.8, 6.9]
    placed = spread(wanted, 0.5)
    order = sorted(range(7), key=lambda i: wanted[i])
    assert all(placed[b] - placed[a] > 0.5 - 1e-9 for a, b in pairwise(order))
    assert sum(placed) == pytest.approx(sum(wanted))


def test_labels_of_crowded_points_do_not_lie_on_each_other() -> None:
    figure = new_figure(width=6, height=4)
    axes = figure.add_subplot()
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    place(axes, [Label(text=f"label {i}", x=5 + 0.05 * i, y=5 + 0.1 * i, colour=INK) for i in range(8)])
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == 8
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
