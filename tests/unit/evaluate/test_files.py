"""What is written is read back; what is malformed is refused with its line; no field can hold a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mimo_fed.errors import DataError
from mimo_fed.evaluate import files
from mimo_fed.evaluate.records import FIELDS
from tests.unit.evaluate.rows import arm_record, results, row, rows_of


def test_rows_are_read_back_as_written(tmp_path: Path) -> None:
    rows = (
        row(0, accuracy=0.25, encrypted=True),
        row(1, arm="global + cohort", seed=2),
        row(2, group="cold"),
    )
    files.write_rows(tmp_path / "users.csv", rows)
    assert files.read_rows(tmp_path / "users.csv") == rows
    assert list(tmp_path.iterdir()) == [tmp_path / "users.csv"]


def test_the_header_and_a_line_are_exactly_these(tmp_path: Path) -> None:
    files.write_rows(tmp_path / "users.csv", [row(0, bits_per_byte=1.23456789)])
    header, line = (tmp_path / "users.csv").read_text().splitlines()
    assert header == (
        "dataset,base,arm,seed,user,group,language,device_class,rank,train_bytes,test_bytes,"
        "bits_per_byte,accuracy,encrypted"
    )
    assert line == "synthetic,mimo-nano,base,0,5feceb66ffc8,federated,de,watch,4,1000,500,1.234568,,false"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((4, "Ada Lovelace"), "a user is 8 to 64 hexadecimal digits, not: Ada Lovelace"),
        ((5, "warm"), "group is federated or cold"),
        ((3, "one"), "seed cannot be: 'one'"),
        ((8, "-1"), "rank is at least 0"),
        ((10, "0"), "test_bytes is at least 1"),
        ((11, "nan"), "bits_per_byte is a number"),
        ((11, "-0.1"), "bits_per_byte is a number"),
        ((12, "1.5"), "accuracy is from 0 to 1"),
        ((13, "yes"), "encrypted cannot be"),
        ((2, "=cmd()"), "arm is a plain name"),
        ((6, "a text, with\na line"), "language is a plain name"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, change: tuple[int, str], message: str) -> None:
    path = tmp_path / "users.csv"
    files.write_rows(path, rows_of("base", [1.0, 2.0, 3.0]))
    lines = path.read_text().splitlines()
    cells = lines[2].split(",")
    cells[change[0]] = f'"{change[1]}"'
    lines[2] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"users\.csv, line [34]: ") as stop:
        files.read_rows(path)
    assert message in str(stop.value)


def test_a_short_line_another_header_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text(",".join(FIELDS) + "\nsynthetic,mimo-nano\n")
    with pytest.raises(DataError, match="line 2: 14 cells are needed, not 2"):
        files.read_rows(path)
    path.write_text("user,arm\n")
    with pytest.raises(DataError, match="line 1: the header is not"):
        files.read_rows(path)
    path.write_text("")
    with pytest.raises(DataError, match="line 1: the header is not"):
        files.read_rows(path)
    with pytest.raises(DataError, match=r"cannot read .*absent\.csv"):
        files.read_rows(tmp_path / "absent.csv")


def test_a_second_row_for_the_same_user_arm_and_seed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    with pytest.raises(DataError, match="a second row for arm base, seed 0, user"):
        files.write_rows(path, [row(0), row(0)])
    files.write_rows(path, [row(0), row(1)])
    text = path.read_text()
    path.write_text(text + text.splitlines()[1] + "\n")
    with pytest.raises(DataError, match="line 4: a second row"):
        files.read_rows(path)


def test_results_are_read_back_as_written(tmp_path: Path) -> None:
    history = ({"round": 1, "phase": "B", "cohort": "", "loss_before": 3.5},)
    made = results(arm_record(), arm_record("global", 1, rounds=4, history=history))
    files.write_results(tmp_path / "results.json", made)
    assert files.read_results(tmp_path / "results.json") == made
    assert made.key == "synthetic/mimo-nano"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 2, "format: "),
        (("surprise",), 1, "surprise: "),
        (("command",), 7, "command: "),
        (("arms", 0, "rounds"), "4", "arms.0.rounds: "),
        (("arms", 0, "history"), [1], "arms.0.history.0: "),
        (("arms", 0, "learning_rate"), -1.0, "learning_rate of an arm"),
        (("roles", "local"), "<b>", "role local is a plain name"),
    ],
)
def test_a_malformed_field_is_named(tmp_path: Path, path: tuple[Any, ...], value: Any, message: str) -> None:
    file = tmp_path / "results.json"
    files.write_results(file, results())
    document = json.loads(file.read_text())
    inner = document
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    file.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"results\.json: ") as stop:
        files.read_results(file)
    assert message in str(stop.value)


def test_what_is_no_json_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{\n"format": 1,\n}')
    with pytest.raises(DataError, match="line 3"):
        files.read_results(tmp_path / "results.json")


def test_rows_of_another_run_are_refused(tmp_path: Path) -> None:
    files.write_folder(tmp_path / "run", results(), [row(0), row(1, base="mimo-smol")])
    with pytest.raises(
        DataError, match=r"line 3: synthetic/mimo-smol is not of results\.json's synthetic/mimo-nano"
    ):
        files.read_folder(tmp_path / "run")
    files.write_folder(tmp_path / "run", results(), [])
    with pytest.raises(DataError, match="no row in"):
        files.read_folder(tmp_path / "run")
    files.write_folder(tmp_path / "run", results(), [row(0)])
    assert files.read_folder(tmp_path / "run") == (results(), (row(0),))
