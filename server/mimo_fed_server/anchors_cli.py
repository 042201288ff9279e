"""Commands that change what the whole fleet trusts: revoke, pin-helper, unpin-helper, set-population.

Each signs the anchors again, which needs the offline key of the targets role. Devices and helpers see the
change at their next look at the registry; a coordinator reads its copy of the file when it starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimo_fed.errors import ConfigError

if TYPE_CHECKING:
    from mimo_fed.secagg import Anchors

Home = Annotated[Path, typer.Option("--home", help="Folder of the registry.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
Keys = Annotated[list[str], typer.Argument(metavar="KEY...", help="Public keys; `helper init` prints one.")]
Incomplete = Annotated[
    bool, typer.Option("--incomplete", help="Also leave a number of helpers that no committee has.")
]

ANCHORS_EXAMPLES = """
Examples:

  mimo-fed registry pin-helper --home runs/registry HEX HEX HEX

  mimo-fed registry pin-helper --home runs/registry --incomplete HEX

  mimo-fed registry unpin-helper --home runs/registry HEX HEX

  mimo-fed registry set-population --home runs/registry 20000

  mimo-fed registry revoke --home runs/registry --serial 3

Each needs HOME/keys/offline/targets.pem. A coordinator takes the change from HOME/anchors.json, or its copy,
when it is started again. A committee of helpers has 3, 5 or 7 members: all that are pinned.
"""


def register(registry: typer.Typer) -> None:
    """Add the commands to the group `registry`."""
    registry.command("revoke", epilog=ANCHORS_EXAMPLES)(registry_revoke)
    registry.command("pin-helper", epilog=ANCHORS_EXAMPLES)(registry_pin_helper)
    registry.command("unpin-helper", epilog=ANCHORS_EXAMPLES)(registry_unpin_helper)
    registry.command("set-population", epilog=ANCHORS_EXAMPLES)(registry_set_population)


def registry_revoke(
    home: Home,
    serial: Annotated[int, typer.Option("--serial", help="Of the certificate; `authority log` lists them.")],
    as_json: Json = False,
) -> None:
    """Tell devices and coordinator to refuse a certificate; needs the offline key of the targets role."""
    anchors = _change(home, lambda old: replace(old, revoked=old.revoked | {serial}))
    revoked = sorted(anchors.revoked)
    _tell({"revoked": revoked}, as_json, f"revoked: {', '.join(map(str, revoked))}")


def registry_pin_helper(
    home: Home, keys: Keys, incomplete: Incomplete = False, as_json: Json = False
) -> None:
    """Let organisations open sums together; needs the offline key of the targets role."""
    pins = frozenset(map(_public_key, keys))

    def pin(old: Anchors) -> Anchors:
        if taken := pins & {old.coordinator, old.authority}:
            raise ConfigError(f"a helper cannot be coordinator or authority too: {min(taken).hex()}")
        return _with_helpers(old, old.helpers | pins, incomplete=incomplete)

    _tell_helpers(_change(home, pin), as_json)


def registry_unpin_helper(
    home: Home, keys: Keys, incomplete: Incomplete = False, as_json: Json = False
) -> None:
    """Take organisations out of the committee of helpers; needs the offline key of the targets role."""
    pins = frozenset(map(_public_key, keys))

    def unpin(old: Anchors) -> Anchors:
        if absent := pins - old.helpers:
            raise ConfigError(f"helper is not pinned: {min(absent).hex()}")
        return _with_helpers(old, old.helpers - pins, incomplete=incomplete)

    _tell_helpers(_change(home, unpin), as_json)


def registry_set_population(
    home: Home,
    population: Annotated[
        int, typer.Argument(metavar="N", help="Devices enrolled, at least; 0: no lottery.", min=0)
    ],
    as_json: Json = False,
) -> None:
    """Say how many devices are enrolled: it bounds the lottery of sampled committees; needs the offline key.

    Too low a number makes the lottery easier to stack; raise it as the fleet grows.
    """
    anchors = _change(home, lambda old: replace(old, population=population))
    _tell(
        {"population": anchors.population},
        as_json,
        f"population: {population}" + ("" if population else "; committees cannot be drawn by lot"),
    )


def _change(home: Path, change: Callable[[Anchors], Anchors]) -> Anchors:
    """Change a registry's anchors and sign them, also if they stay as they are: that renews the signature.

    Raises:
        ConfigError: the change is refused, or the anchors cannot be read.
        RegistryError: no registry, or the offline key is not here.
    """
    from mimo_fed.secagg import Anchors
    from mimo_fed_server.registry.service import Registry

    registry = Registry(home)
    try:
        old = Anchors.from_json((home / "anchors.json").read_bytes())
        anchors = change(old)
        registry.repository.set_anchors(anchors.to_json())
    finally:
        registry.close()
    return anchors


def _with_helpers(old: Anchors, helpers: frozenset[bytes], *, incomplete: bool) -> Anchors:
    from mimo_fed.secagg import HELPER_SIZES

    if len(helpers) not in (0, *HELPER_SIZES) and not incomplete:
        raise ConfigError(
            f"no committee has this many helpers: {len(helpers)}",
            hint="3, 5 or 7, or none; --incomplete signs it all the same, and no helper round begins",
        )
    return replace(old, helpers=helpers)


def _tell_helpers(anchors: Anchors, as_json: bool) -> None:
    from mimo_fed.secagg import HELPER_SIZES

    complete = len(anchors.helpers) in HELPER_SIZES
    helpers = sorted(key.hex() for key in anchors.helpers)
    text = "\n".join(
        [*helpers, f"{len(helpers)} helpers are pinned" + ("" if complete else "; no committee")]
    )
    _tell({"helpers": helpers, "complete": complete}, as_json, text)


def _public_key(value: str) -> bytes:
    try:
        key = bytes.fromhex(value)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError(f"not a helper's public key: {value[:80]}", hint="64 hexadecimal digits")
    return key


def _tell(value: Any, as_json: bool, text: str) -> None:
    typer.echo(json.dumps(value) if as_json else text)
