import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mimo_fed.data.cli import parse_languages, register
from mimo_fed.data.extract import load_extract
from mimo_fed.errors import ConfigError
from tests.unit.data.archive import SUITE, write_archive

APP = typer.Typer()
register(APP)


def run(*arguments: str):
    return CliRunner().invoke(APP, ["data", *arguments])


def test_inspect_shows_every_device_whole_in_eighty_columns() -> None:
    result = run("inspect")
    assert result.exit_code == 0
    assert "…" not in result.output
    for shown in ("kitchen-fridge", "wrist-watch", "city-car", "(it)", "tablet", "bookworm"):
        assert shown in result.output


def test_inspect_json_has_sizes_and_no_texts() -> None:
    result = json.loads(run("inspect", "--json").output)
    assert len(result["devices"]) == 8
    assert all(device["splits"]["test"]["characters"] > 1000 for device in result["devices"])
    assert result["provenance"]["suite"] == "bookworm"


def test_build_from_a_folder(tmp_path: Path) -> None:
    write_archive(tmp_path / "lists")
    arguments = ["--from", str(tmp_path / "lists"), "--suite", SUITE, "--languages", "it:2,en:1"]
    result = run("build", "debian", "--out", str(tmp_path / "out"), *arguments, "--json")
    assert result.exit_code == 0
    assert [device["language"] for device in json.loads(result.output)["devices"]] == ["it", "en", "it"]
    assert len(load_extract(tmp_path / "out")) == 3


@pytest.mark.parametrize("arguments", [[], ["--from", "a", "--mirror", "http://127.0.0.1:9"]])
def test_build_needs_one_source(tmp_path: Path, arguments: list[str]) -> None:
    result = run("build", "debian", "--out", str(tmp_path / "out"), *arguments)
    assert isinstance(result.exception, ConfigError)
    assert not (tmp_path / "out").exists()


def test_languages_are_read_or_refused() -> None:
    assert parse_languages("it:4, pt_BR:2") == {"it": 4, "pt_BR": 2}
    for wrong in ("", "it", "it:x", "it:-1", "it:1,it:2", "../x:1"):
        with pytest.raises(ConfigError):
            parse_languages(wrong)


def test_the_command_is_there_without_the_extras() -> None:
    heavy = ("numpy", "torch", "httpx", "rich.progress", "flwr")
    program = f"import sys, mimo_fed.data.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
