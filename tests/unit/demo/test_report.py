"""The report holds what was measured, warns where it must, and does not flatter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mimo_fed.config import RoundConfig
from mimo_fed.demo import report
from mimo_fed.errors import DataError
from tests.unit.demo.records import CARDS, MEASURED, RECORDS, built, measured


def test_the_report_has_exactly_the_promised_fields() -> None:
    found = built()
    assert set(found) == {"devices", "rounds", "base", "settings", "claims", "wall_s"}
    assert set(found["devices"][0]) == {
        *("name", "author", "language", "translated", "device_class", "rank"),
        *("bpb", "lambda", "bytes_up", "bytes_down", "seconds"),
    }
    assert set(found["devices"][0]["bpb"]) == {"base", "global", "personal"}
    assert set(found["devices"][0]["seconds"]) == {"train", "protect", "network", "verify", "swap"}
    assert set(found["rounds"][0]) == {
        *("round_id", "kind", "cohort", "survivors", "dropouts", "quorum_digest", "release"),
        *("votes", "clipped"),
        *("sums", "loss_before", "loss_after", "seconds"),
    }
    assert set(found["rounds"][0]["sums"][0]) == {"name", "num_devices", "opened"}


def test_rounds_come_in_the_order_they_ran() -> None:
    assert [r["round_id"][:-9] for r in built()["rounds"]] == ["train-1", "evaluate-2", "train-3"]


def test_settings_warn_of_a_small_n_min_and_of_no_differential_privacy() -> None:
    settings = built()["settings"]
    assert settings["n_min"] == 3
    assert "test-only" in settings["n_min_label"]
    assert settings["privacy"] == "research: NO DIFFERENTIAL PRIVACY"
    assert report.settings_record(RoundConfig(), rounds=1, devices=16)["n_min_label"] == ""


def test_claims_count_devices_and_compare_means() -> None:
    assert built()["claims"] == {"personal_beats_base": 3, "global_beats_base_mean": True}
    assert [line.split(":")[0] for line in report.verdicts(built())] == ["held", "held"]


def test_a_claim_that_fails_is_said_plainly() -> None:
    worse = {name: measured(2.0, 2.1, 2.0) for name in MEASURED}
    found = report.build(CARDS, worse, RECORDS, base="b", settings={}, wall_s=1)
    assert found["claims"] == {"personal_beats_base": 0, "global_beats_base_mean": False}
    assert report.verdicts(found) == (
        "DID NOT HOLD: global + personal beats base on the test split, 0 of 3 devices",
        "DID NOT HOLD: global alone beats base on the mean, 2.000 -> 2.100 bits per byte",
    )


def test_a_device_without_a_report_is_named() -> None:
    with pytest.raises(DataError, match="devices without a report: car-1"):
        report.build(
            CARDS,
            {k: v for k, v in MEASURED.items() if k != "car-1"},
            RECORDS,
            base="b",
            settings={},
            wall_s=1,
        )


@pytest.mark.parametrize(
    "bad", [{"bpb": {"base": 1.0}}, {"bpb": None}, {"lambda": "much"}, {"lambda": float("nan")}]
)
def test_a_missing_or_senseless_figure_is_an_error(bad: dict[str, object]) -> None:
    with pytest.raises(DataError, match="watch-1"):
        report.device_row(CARDS[0], {**MEASURED["watch-1"], **bad})


def test_a_record_without_its_sums_is_an_error() -> None:
    record = {k: v for k, v in RECORDS[0].items() if k != "sums"}
    with pytest.raises(DataError, match="train-3"):
        report.round_row(record)


def test_the_file_reads_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report.write_json(path, built())
    assert report.read_json(path) == built()
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_a_file_that_is_no_object_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"report\.json"):
        report.read_json(path)
    with pytest.raises(DataError, match="missing"):
        report.read_json(tmp_path / "missing.json")


def test_the_report_is_plain_json() -> None:
    assert json.loads(json.dumps(built(), allow_nan=False)) == built()
