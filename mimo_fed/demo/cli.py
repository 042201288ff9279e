"""`mimo-fed demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `mimo-fed`."""
    app.command("demo")(demo)


def demo(
    rounds: Annotated[int, typer.Option(min=1, help="Training rounds; the devices judge after each.")] = 3,
    base: Annotated[
        str, typer.Option(help="mimo-smol, mimo-nano or a folder with MiMo's layout.")
    ] = "mimo-smol",
    name: Annotated[str, typer.Option(help="Name of the run; one of the same name is replaced.")] = "demo",
    devices: Annotated[int, typer.Option(min=3, max=8, help="How many of the eight devices.")] = 8,
    helpers: Annotated[
        int, typer.Option(min=0, max=7, help="Helper organisations that open the sums: 3, 5, 7, or none.")
    ] = 0,
    runs: Annotated[Path, typer.Option(help="Folder that holds runs.")] = Path("runs"),
    deadline_s: Annotated[
        float, typer.Option(min=10, help="Longest that one round may take, seconds.")
    ] = 600.0,
    json_: Annotated[bool, typer.Option("--json", help="Print report.json alone.")] = False,
    test_plaintext: Annotated[bool, typer.Option("--test-plaintext", hidden=True)] = False,
    test_stock_node: Annotated[str, typer.Option("--test-stock-node", hidden=True)] = "",
) -> None:
    """Run the whole loop on this machine: real text, real training, real encryption, real processes.

    Device agents, SuperLink, coordinator, registry and enrolment authority each run as a process. With
    --helpers, organisations with pinned keys open the sums, and a device may vanish once it has contributed.

    Keys, logs, events and reports of the run are in runs/NAME.
    """
    from rich.console import Console

    from mimo_fed.demo.ending import show
    from mimo_fed.demo.layout import DemoSettings
    from mimo_fed.demo.run import run

    settings = DemoSettings(
        name=name,
        rounds=rounds,
        base=str(Path(base).resolve()) if Path(base).is_dir() else base,
        devices=devices,
        helpers=helpers,
        runs=runs,
        deadline_s=deadline_s,
        test_plaintext=test_plaintext,
        test_stock_node=test_stock_node,
    )
    finished = run(settings, Console(stderr=json_, quiet=False))
    if json_:
        print(finished.layout.report.read_text(), end="")
    else:
        show(finished, Console())
