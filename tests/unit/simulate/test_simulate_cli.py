"""`mimo-fed simulate`, as a person and as a program call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mimo_fed.cli import build_app
from mimo_fed.data import load_demo
from mimo_fed.errors import ConfigError
from mimo_fed.simulate.cli import names_of, read_shares, shells_up_to

SMALL = ["--steps", "1", "--batch-size", "1", "--seq-len", "16", "--rank", "4", "--rounds", "1"]


def simulate(out: Path, *options: str) -> str:
    command = ["simulate", "--demo", "--no-encryption", *SMALL, "--out", str(out), *options]
    result = CliRunner().invoke(build_app(), command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_report_for_programs_has_every_arm_and_device(tmp_path: Path) -> None:
    out = simulate(tmp_path, "--json", "--cohorts", "language", "--personal-steps", "1")
    report = json.loads(out)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert list(report["bits_per_byte"]) == ["base", "global", "cohort", "personal"]
    assert set(report["users"]) == {device.name for device in load_demo()}
    worst = max(user["base"] for user in report["users"].values())
    assert report["bits_per_byte"]["base"]["worst_decile"] == pytest.approx(worst)
    assert [(entry["round"], entry["cohort"]) for entry in report["history"]] == [(1, ""), (1, "it")]
    assert "text" not in report["settings"]


def test_a_person_sees_a_line_a_round_and_two_tables(tmp_path: Path) -> None:
    out = simulate(tmp_path)
    assert "round 1/1, phase B: 8 of 8 devices, loss" in out
    assert "bits per byte on test text" in out
    assert "loss by round" in out
    assert "8 of 8 devices" not in simulate(tmp_path), "a run that is done has no round left"


def test_what_only_one_process_can_do_is_refused_on_ray(tmp_path: Path) -> None:
    options = ["--engine", "ray", "--no-encryption", "--dropout", "0.5", "--out", str(tmp_path)]
    with pytest.raises(ConfigError, match="--no-encryption, --dropout"):
        CliRunner().invoke(build_app(), ["simulate", "--demo", *SMALL, *options], catch_exceptions=False)


def test_devices_must_be_named() -> None:
    with pytest.raises(ConfigError, match="needs devices"):
        CliRunner().invoke(build_app(), ["simulate"], catch_exceptions=False)


def test_what_is_written_in_options_is_read() -> None:
    assert shells_up_to(16) == (4, 8, 16)
    assert read_shares("watch:0.25,fridge:0.5") == (("watch", 0.25), ("fridge", 0.5))
    assert names_of(load_demo(), "language", 3) == ("it",)
    with pytest.raises(ConfigError, match="12"):
        shells_up_to(12)
    with pytest.raises(ConfigError, match="watch=1"):
        read_shares("watch=1")
    with pytest.raises(ConfigError, match="no language"):
        names_of(load_demo(), "language", 5)
