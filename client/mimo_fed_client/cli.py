"""Commands of the device's side: `agent`, `chat`, `round` and `helper`.

Imports are inside the commands, so that `--help` needs neither torch nor a network library.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimo_fed.errors import ConfigError
from mimo_fed_client import helper_cli
from mimo_fed_client.commands import stop_on_signals, tell, tell_enrolled

if TYPE_CHECKING:
    from mimo_fed_client.audit import Finding, Source
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

ROUND_EXAMPLES = """
Examples:

  mimo-fed round verify latest --home phone

  mimo-fed round verify 12 --registry https://registry.example --root root.json

  mimo-fed round verify latest --channel stable --home phone --json

  mimo-fed round verify 3 --home phone --file round.evidence

  mimo-fed round verify --home phone --file round.evidence

RELEASE is a number or `latest`. --home is the folder of a device's agent.toml, which names registry and root.
With --file a copy of the evidence is checked; without RELEASE, against the registry's keys alone, as for a
release that is not listed. Ends with 1 if the evidence does not hold.
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
    rounds = typer.Typer(help="What anybody can check of a round.", no_args_is_help=True)
    rounds.callback()(_rounds)
    rounds.command("verify", epilog=ROUND_EXAMPLES)(round_verify)
    app.add_typer(rounds, name="round")
    helper_cli.register(app)


def agent_enrol(config: Config, as_json: Json = False) -> None:
    """Make this device's key and get a certificate for it, with the one-time token of the settings."""
    from mimo_fed_client.identity import enrol_device
    from mimo_fed_client.lock import only_agent

    settings = _settings(config)
    with only_agent(settings.home):
        certificate = enrol_device(settings).certificate
    tell_enrolled("device", certificate, as_json)


def agent_run(config: Config) -> None:
    """Run the agent until it is stopped (Ctrl-C or SIGTERM): train, seal, install, report."""
    from mimo_fed_client.status import TEST_ONLY

    settings = _settings(config)
    stop = stop_on_signals()
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
    tell(found, status_lines(found), as_json)


def agent_report(config: Config, as_json: Json = False) -> None:
    """Show what a device measured on its own text; these figures never leave it."""
    from mimo_fed_client.status import read_report, report_lines

    report = read_report(_settings(config))
    tell(report, report_lines(report), as_json)


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


def round_verify(
    release: Annotated[str | None, typer.Argument(help="Number of the release, or `latest`.")] = None,
    channel: Annotated[str, typer.Option("--channel", help="Where it is listed.")] = "dev",
    home: Annotated[Path | None, typer.Option("--home", help="Folder of a device's agent.toml.")] = None,
    registry: Annotated[str, typer.Option("--registry", help="The registry, or any mirror of it.")] = "",
    root: Annotated[Path | None, typer.Option("--root", help="The registry's pinned root metadata.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="Check this copy of the evidence.")] = None,
    as_json: Json = False,
) -> None:
    """Check that one family of sets was opened for a release, each of at least n_min devices."""
    from mimo_fed_client.audit import read_bounded
    from mimo_fed_client.audit_lines import lines, test_only_line, to_json

    number = _release_number(release, file)
    evidence = None if file is None else read_bounded(file)
    finding = _verify(_source(home, registry, root), channel, release, number, evidence)
    tell(to_json(finding), lines(finding), as_json)
    if finding.test_only and as_json:
        typer.secho(test_only_line(finding), fg="red", bold=True, err=True)


def _rounds() -> None:
    """Keep `verify` a command of its own name: typer folds a group of one."""


def _release_number(release: str | None, file: Path | None) -> int | None:
    if release is None and file is None:
        raise ConfigError("neither a release nor a file is named", hint="`mimo-fed round verify latest ...`")
    if release in (None, "latest"):
        return None
    if not (release.isascii() and release.isdecimal() and len(release) <= 18):
        raise ConfigError(f"not the number of a release: {release[:40]!r}", hint="a number, or `latest`")
    return int(release)


def _source(home: Path | None, registry: str, root: Path | None) -> Source:
    from mimo_fed_client.audit import Source, device_source, read_bounded

    if home is not None and not registry and root is None:
        return device_source(home)
    if home is None and registry and root is not None:
        return Source(url=registry, root=read_bounded(root))
    raise ConfigError(
        "what to trust is not said, or said twice", hint="either --home, or --registry and --root"
    )


def _verify(
    source: Source, channel: str, release: str | None, number: int | None, evidence: bytes | None
) -> Finding:
    from mimo_fed_client.audit import verify_file, verify_release

    with source.open() as updater:
        if release is None and evidence is not None:
            return verify_file(updater, evidence)
        return verify_release(updater, channel, number, evidence)


def _settings(config: Path) -> AgentSettings:
    from mimo_fed_client.settings import load_settings

    return load_settings(config)
