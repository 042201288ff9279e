"""Figures of arms and users whose answers are known."""

from __future__ import annotations

import pytest

from mimo_fed.errors import DataError
from mimo_fed.evaluate.metrics import ACCURACY, BITS, Panel, Summary, panel, summarise
from mimo_fed.evaluate.records import Row
from tests.unit.evaluate.rows import ROLES, row, rows_of

HUNDRED = [float(n) for n in range(1, 101)]


def _panel(rows: list[Row]) -> Panel:
    made = panel(rows, "federated", BITS)
    assert made is not None
    return made


def _summaries(rows: list[Row]) -> dict[str, Summary]:
    return {s.arm: s for s in summarise(_panel(rows), ROLES)}


def test_figures_on_one_to_a_hundred() -> None:
    found = _summaries(rows_of("base", HUNDRED))["base"]
    assert found.num_users == 100
    assert found.mean.value == pytest.approx(50.5)
    assert found.median.value == pytest.approx(50.5)
    assert found.worst_decile.value == pytest.approx(95.5)
    assert found.worst_decile.low is not None
    assert found.worst_decile.high is not None
    assert 85 < found.worst_decile.low < 95.5 < found.worst_decile.high <= 100


def test_gains_and_shares_count_users_and_are_positive_where_an_arm_is_better() -> None:
    base = [2.0] * 10
    local = [1.5] * 8 + [2.5] * 2
    full = [1.0] * 7 + [1.5] * 1 + [2.0] * 2
    found = _summaries([*rows_of("base", base), *rows_of("local", local), *rows_of("full", full)])
    one = found["full"]
    assert one.gain_over_base is not None
    assert one.gain_over_base.value == pytest.approx(0.75)
    assert one.gain_over_local is not None
    assert one.gain_over_local.value == pytest.approx(0.45)
    assert one.better_than_local is not None
    assert one.better_than_local.value == pytest.approx(0.9)  # one user of ten ties, and is not counted
    assert one.harmed is not None
    assert one.harmed.value == 0.0  # two users tie with the base, and are not harmed
    assert found["local"].harmed is not None
    assert found["local"].harmed.value == pytest.approx(0.2)
    assert one.worst_over_local is not None
    assert one.worst_over_local.value == pytest.approx(0.5)


def test_an_arm_is_not_compared_with_itself_nor_with_one_that_was_not_run() -> None:
    found = _summaries([*rows_of("base", HUNDRED), *rows_of("local", HUNDRED)])
    assert found["base"].gain_over_base is None
    assert found["base"].harmed is None
    assert found["local"].gain_over_local is None
    assert found["local"].better_than_local is None
    assert found["local"].worst_over_local is None
    assert found["local"].gain_over_base is not None
    assert found["local"].gain_over_global is None


def test_pairing_takes_out_what_users_differ_by() -> None:
    found = _summaries([*rows_of("base", HUNDRED), *rows_of("full", [v - 0.5 for v in HUNDRED])])["full"]
    assert found.gain_over_base is not None
    gain = found.gain_over_base
    assert (gain.low, gain.value, gain.high) == pytest.approx((0.5, 0.5, 0.5), abs=1e-12)
    assert found.mean.low is not None
    assert found.mean.low < 46


def test_seeds_are_averaged_within_a_user() -> None:
    rows = [*rows_of("base", [2.0] * 6)]
    for seed, shift in enumerate((0.0, 0.3, -0.6)):
        rows += rows_of("full", [2.0 + shift] * 6, seed=seed)
    found = _summaries(rows)["full"]
    assert found.num_users == 6
    assert found.mean.value == pytest.approx(1.9)
    assert found.harmed is not None
    assert found.harmed.value == 0.0  # worse under one seed of three, better on average


def test_more_is_better_for_accuracy() -> None:
    base = [row(i, accuracy=0.5) for i in range(10)]
    full = [row(i, arm="full", accuracy=0.1 * i) for i in range(10)]
    made = panel([*base, *full], "federated", ACCURACY)
    assert made is not None
    found = {s.arm: s for s in summarise(made, ROLES)}["full"]
    assert found.worst_decile.value == pytest.approx(0.0)
    assert found.gain_over_base is not None
    assert found.gain_over_base.value == pytest.approx(-0.05)
    assert found.harmed is not None
    assert found.harmed.value == pytest.approx(0.5)
    assert found.worst_decile.low is not None
    assert found.worst_decile.high is not None
    assert found.worst_decile.low <= found.worst_decile.value <= found.worst_decile.high


def test_cold_users_are_apart_and_a_measure_that_nobody_has_has_no_panel() -> None:
    rows = [*rows_of("base", [1.0] * 5), *rows_of("base", [3.0] * 5, first=50, group="cold")]
    assert _panel(rows).column("base").tolist() == [1.0] * 5
    cold = panel(rows, "cold", BITS)
    assert cold is not None
    assert cold.column("base").tolist() == [3.0] * 5
    assert panel(rows, "federated", ACCURACY) is None


def test_a_panel_splits_by_language_largest_first() -> None:
    made = _panel([row(i, bits_per_byte=float(i), language=word) for i, word in enumerate("abbcbc")])
    parts = made.split(lambda user: user.language)
    assert [(key, part.column("base").tolist()) for key, part in parts.items()] == [
        ("b", [1.0, 2.0, 4.0]),
        ("c", [3.0, 5.0]),
        ("a", [0.0]),
    ]
    assert [user.language for user in parts["c"].users] == ["c", "c"]


def test_arms_that_cannot_be_paired_are_refused() -> None:
    rows = [*rows_of("base", [1.0] * 6), *rows_of("local", [1.0] * 5)]
    with pytest.raises(DataError, match="arm local has 0 rows, not 1, for user"):
        panel(rows, "federated", BITS)
    rows = [*rows_of("base", [1.0] * 6), *rows_of("base", [1.0] * 5, seed=1)]
    with pytest.raises(DataError, match="arm base has 1 rows, not 2, for user"):
        panel(rows, "federated", BITS)
    with pytest.raises(DataError, match="differ between rows of user"):
        panel([row(0), row(0, arm="local", language="fr")], "federated", BITS)
