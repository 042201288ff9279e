"""`mimo-fed evaluate`, as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mimo_fed.cli import build_app
from mimo_fed.errors import ConfigError
from mimo_fed.evaluate.cli import command, parse_rates
from tests.unit.evaluate.population import write_set

COUNTS = ["--rounds", "2", "--steps", "4", "--seeds", "1", "--seq-len", "16"]
SHORT = [*COUNTS, "--rates", "1e-2", "--workers", "1"]


def call(*arguments: str) -> str:
    result = CliRunner().invoke(build_app(), ["evaluate", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_a_run_a_report_and_a_page(tmp_path: Path) -> None:
    folder, out, docs = write_set(tmp_path / "homes", intents=True), tmp_path / "out", tmp_path / "page.md"
    arms = "local,default+personal"
    printed = call(str(folder), *SHORT, "--arms", arms, "--out", str(out), "--docs", str(docs), "--json")

    document = json.loads(printed)
    assert (document["dataset"], document["base"]) == ("homes", "mimo-nano")
    federated = document["groups"]["federated"]
    assert set(federated) == {"bits_per_byte", "accuracy"}
    assert set(federated["accuracy"]) == {"base", "local only", "default+personal"}
    assert federated["bits_per_byte"]["default+personal"]["better_than_local"]["value"] is not None
    assert "homes on mimo-nano" in docs.read_text(encoding="utf-8")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert str(tmp_path) not in page, "a published page says nothing of where it was made"

    (out / "report.html").unlink()
    assert json.loads(call("--report-only", "--out", str(out), "--json")) == document
    assert (out / "report.html").exists()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no set of users is named"):
        call("--quick")
    with pytest.raises(ConfigError, match="no run to report on"):
        call("--report-only")
    with pytest.raises(ConfigError, match="either --quick or --full"):
        call(str(tmp_path), "--quick", "--full")


def test_rates_are_read() -> None:
    assert parse_rates("1e-3,0.01") == (1e-3, 0.01)
    with pytest.raises(ConfigError, match="not numbers"):
        parse_rates("fast,slow")


def test_the_command_hides_absolute_paths() -> None:
    assert command(["evaluate", "/home/somebody/sets/debian", "--seeds", "3"]) == (
        "mimo-fed evaluate debian --seeds 3"
    )
