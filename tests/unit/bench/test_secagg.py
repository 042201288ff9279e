"""The bench of our own protocol: real rounds, real sums, one document."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from mimo_fed.bench import plot, table
from mimo_fed.bench.cli import register
from mimo_fed.bench.contributor import make_vector
from mimo_fed.bench.coordinator import CoordinatorWork
from mimo_fed.bench.memory import in_child
from mimo_fed.bench.secagg import round_figures
from mimo_fed.errors import ConfigError, LocalProtocolError
from mimo_fed.secagg.backends.numpy_backend import NumpyBackend

STABLE_KEYS = {
    "protect_ns_per_param": {"numba", "numpy"},
    "unmask_ns_per_param": {"0", "0.2", "0.4"},
    "add_vs_plain_sum": {"u16", "u32"},
    "coordinator_peak_mb": {"3"},
}


@pytest.fixture(scope="module")
def document() -> Any:
    options = ["--params", "20_000", "--repeat", "1", "--skip-comparators", "--devices", "3", "--json"]
    result = CliRunner().invoke(command(), ["bench", "secagg", *options], catch_exceptions=False)
    return json.loads(result.stdout)


def command() -> typer.Typer:
    app = typer.Typer()
    register(app)
    return app


def test_the_document_has_every_stable_key(document: Any) -> None:
    for key, inner in STABLE_KEYS.items():
        assert set(document[key]) == inner
    assert document["protect_ns_per_param"]["numpy"] > 0
    assert document["upload_overhead"] > 0
    assert document["member_ms_per_contribution"] > 0
    assert {"machine", "versions", "params", "goals", "vs", "skipped"} <= set(document)
    assert document["params"] == 20_000


def test_a_message_is_its_words_and_what_the_committee_needs(document: Any) -> None:
    client = document["client"]
    assert 2 * 20_000 + 64 * 1100 < client["bytes"] < 2 * 20_000 + 64 * 4000
    assert document["upload_overhead"] == pytest.approx(client["bytes"] / 40_000 - 1, rel=1e-3)


def test_no_name_of_the_host_is_in_the_document(document: Any) -> None:
    import platform

    assert platform.node() not in json.dumps(document["machine"])


def test_people_see_every_goal(document: Any) -> None:
    out = io.StringIO()
    table.show(document, Console(file=out, width=100))
    for goal in document["goals"]:
        assert goal["figure"] in out.getvalue()
    assert "not measured" in out.getvalue()


def test_a_sum_that_comes_out_wrong_stops_the_bench() -> None:
    class Wrong(NumpyBackend):
        def unmask(self, **arguments: Any) -> Any:
            total_D = super().unmask(**arguments)
            total_D[0] += 1e8
            return total_D

    with pytest.raises(LocalProtocolError, match="not the sum"):
        CoordinatorWork(make_vector(3000), Wrong())


def test_an_update_needs_no_clipping() -> None:
    assert 10 < np.linalg.norm(make_vector(5000)) < 12


def test_a_coordinator_holds_sums_and_not_contributions() -> None:
    found = in_child("mimo_fed.bench.coordinator_memory", 40, 1_000_000)
    assert 6e6 < found["peak_bytes"] < 40e6, "40 contributions weigh 84 MB, a sum 2 MB, its opening 8 MB"


def test_figures_are_rounded_to_four_digits() -> None:
    assert round_figures({"a": [1.234567, 123456.0], "b": 1234567, "c": None}) == {
        "a": [1.235, 123500.0],
        "b": 1234567,
        "c": None,
    }


@pytest.mark.parametrize("name", ["bench.svg", "bench.png"])
def test_a_figure_shows_ours_beside_the_others(document: Any, tmp_path: Path, name: str) -> None:
    other = {"client_s": 0.01, "bytes": 160_000}
    plot.write_plot(document | {"vs": {"flower_32": other}}, tmp_path / name)
    written = (tmp_path / name).read_bytes()
    assert written.startswith(b"<?xml" if name.endswith("svg") else b"\x89PNG")
    if name.endswith("svg"):
        assert b"Flower SecAgg+, 32 neighbours" in written


def test_a_figure_of_another_kind_is_refused_before_anything_is_measured() -> None:
    result = CliRunner().invoke(command(), ["bench", "secagg", "--plot", "bench.pdf"])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith("a figure is written as .svg or .png, not: bench.pdf")


def test_a_length_that_is_not_a_number_is_refused() -> None:
    result = CliRunner().invoke(command(), ["bench", "secagg", "--params", "many"])
    assert result.exit_code == 2
    assert "many" in result.output
