"""Commands of the server's side: `registry`, `authority`, `superlink`, `coordinator`.

Imports are inside the commands, so that `--help` needs no database and no web server.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mimo_fed.errors import ConfigError
from mimo_fed_server import anchors_cli

Home = Annotated[Path, typer.Option("--home", help="Folder of the keys and records.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Ready = Annotated[
    Path | None, typer.Option("--ready-file", help="Write the URL to this file once the port is open.")
]

REGISTRY_EXAMPLES = """
Examples:

  mimo-fed registry init --home runs/registry --coordinator-key HEX --authority-key HEX

  mimo-fed registry seed --home runs/registry --spec spec.json

  mimo-fed registry serve --home runs/registry --port 8090

  mimo-fed registry list --home runs/registry --json

  mimo-fed registry revoke --home runs/registry --serial 3
"""

AUTHORITY_EXAMPLES = """
Examples:

  mimo-fed authority init --home runs/authority

  mimo-fed authority token --home runs/authority --device kitchen-tablet

  mimo-fed authority serve --home runs/authority --port 8091
"""

SUPERLINK_EXAMPLES = """
Examples:

  mimo-fed superlink serve --home runs/superlink --port 8092

  mimo-fed superlink gate --superlink 10.0.0.5:8092 --host 0.0.0.0 --port 8093
"""

COORDINATOR_EXAMPLES = """
Examples:

  mimo-fed coordinator init --key-file runs/coordinator/key

  mimo-fed coordinator run --config runs/coordinator.toml
"""


def register(app: typer.Typer) -> None:
    """Add the server's commands."""
    registry = typer.Typer(help="Signed releases and their channels.", no_args_is_help=True)
    registry.command("init", epilog=REGISTRY_EXAMPLES)(registry_init)
    registry.command("seed", epilog=REGISTRY_EXAMPLES)(registry_seed)
    registry.command("serve", epilog=REGISTRY_EXAMPLES)(registry_serve)
    registry.command("list", epilog=REGISTRY_EXAMPLES)(registry_list)
    anchors_cli.register(registry)
    authority = typer.Typer(help="Enrolment: one-time tokens and certificates.", no_args_is_help=True)
    authority.command("init", epilog=AUTHORITY_EXAMPLES)(authority_init)
    authority.command("token", epilog=AUTHORITY_EXAMPLES)(authority_token)
    authority.command("log", epilog=AUTHORITY_EXAMPLES)(authority_log)
    authority.command("serve", epilog=AUTHORITY_EXAMPLES)(authority_serve)
    coordinator = typer.Typer(help="Rounds: train, judge, publish.", no_args_is_help=True)
    coordinator.command("init", epilog=COORDINATOR_EXAMPLES)(coordinator_init)
    coordinator.command("run", epilog=COORDINATOR_EXAMPLES)(coordinator_run)
    superlink = typer.Typer(help="Flower's SuperLink, between coordinator and devices.", no_args_is_help=True)
    superlink.command("serve", epilog=SUPERLINK_EXAMPLES)(superlink_serve)
    superlink.command("gate", epilog=SUPERLINK_EXAMPLES)(superlink_gate)
    app.add_typer(registry, name="registry")
    app.add_typer(authority, name="authority")
    app.add_typer(superlink, name="superlink")
    app.add_typer(coordinator, name="coordinator")


