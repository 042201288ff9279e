"""Commands of the device's side: `agent` and `chat`.

Imports are inside the commands, so that `--help` needs neither torch nor a network library.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mimo_fed_client.settings import AgentSettings

Config = Annotated[Path, typer.Option("--config", help="The agent's TOML file.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]

AGENT_EXAMPLES = """
Examples:

  mimo-fed agent enrol --config phone/agent.toml

  mimo-fed agent run --config phone/agent.toml

  mimo-fed agent status --config phone/agent.toml --json

  mimo-fed agent report --config phone/agent.toml
"""

CHAT_EXAMPLES = """
Examples:

  mimo-fed chat --device red-phone

  mimo-fed chat --device red-phone --message "Describe a text editor." --json

  mimo-fed chat --device kitchen-fridge --run runs/other
"""


def register(app: typer.Typer) -> None:
    """Add the device's commands."""
    agent = typer.Typer(help="The agent of one device.", no_args_is_help=True)
    agent.command("enrol", epilog=AGENT_EXAMPLES)(agent_enrol)
    agent.command("run", epilog=AGENT_EXAMPLES)(agent_run)
    agent.command("status", epilog=AGENT_EXAMPLES)(agent_status)
    agent.command("report", epilog=AGENT_EXAMPLES)(agent_report)
    app.add_typer(agent, name="agent")
    app.command("chat", epilog=CHAT_EXAMPLES)(chat)


def agent_enrol(config: Config, as_json: Json = False) -> None:
    """Make this device's key and get a certificate for it, with the one-time token of the settings."""
    from mimo_fed_client.identity import enrol_device
    from mimo_fed_client.lock import only_agent

    settings = _settings(config)
    with only_agent(settings.home):
        certificate = enrol_device(settings).certificate
    made = {
        "device": certificate.device_id,
        "serial": certificate.serial,
        "public_key": certificate.public_key.hex(),
        "not_after_s": certificate.not_after_s,
    }
    _tell(made, [f"{certificate.device_id} is enrolled, certificate {certificate.serial}"], as_json)


def agent_run(config: Config) -> None:
    """Run the agent until it is stopped (Ctrl-C or SIGTERM): train, seal, install, report."""
    import signal
    import threading
    from types import FrameType

    from mimo_fed_client.status import TEST_ONLY

    settings = _settings(config)
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    if settings.policy.test_only:
        typer.secho(TEST_ONLY, fg="red", bold=True, err=True)
    from mimo_fed_client.agent import Agent

    with Agent(settings, stop=stop) as agent:
        release = agent.installer.release
        serving = f"release {release}" if release >= 0 else "the base alone"
        typer.echo(f"{settings.device_id} serves {serving} and answers {settings.superlink}")
        agent.run()
    typer.echo(f"{settings.device_id} stopped")


def agent_status(config: Config, as_json: Json = False) -> None:
    """Show what a device is doing and what it serves; its agent need not run."""
    from mimo_fed_client.status import status, status_lines

    found = status(_settings(config))
    _tell(found, status_lines(found), as_json)


def agent_report(config: Config, as_json: Json = False) -> None:
    """Show what a device measured on its own text; these figures never leave it."""
    from mimo_fed_client.status import read_report, report_lines

    report = read_report(_settings(config))
    _tell(report, report_lines(report), as_json)


def chat(
    device: Annotated[str, typer.Option("--device", help="Name of a device of the run.")],
    run: Annotated[Path, typer.Option("--run", help="Folder of the run.")] = Path("runs/demo"),
    message: Annotated[str | None, typer.Option("--message", "-m", help="Ask this and end.")] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Longest answer.", min=1)] = 96,
    as_json: Json = False,
) -> None:
    """Talk to one device's model: base and personal answers side by side."""
    from rich.console import Console

    from mimo_fed_client.chat import chat as talk
    from mimo_fed_client.chat import find_device

    settings = find_device(run, device)
    console = Console(stderr=as_json)
    talk(settings, message=message, as_json=as_json, max_new_tokens=max_tokens, console=console)


def _settings(config: Path) -> AgentSettings:
    from mimo_fed_client.settings import load_settings

    return load_settings(config)


def _tell(value: Any, lines: list[str], as_json: bool) -> None:
    typer.echo(json.dumps(value) if as_json else "\n".join(lines))
