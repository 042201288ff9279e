"""The command line: what every application may rely on."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NoReturn

import click
import pytest
import typer
from typer.testing import CliRunner

from mimo_fed import __version__, cli
from mimo_fed.errors import RegistryError


def _run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mimo_fed.cli", *args], capture_output=True, text=True, check=False
    )


def test_version_is_printed() -> None:
    assert _run("--version").stdout == f"mimo-fed {__version__}\n"


def test_help_needs_no_model_no_database_and_no_flower() -> None:
    code = (
        "import sys; sys.argv = ['mimo-fed', '--help']\n"
        "from mimo_fed.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'flwr', 'sqlalchemy', 'tuf', 'fastapi'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Examples" in done.stdout


def test_an_uninstalled_package_is_a_line_of_help_not_a_crash() -> None:
    def load() -> NoReturn:
        raise ModuleNotFoundError("No module named 'flwr'", name="flwr")

    assert cli._register(load, typer.Typer()) == "  flwr is not installed"


def test_our_errors_are_a_message_a_hint_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _break_the_registry(monkeypatch, "break")
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: refused: 403\nhint: use the admin token\n"


def test_our_errors_are_json_where_json_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _break_the_registry(monkeypatch, "break", "--json")
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert json.loads(capsys.readouterr().out) == {
        "error": {"code": "registry", "message": "refused: 403", "hint": "use the admin token"}
    }


def test_every_command_explains_itself() -> None:
    runner = CliRunner()
    group = typer.main.get_command(cli.build_app())
    assert runner.invoke(cli.build_app(), ["--help"]).exit_code == 0
    pending: list[tuple[tuple[str, ...], click.Command]] = [((), group)]
    while pending:
        path, command = pending.pop()
        assert path == () or command.help, f"no help: {' '.join(path)}"
        pending += [((*path, name), child) for name, child in getattr(command, "commands", {}).items()]


def _break_the_registry(monkeypatch: pytest.MonkeyPatch, *args: str) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.callback()
    def root() -> None: ...

    @app.command("break")
    def break_it(json_: bool = typer.Option(False, "--json")) -> None:
        raise RegistryError("refused: 403", hint="use the admin token")

    monkeypatch.setattr(cli, "build_app", lambda: app)
    monkeypatch.setattr(sys, "argv", ["mimo-fed", *args])
