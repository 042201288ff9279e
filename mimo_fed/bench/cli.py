"""`mimo-fed bench secagg`, `planted`, `simulate` and `upload`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mimo_fed.bench.simulate_cli import EXAMPLES as SIMULATE_EXAMPLES
from mimo_fed.bench.simulate_cli import simulate
from mimo_fed.config import ScheduleConfig

EXAMPLES = """
Examples:

  mimo-fed bench secagg                            ten million parameters

  mimo-fed bench secagg --params 1_000_000         a shorter vector

  mimo-fed bench secagg --skip-comparators         our own figures alone

  mimo-fed bench secagg --json --plot bench.svg    a document and a figure
"""

PLANTED_EXAMPLES = """
Examples:

  mimo-fed bench planted                           24 clients, three seeds, a minute or two

  mimo-fed bench planted --skew 0.5                the clients' inputs differ

  mimo-fed bench planted --shape 7b --seed 0       one module of the size of a 7B model's

  mimo-fed bench planted --cycle BAMM --json       another default cycle, one document
"""
UPLOAD_EXAMPLES = """
Examples:

  mimo-fed bench upload                            the shape of MiMo-7B

  mimo-fed bench upload --config DIR/config.json   that of another base
"""


def register(app: typer.Typer) -> None:
    """Add the commands to `mimo-fed`."""
    group = typer.Typer(no_args_is_help=True, help="What things cost on this machine.")
    group.callback()(_bench)
    group.command("secagg", epilog=EXAMPLES)(secagg)
    group.command("planted", epilog=PLANTED_EXAMPLES)(planted)
    group.command("simulate", epilog=SIMULATE_EXAMPLES)(simulate)
    group.command("upload", epilog=UPLOAD_EXAMPLES)(upload)
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


class ShapeName(StrEnum):
    """How large the planted task is."""

    SMALL = "small"
    B7 = "7b"


def planted(
    shape: Annotated[
        ShapeName, typer.Option(help="64 x 64 and 24 clients, or 4096 x 11008 and 12.")
    ] = ShapeName.SMALL,
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable. By default 0, 1 and 2.")] = None,
    skew: Annotated[float, typer.Option(min=0, help="How unlike the clients' inputs are; 0: alike.")] = 0.0,
    cycle: Annotated[str, typer.Option(help="Phases of the arm `default`.")] = ScheduleConfig.cycle,
    a_rate: Annotated[
        float, typer.Option(help="Learning rate of phase A, as a multiple of phase B's.")
    ] = ScheduleConfig.a_rate,
    m_rate: Annotated[float, typer.Option(help="The same of phase M.")] = ScheduleConfig.m_rate,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw the error against the upload into this .svg or .png.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document alone.")] = False,
) -> None:
    """Learn planted adapters, whose true values are known, by every way of averaging.

    Each arm runs at its own best learning rate, chosen on other tasks than those that are reported.

    The error is that of dW, relative to the weighted mean of what was planted.
    """
    import json

    from rich.console import Console

    from mimo_fed.bench.planted import run, settings_of
    from mimo_fed.bench.planted_show import show, write_plot
    from mimo_fed.bench.plot import check_path
    from mimo_fed.bench.progress import Bar

    if plot is not None:
        check_path(plot)
    schedule = ScheduleConfig(cycle=cycle, a_rate=a_rate, m_rate=m_rate)
    with Bar(Console(stderr=True)) as bar:
        document = run(settings_of(shape.value, tuple(seed or (0, 1, 2)), skew, schedule), bar)
    if plot is not None:
        write_plot(document, plot)
    if json_:
        typer.echo(json.dumps(document, indent=2))
    else:
        show(document, Console())


def upload(
    config: Annotated[
        Path | None, typer.Option(help="config.json of a base. By default the sizes of MiMo-7B.")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the adapter, and of the device.")] = 16,
    cycle: Annotated[str, typer.Option(help="Phases of the schedule `default`.")] = ScheduleConfig.cycle,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document alone.")] = False,
) -> None:
    """Compute what a device uploads in a round, by schedule."""
    import json

    from rich.console import Console

    from mimo_fed.bench.upload import BaseShape, run
    from mimo_fed.bench.upload_show import show

    shape = BaseShape() if config is None else BaseShape.from_config(config)
    document = run(shape, ScheduleConfig(cycle=cycle), rank)
    if json_:
        typer.echo(json.dumps(document, indent=2))
    else:
        show(document, Console())
