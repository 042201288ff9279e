"""Commands of a helper organisation: `helper`.

Imports are inside the commands, so that `--help` needs no network library.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimo_fed_client.commands import stop_on_signals, tell, tell_enrolled

if TYPE_CHECKING:
    from mimo_fed_client.helper_settings import HelperSettings

Settings = Annotated[Path, typer.Option("--config", help="The helper's TOML file.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]

HELPER_EXAMPLES = """
Examples:

  mimo-fed helper init --config helper.toml

  mimo-fed helper enrol --config helper.toml

  mimo-fed helper run --config helper.toml

  mimo-fed helper status --config helper.toml --json

A helper.toml:

  helper_id = "consumer-body"

  home = "helper"

  superlink = "gate.example:8093"

  root_certificates = "ca.pem"

  registry_url = "https://registry.example"

  root_file = "root.json"

  authority_url = "https://authority.example"

  token_file = "token"
"""


def register(app: typer.Typer) -> None:
    """Add the helper's commands."""
    helper = typer.Typer(
        help="A helper organisation: opens sums with the others, holds no model.", no_args_is_help=True
    )
    helper.command("init", epilog=HELPER_EXAMPLES)(helper_init)
    helper.command("enrol", epilog=HELPER_EXAMPLES)(helper_enrol)
    helper.command("run", epilog=HELPER_EXAMPLES)(helper_run)
    helper.command("status", epilog=HELPER_EXAMPLES)(helper_status)
    app.add_typer(helper, name="helper")


def helper_init(settings: Settings, as_json: Json = False) -> None:
    """Make this organisation's key and print its public half, for the fleet's owner to pin.

    A key that is there is kept. The public key is 64 hexadecimal digits, no longer than a fingerprint of it
    would be: compare all of them.
    """
    from mimo_fed_client.identity import own_key
    from mimo_fed_client.lock import only_agent

    found = _settings(settings)
    with only_agent(found.home):
        public_key = own_key(found).public_key.hex()
    tell({"helper": found.helper_id, "public_key": public_key}, [public_key], as_json)


def helper_enrol(settings: Settings, as_json: Json = False) -> None:
    """Get a certificate for this organisation's key, with the one-time token of the settings."""
    from mimo_fed_client.identity import enrol_device
    from mimo_fed_client.lock import only_agent

    found = _settings(settings)
    with only_agent(found.home):
        certificate = enrol_device(found).certificate
    tell_enrolled("helper", certificate, as_json)


def helper_run(settings: Settings) -> None:
    """Open sums with the other organisations until stopped (Ctrl-C or SIGTERM)."""
    from mimo_fed_client.helper import Helper
    from mimo_fed_client.helper_settings import TEST_ONLY

    found = _settings(settings)
    stop = stop_on_signals()
    if found.policy.test_only:
        typer.secho(TEST_ONLY, fg="red", bold=True, err=True)
    with Helper(found, stop=stop) as helper:
        typer.echo(f"{found.helper_id} helps with key {helper.identity.key.public_key.hex()}")
        helper.run()
    typer.echo(f"{found.helper_id} stopped")


def helper_status(settings: Settings, as_json: Json = False) -> None:
    """Show whether it runs, is enrolled and pinned, and each round with its opened sums; it need not run."""
    from mimo_fed_client.helper_status import helper_status as status
    from mimo_fed_client.helper_status import status_lines

    found = status(_settings(settings))
    tell(found, status_lines(found), as_json)


def _settings(path: Path) -> HelperSettings:
    from mimo_fed_client.helper_settings import load_helper_settings

    return load_helper_settings(path)
