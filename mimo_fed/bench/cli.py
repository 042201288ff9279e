"""`mimo-fed bench secagg`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
Examples:

  mimo-fed bench secagg                            ten million parameters

  mimo-fed bench secagg --params 1_000_000         a shorter vector

  mimo-fed bench secagg --skip-comparators         our own figures alone

  mimo-fed bench secagg --json --plot bench.svg    a document and a figure
"""


def register(app: typer.Typer) -> None:
    """Add the commands to `mimo-fed`."""
    group = typer.Typer(no_args_is_help=True, help="What things cost on this machine.")
    group.callback()(_bench)
    group.command("secagg", epilog=EXAMPLES)(secagg)
    app.add_typer(group, name="bench")


def _bench() -> None:
    pass


def _count(text: str) -> int:
    """Read a whole number; underscores may divide it, as in 10_000_000."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"not a whole number: {text}") from None


def secagg(
    params: Annotated[
        int,
        typer.Option(parser=_count, metavar="N", help="Length of the vector; underscores may divide it."),
    ] = 10_000_000,
    repeat: Annotated[int, typer.Option(min=1, help="Repetitions; the median counts.")] = 5,
    skip_comparators: Annotated[
        bool, typer.Option("--skip-comparators", help="Measure our own code and the plain sum alone.")
    ] = False,
    devices: Annotated[
        list[int] | None,
        typer.Option(
            min=2, help="Measure the coordinator's memory for so many; repeatable. By default 10, 100, 1000."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw the clients' costs into this .svg or .png.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document alone.")] = False,
) -> None:
    """Measure secure aggregation: what a device, a member and the coordinator pay, and what others would.

    Figures are processor time on one core, the median of interleaved repetitions, on one vector in one run.

    Flower's SecAgg+ and TenSEAL's CKKS are measured beside it where the extra `bench` is installed.

    Ten million parameters take three to four minutes and 1.5 GB of memory.
    """
    import json

    from rich.console import Console

    from mimo_fed.bench.plot import check_path, write_plot
    from mimo_fed.bench.progress import Bar
    from mimo_fed.bench.secagg import COHORTS, Settings, run

    if plot is not None:
        check_path(plot)
    settings = Settings(
        num_params=params,
        repeat=repeat,
        comparators=not skip_comparators,
        cohorts=tuple(devices or COHORTS),
    )
    with Bar(Console(stderr=True)) as bar:
        document = run(settings, bar)
    if plot is not None:
        write_plot(document, plot)
    if json_:
        typer.echo(json.dumps(document, indent=2))
    else:
        from mimo_fed.bench.table import show

        show(document, Console())
