"""`mimo-fed data`: build sets of devices, and look at them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from mimo_fed.data.archive import Tell, silent
from mimo_fed.data.corpus import DemoDevice
from mimo_fed.data.extract import DEMO_FOLDER, MANIFEST, load_manifest
from mimo_fed.data.folder import load_devices
from mimo_fed.data.sources import Request, Source, build
from mimo_fed.data.tables import by_language, classes_table, languages_table, summary, users_table

BUILD_EXAMPLES = """
Examples:

  mimo-fed data build debian --out devices --from /var/lib/apt/lists

  mimo-fed data build debian --out crowd --mirror http://MIRROR/debian --users 400 --languages en,de,it,fr

  mimo-fed data build home-assistant --out homes

  mimo-fed data build shakespeare --out plays

  mimo-fed data build fortunes --out quotes --mirror http://MIRROR/debian
"""
INSPECT_EXAMPLES = """
Examples:

  mimo-fed data inspect                 the eight devices of the demo

  mimo-fed data inspect crowd --users   every user of a set

  mimo-fed data inspect crowd --json    for programs
"""
_USERS_SHOWN = 16


def register(app: typer.Typer) -> None:
    """Add `mimo-fed data` to the command line."""
    data = typer.Typer(
        name="data", help="Text on devices: build sets and look at them.", no_args_is_help=True
    )
    data.command("build", epilog=BUILD_EXAMPLES)(_build)
    data.command("inspect", epilog=INSPECT_EXAMPLES)(_inspect)
    app.add_typer(data)


def _build(
    source: Annotated[Source, typer.Argument(help="What to build from.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the devices; it is made.")],
    from_folder: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of what is read: index files (debian), packages (fortunes)."),
    ] = None,
    mirror: Annotated[
        str | None, typer.Option("--mirror", help="Download that from this Debian mirror instead.")
    ] = None,
    suite: Annotated[str, typer.Option("--suite", help="Codename of the Debian release.")] = "bookworm",
    users: Annotated[
        int | None,
        typer.Option("--users", min=1, help="Users in the set; all with enough text if not given."),
    ] = None,
    languages: Annotated[
        str | None,
        typer.Option(
            "--languages", help="Languages of the users: en,de,it. debian: it:4,en:2 is named devices."
        ),
    ] = None,
    least: Annotated[
        str | None, typer.Option("--least", help="Bytes a user has in train,validation,test at least.")
    ] = None,
    most: Annotated[
        str | None, typer.Option("--most", help="Bytes a user has in train,validation,test at most.")
    ] = None,
    seed: Annotated[str, typer.Option("--seed", help="Decides which users, which splits.")] = "mimo-fed",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for programs.")] = False,
) -> None:
    """Build devices from real texts, one user a device. The same sources and seed give the same devices.

    debian: package descriptions, a user is a maintainer; other languages than English are translations by
    others and are labelled so. Without --users it builds a few named devices, as the demo's are.
    home-assistant: requests to a home and what is meant, a user is a home's device in one language.
    shakespeare: a user is a role. fortunes: a user is somebody who is quoted.
    """
    from mimo_fed.data.extract import write_extract

    request = Request(
        source=source,
        out=out,
        folder=from_folder,
        mirror=mirror,
        suite=suite,
        users=users,
        languages=languages,
        least=least,
        most=most,
        seed=seed,
        quiet=as_json,
    )
    with _telling(quiet=as_json) as tell:
        built = build(request, tell)
    write_extract(out, built.devices, built.provenance, built.facts)
    _show(out, built.devices, as_json=as_json, every_user=False)


def _inspect(
    folder: Annotated[
        Path, typer.Argument(help="A set, or a folder of JSON Lines files; the demo's if none is given.")
    ] = DEMO_FOLDER,
    users: Annotated[bool, typer.Option("--users", help="One line a user, however many there are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print for programs.")] = False,
) -> None:
    """Show whose text devices hold: languages, classes, ranks, and characters in each split."""
    _show(folder, load_devices(folder), as_json=as_json, every_user=users)


@contextmanager
def _telling(*, quiet: bool) -> Iterator[Tell]:
    """Show on the error stream what a builder tells."""
    if quiet:
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task("", total=1.0)

    def tell(message: str, done: float) -> None:
        if not console.is_terminal:
            console.print(message, highlight=False)
            return
        progress.start()  # not before: a download has a bar of its own
        progress.update(task, description=message, completed=done)

    try:
        yield tell
    finally:
        progress.stop()


def _show(folder: Path, devices: tuple[DemoDevice, ...], *, as_json: bool, every_user: bool) -> None:
    manifest: dict[str, Any] = load_manifest(folder) if (folder / MANIFEST).exists() else {}
    provenance = manifest.get("provenance", {})
    facts = {key: manifest[key] for key in ("task", "labels") if key in manifest}
    if as_json:
        brief = {key: value for key, value in provenance.items() if key != "packages"}
        shown = {"devices": [summary(device) for device in devices], "languages": by_language(devices)}
        typer.echo(json.dumps({**shown, **facts, "provenance": brief}))
        return
    from rich.console import Console

    console = Console()
    if every_user or len(devices) <= _USERS_SHOWN:
        console.print(users_table(devices))
    else:
        console.print(languages_table(devices))
        console.print(classes_table(devices))
    if facts:
        console.print(f"task: {facts['task']}, {len(facts['labels'])} labels")
    if provenance:
        told = (provenance.get(key, "") for key in ("source", "suite", "version", "release_date"))
        console.print(", ".join(part for part in told if part))
    if any(device.translated for device in devices):
        console.print("In brackets: translations, by others, of what the maintainer wrote in English.")
