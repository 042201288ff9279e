"""`mimo-fed data`: build sets of devices from package indices, and look at them."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimo_fed.data.corpus import SPLITS, DemoDevice
from mimo_fed.data.extract import DEMO_FOLDER, load_extract, load_manifest
from mimo_fed.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rich.table import Table

    from mimo_fed.data.debian import Plan

BUILD_EXAMPLES = """
Examples:

  mimo-fed data build debian --out devices --from /var/lib/apt/lists

  mimo-fed data build debian --out devices --mirror http://MIRROR/debian --languages it:5,fr:3
"""
INSPECT_EXAMPLES = """
Examples:

  mimo-fed data inspect                 the eight devices of the demo

  mimo-fed data inspect devices --json  a set of your own, for programs
"""


class Source(StrEnum):
    """Where the texts of a set come from."""

    DEBIAN = "debian"


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
        Path | None, typer.Option("--from", help="Folder of index files: Packages, Translation-*, Release.")
    ] = None,
    mirror: Annotated[
        str | None, typer.Option("--mirror", help="Download the indices from this mirror instead.")
    ] = None,
    suite: Annotated[str, typer.Option("--suite", help="Codename of the Debian release.")] = "bookworm",
    languages: Annotated[
        str, typer.Option("--languages", help="Devices of each language; en is the original text.")
    ] = "it:4,fr:2,en:2",
    seed: Annotated[str, typer.Option("--seed", help="Decides which authors, which splits.")] = "mimo-fed",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for programs.")] = False,
) -> None:
    """Build devices from Debian's package descriptions: one device, one maintainer, one language.

    Descriptions in other languages than English are translations by others of what the maintainer wrote, and
    are labelled so. Names of people are not stored. The same indices and seed give the same devices.
    """
    from mimo_fed.data.debian import Plan, build_devices
    from mimo_fed.data.extract import write_extract

    plan = Plan(languages=parse_languages(languages), suite=suite, seed=seed)
    if (from_folder is None) == (mirror is None):
        raise ConfigError(
            "a set is built from a folder or from a mirror", hint="give --from DIR or --mirror URL"
        )
    folder = from_folder or out / "indices"
    if mirror is not None:
        _download(mirror, plan, folder, quiet=as_json)
    devices, provenance = build_devices(
        folder, plan, say=(lambda _: None) if as_json else lambda line: typer.echo(line, err=True)
    )
    write_extract(out, devices, provenance)
    _show(out, devices, as_json=as_json)


def _inspect(
    folder: Annotated[
        Path, typer.Argument(help="Folder of devices; the demo's if none is given.")
    ] = DEMO_FOLDER,
    as_json: Annotated[bool, typer.Option("--json", help="Print for programs.")] = False,
) -> None:
    """Show whose text devices hold: hashed author, language, class, rank, texts and characters per split."""
    _show(folder, load_extract(folder), as_json=as_json)


def parse_languages(value: str) -> dict[str, int]:
    """Read `it:4,fr:2,en:2`.

    Raises:
        ConfigError: that is not how it is written.
    """
    found = {}
    for part in value.split(","):
        code, _, count = part.strip().partition(":")
        if not code.isidentifier() or not count.isdecimal() or code in found:
            raise ConfigError(f"languages are not readable: {value!r}", hint="write them as it:4,fr:2,en:2")
        found[code] = int(count)
    return found


def summary(device: DemoDevice) -> dict[str, Any]:
    """Say what a device holds, without the texts."""
    splits = {
        split: {
            "texts": sum(text.split == split for text in device.texts),
            "characters": sum(len(text.text) for text in device.texts if text.split == split),
        }
        for split in SPLITS
    }
    return {
        "name": device.name,
        "author": device.author,
        "language": device.language,
        "translated": device.translated,
        "device_class": device.device_class,
        "rank": device.rank,
        "splits": splits,
    }


def _download(mirror: str, plan: Plan, folder: Path, *, quiet: bool) -> None:
    try:
        from mimo_fed.data.mirror import download_indices
    except ModuleNotFoundError as error:
        raise DataError(
            f"downloading needs {error.name}", hint="install mimo-fed[client], or use --from DIR"
        ) from error
    kinds = [
        "Packages",
        "Translation-en",
        *(f"Translation-{code}" for code in plan.languages if code != "en"),
    ]
    download_indices(mirror, plan.suite, kinds, folder, quiet=quiet)


def _show(folder: Path, devices: tuple[DemoDevice, ...], *, as_json: bool) -> None:
    provenance = load_manifest(folder).get("provenance", {})
    if as_json:
        brief = {key: value for key, value in provenance.items() if key != "packages"}
        typer.echo(json.dumps({"devices": [summary(device) for device in devices], "provenance": brief}))
        return
    from rich.console import Console

    console = Console()
    console.print(_table(devices))
    console.print(
        f"{provenance.get('source', '')}, {provenance.get('suite', '')}, {provenance.get('release_date', '')}"
    )
    console.print("In brackets: translations, by others, of what the maintainer wrote in English.")


def _table(devices: tuple[DemoDevice, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, show_edge=False, pad_edge=False)
    for heading in ("device", "author", "text", "class"):
        table.add_column(heading, no_wrap=True)
    for heading in ("rank", "train", "validation", "test"):
        table.add_column(heading, justify="right", no_wrap=True)
    for device in devices:
        splits = summary(device)["splits"]
        sizes = [f"{splits[name]['texts']} / {splits[name]['characters']}" for name in SPLITS]
        language = f"({device.language})" if device.translated else device.language
        table.add_row(device.name, device.author, language, device.device_class, str(device.rank), *sizes)
    table.caption = "texts / characters in each split"
    return table
