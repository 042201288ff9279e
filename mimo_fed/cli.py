"""`mimo-fed`: one command for every application; each adds its own through an entry point.

A package that has commands names a function `register(app: typer.Typer) -> None` in the entry-point group
`mimo_fed.commands`. The module that holds it must import fast and without the extras: whatever needs
torch, flwr or a database is imported inside the command. So `mimo-fed --help` stays quick, and a server
without torch, or a device without a database, has every command that it can run.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import entry_points
from typing import Annotated, NoReturn

import typer

from mimo_fed import __version__
from mimo_fed.errors import MimoFedError

COMMANDS_GROUP = "mimo_fed.commands"
CORE_MODULES = (
    "mimo_fed.demo.cli",
    "mimo_fed.data.cli",
    "mimo_fed.adapter.cli",
    "mimo_fed.simulate.cli",
    "mimo_fed.evaluate.cli",
    "mimo_fed.bench.cli",
)

EXAMPLES = """
Examples:

  mimo-fed demo                              the whole loop on this machine, eight devices, real processes

  mimo-fed chat --device NAME                talk to one device's model, base and personal side by side

  mimo-fed data inspect                      whose text the demo's devices hold

  mimo-fed simulate --demo                   rounds over many devices, in this one process

  mimo-fed evaluate SET --quick              does it help? several ways to train, user by user

  mimo-fed bench secagg                      what secure aggregation costs on this machine

  mimo-fed round verify RELEASE              check that a release's sums were opened once, for enough devices

  mimo-fed registry serve --help             every command says what it needs
"""


def build_app() -> typer.Typer:
    """Build the command with everything that is installed registered on it."""
    app = typer.Typer(
        name="mimo-fed",
        help="Federated personalization of the MiMo language model: private training, encrypted sums.",
        epilog=EXAMPLES,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    absent = [note for load in _registrations() if (note := _register(load, app))]
    if absent:
        app.info.epilog = EXAMPLES + "\nNot available here:\n\n" + "\n\n".join(absent)
    return app


def _registrations() -> Iterator[Callable[[], Callable[[typer.Typer], None]]]:
    for module in CORE_MODULES:
        yield partial(_core_register, module)
    for entry in sorted(entry_points(group=COMMANDS_GROUP)):
        yield entry.load


def _core_register(module: str) -> Callable[[typer.Typer], None]:
    register: Callable[[typer.Typer], None] = importlib.import_module(module).register
    return register


def _register(load: Callable[[], Callable[[typer.Typer], None]], app: typer.Typer) -> str:
    """Add one package's commands; a package that is not installed becomes a line of `--help`."""
    try:
        register = load()
    except ModuleNotFoundError as error:
        return f"  {error.name} is not installed"
    register(app)
    return ""


def main() -> NoReturn:
    """Run the command line; an error of ours becomes a message, a hint and exit code 1."""
    try:
        build_app()()
    except MimoFedError as error:
        print_error(error, as_json="--json" in sys.argv[1:])
        sys.exit(1)
    sys.exit(0)


def print_error(error: MimoFedError, *, as_json: bool) -> None:
    """Say what went wrong: two lines on standard error, or one JSON object on standard output."""
    if as_json:
        typer.echo(json.dumps({"error": {"code": error.code, "message": error.message, "hint": error.hint}}))
        return
    typer.secho(f"error: {error.message}", fg="red", err=True)
    if error.hint:
        typer.secho(f"hint: {error.hint}", err=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mimo-fed {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
