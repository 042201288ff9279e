"""`mimo-fed bench simulate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = """
Examples:

  mimo-fed bench simulate                               mimo-nano, 8, 64 and 256 devices

  mimo-fed bench simulate --curve                       batches of other shapes, too

  mimo-fed bench simulate --base mimo-smol --devices 8  the embedded base; minutes
"""


def simulate(
    base: Annotated[str, typer.Option(help="mimo-nano, mimo-smol, or a folder.")] = "mimo-nano",
    devices: Annotated[
        list[int] | None, typer.Option(min=1, help="How many at once; repeatable. By default 8, 64, 256.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences in a step.")] = 2,
    seq_len: Annotated[int, typer.Option(min=2, help="Tokens of a sequence.")] = 128,
    steps: Annotated[int, typer.Option(min=1, help="Steps of every device.")] = 4,
    tokens_per_pass: Annotated[
        int, typer.Option(min=1, help="About so many tokens in one pass of many devices.")
    ] = 2048,
    repeat: Annotated[int, typer.Option(min=1, help="Repetitions; the median counts.")] = 5,
    curve: Annotated[bool, typer.Option("--curve", help="Batches of other shapes, too.")] = False,
    skip_fresh: Annotated[
        bool, typer.Option("--skip-fresh", help="Leave out a fresh model a message.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document alone.")] = False,
) -> None:
    """Measure device steps a second: many devices in one pass, against one after another with stock PEFT.

    Figures are processor time on one core, the median of interleaved repetitions in one run.
    """
    import json

    from rich.console import Console

    from mimo_fed.bench.progress import Bar
    from mimo_fed.bench.simulate import DEVICES, Settings, run
    from mimo_fed.config import TrainConfig

    settings = Settings(
        base=base,
        devices=tuple(devices or DEVICES),
        train=TrainConfig(batch_size=batch_size, seq_len=seq_len, num_steps=steps),
        repeat=repeat,
        tokens_per_pass=tokens_per_pass,
        curve=curve,
        fresh=not skip_fresh,
    )
    with Bar(Console(stderr=True)) as bar:
        document = run(settings, bar)
    if json_:
        typer.echo(json.dumps(document, indent=2))
    else:
        _show(document, Console())


def _show(document: dict[str, Any], console: Console) -> None:
    from mimo_fed.bench.table import goals_table, number

    shape = f"{document['batch_size']} x {document['seq_len']} tokens, {document['steps']} steps a device"
    console.print(f"{document['base']}, {shape}; device steps a second of one core", highlight=False)
    rates = document["steps_per_s"]
    for num, rate in rates["batched"].items():
        lines = f"{num:>5} at once: {number(rate)}, {number(document['speedup'][num])} x one warm model"
        console.print(lines, highlight=False)
    console.print(f"one warm model: {number(rates['sequential'][num])}", highlight=False)
    if "fresh" in rates:
        console.print(f"a fresh model a message: {number(rates['fresh'])}", highlight=False)
    for point in document["curve"]:
        name = f"{point['batch_size']} x {point['seq_len']}"
        console.print(f"{name:>8}: {number(point['speedup'])} x, 64 devices", highlight=False)
    for num, peak in document["memory_peak_mb"].items():
        console.print(f"memory of {num} devices, above the base: {peak:.0f} MB", highlight=False)
    console.print(goals_table(document))