def registry_init(
    home: Home,
    coordinator_key: Annotated[str, typer.Option("--coordinator-key", help="Public key, hexadecimal.")],
    authority_key: Annotated[str, typer.Option("--authority-key", help="Public key, hexadecimal.")],
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            envvar="MIMO_FED_DATABASE",
            help="postgresql+psycopg://...; SQLite in the home otherwise.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a registry: signing keys, first metadata, records, admin token, the root that devices pin."""
    from mimo_fed.secagg.identity import Anchors
    from mimo_fed_server.registry.service import initialize

    anchors = Anchors(
        coordinator=_public_key("--coordinator-key", coordinator_key),
        authority=_public_key("--authority-key", authority_key),
        revoked=frozenset(),
    )
    initialize(home, anchors=anchors.to_json(), database=database)
    made = {
        "home": str(home),
        "root": str(home / "root.json"),
        "anchors": str(home / "anchors.json"),
        "admin_token_file": str(home / "admin-token"),
        "ceremony": "development: one key a role, threshold one",
    }
    _tell(
        made,
        as_json,
        lambda: (
            f"registry made in {home}; devices pin {home / 'root.json'}\n"
            "development ceremony: root and targets have one key each; move keys/offline to another machine"
        ),
    )


def registry_serve(
    home: Home,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 picks a free one.", min=0, max=65535)] = 8090,
    ready_file: Ready = None,
    database: Annotated[
        str | None, typer.Option("--database", help="Another database than the one given to init.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve releases and records, and renew signatures, until stopped."""
    from mimo_fed_server.registry.http import build_app
    from mimo_fed_server.registry.serve import serve
    from mimo_fed_server.registry.service import Registry

    app = build_app(Registry(home, database=database))
    serve(app, host=host, port=port, ready_file=ready_file, announce=_announcer(as_json))


def registry_seed(
    home: Home,
    spec: Annotated[Path, typer.Option("--spec", help="JSON: shape of the adapter on the fleet's base.")],
    as_json: Json = False,
) -> None:
    """Publish release 0, the zero adapter, on both channels: rounds begin from it."""
    from mimo_fed.adapter import AdapterSpec
    from mimo_fed_server.registry.service import Registry
    from mimo_fed_server.setup import publish_zero

    try:
        shape = AdapterSpec.from_json(spec.read_bytes())
    except OSError as error:
        raise ConfigError(f"shape of the adapter cannot be read: {spec} ({error.strerror})") from None
    registry = Registry(home)
    try:
        info = publish_zero(registry, shape)
    finally:
        registry.close()
    made = {"release": info.number, "digest": info.digest, "bytes": info.length}
    _tell(made, as_json, lambda: f"release {info.number}, the zero adapter, is on dev and stable")


def registry_list(home: Home, as_json: Json = False) -> None:
    """List the releases, and which channels point to them."""
    from mimo_fed_server.registry.service import Registry

    registry = Registry(home)
    try:
        registry.store.prepare()
        releases = registry.store.releases()
    finally:
        registry.close()
    _tell(releases, as_json, lambda: "\n".join(map(_release_line, releases)) or "no release yet")


def authority_init(home: Home, as_json: Json = False) -> None:
    """Make the authority's key; its public half is printed and is in HOME/public-key."""
    from mimo_fed_server.authority import Authority

    public_key = Authority.initialize(home).hex()
    _tell({"home": str(home), "public_key": public_key}, as_json, lambda: public_key)


def authority_token(
    home: Home,
    device: Annotated[str, typer.Option("--device", help="Name of the device that may enrol with it.")],
    lifetime_s: Annotated[int, typer.Option("--lifetime-s", help="Seconds.", min=1)] = 24 * 3600,
    as_json: Json = False,
) -> None:
    """Make a one-time token for one device; it is shown once."""
    from mimo_fed_server.authority import Authority

    authority = Authority(home)
    try:
        token = authority.make_token(device, lifetime_s=lifetime_s)
    finally:
        authority.close()
    _tell({"device": device, "token": token}, as_json, lambda: token)


def authority_log(home: Home, as_json: Json = False) -> None:
    """List every certificate that was issued."""
    from mimo_fed_server.authority import Authority

    authority = Authority(home)
    try:
        log = authority.log()
    finally:
        authority.close()
    _tell(
        log, as_json, lambda: "\n".join(f"{e['serial']}  {e['device_id']}" for e in log) or "nothing issued"
    )


def authority_serve(
    home: Home,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 picks a free one.", min=0, max=65535)] = 8091,
    ready_file: Ready = None,
    as_json: Json = False,
) -> None:
    """Enrol devices until stopped."""
    from mimo_fed_server.authority import Authority, build_app
    from mimo_fed_server.registry.serve import serve

    authority = Authority(home)
    try:
        serve(build_app(authority), host=host, port=port, ready_file=ready_file, announce=_announcer(as_json))
    finally:
        authority.close()


def superlink_serve(
    home: Home,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="One port for everything.", min=1, max=65535)] = 8092,
    tls: Annotated[
        tuple[Path, Path, Path] | None,
        typer.Option("--tls", help="PEM files: authority, certificate, key. Without them: no TLS."),
    ] = None,
) -> None:
    """Become Flower's SuperLink, on a database file, so that it may be killed and started again."""
    from mimo_fed_server.superlink import serve

    serve(home, host, port, tls)


def superlink_gate(
    superlink: Annotated[str, typer.Option("--superlink", help="HOST:PORT of the SuperLink.")],
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Where devices connect.", min=1, max=65535)] = 8093,
    root_certificates: Annotated[
        Path | None,
        typer.Option("--root-certificates", help="PEM: checks the SuperLink. Without: no TLS."),
    ] = None,
    tls: Annotated[
        tuple[Path, Path] | None, typer.Option("--tls", help="PEM files: certificate, key; for devices.")
    ] = None,
) -> None:
    """Let devices reach the SuperLink's fleet API and nothing else of it."""
    from mimo_fed_server.gate import serve

    serve(superlink, host, port, root_certificates=root_certificates, certificate=tls)


def coordinator_init(
    key_file: Annotated[Path, typer.Option("--key-file", help="Where the key goes, hexadecimal.")],
    as_json: Json = False,
) -> None:
    """Make the coordinator's signing key; its public half is printed."""
    from mimo_fed_server.setup import make_coordinator_key

    public_key = make_coordinator_key(key_file).hex()
    _tell({"key_file": str(key_file), "public_key": public_key}, as_json, lambda: public_key)


def coordinator_run(
    config: Annotated[Path, typer.Option("--config", help="The coordinator's TOML file.")],
) -> None:
    """Run the rounds that are left; started again after a kill, it goes on where it was."""
    from mimo_fed_server.supervisor import main

    main(config)


def _public_key(option: str, value: str) -> bytes:
    try:
        key = bytes.fromhex(value)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError(f"{option} is not a public key: {value[:80]}", hint="64 hexadecimal digits")
    return key


def _announcer(as_json: bool) -> Callable[[str], None]:
    return lambda url: _tell({"serving": url}, as_json, lambda: f"serving {url}")


def _release_line(release: dict[str, Any]) -> str:
    channels = ", ".join(release["channels"])
    facts = f"{release['number']:>5}  {release['digest'][:12]}  {release['length']:>10} B"
    return f"{facts}  {release['round_id']}  {channels}"


def _tell(value: Any, as_json: bool, text: Callable[[], str]) -> None:
    typer.echo(json.dumps(value) if as_json else text())
