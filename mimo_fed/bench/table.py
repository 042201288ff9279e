"""What `mimo-fed bench secagg` prints for people: goals against figures, then the others' figures."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from mimo_fed.bench.goals import GOALS_LENGTH

Json = dict[str, Any]
MET = {True: "[green]met[/green]", False: "[bold red]missed[/bold red]", None: "-"}


def show(document: Json, console: Console) -> None:
    """Print both tables, and on what machine they were measured."""
    machine = document["machine"]
    console.print(
        f"{document['params']:,} parameters, {document['repeat']} repetitions, medians of processor time; "
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load_at_start']}",
        highlight=False,
    )
    console.print()
    console.print(goals_table(document))
    console.print()
    console.print(others_table(document))
    console.print()
    for line in notes(document):
        console.print(line, highlight=False, markup=False)
    for key, why in document["skipped"].items():
        console.print(f"{key}: left out, {why}", highlight=False, markup=False)


def goals_table(document: Json) -> Table:
    """Draw one row per goal."""
    table = plain_table("figure", goal="right", measured="right", unit="left", met="left")
    for goal in document["goals"]:
        measured = "not measured" if goal["measured"] is None else number(goal["measured"])
        table.add_row(goal["figure"], goal["goal"], measured, goal["unit"], MET[goal["met"]])
    return table


def others_table(document: Json) -> Table:
    """Draw one row per comparator, and one of ours before them."""
    columns = ("ns/param", "x time", "x masking", "bytes/param", "x bytes", "messages")
    table = plain_table("client's work", **dict.fromkeys(columns, "right"))
    num_params, ours = document["params"], document["client"]
    own_ns, own_bytes = number(ours["s"] / num_params * 1e9), number(ours["bytes"] / num_params)
    table.add_row("ours", own_ns, "1", "1", own_bytes, "1", "1")
    for key, entry in document["vs"].items():
        table.add_row(
            key,
            number(entry["client_s"] / num_params * 1e9),
            number(entry["client_time_ratio"]),
            number(entry["masking_time_ratio"]),
            number(entry["bytes"] / num_params),
            number(entry["bytes_ratio"]),
            str(entry["messages"]),
        )
    return table


def notes(document: Json) -> list[str]:
    """Say what no goal is about: quantising, the coordinator's whole work, its memory."""
    peaks = document["coordinator_peak_mb"].items()
    lines = [
        f"wall time of two threads: masking {number(document['protect_wall_ratio_2_threads'])} of one's, "
        f"hashing, as a control, {number(document['control_wall_ratio_2_threads'])}",
        f"quantising before it: {number(document['quantize_ns_per_param'])} ns a parameter",
        f"coordinator, all of taking one: {number(document['accept_ns_per_param'])} ns a parameter",
        f"coordinator's memory: {', '.join(f'{peak:.0f} MB for {size} devices' for size, peak in peaks)}",
    ]
    if document["params"] < GOALS_LENGTH:
        lines.append("the goals are for ten million parameters; a shorter vector pays more for what is fixed")
    return lines


def number(value: float) -> str:
    """Write three significant digits, and no more zeros than that needs."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def plain_table(first: str, **columns: str) -> Table:
    """Make a table without a frame.

    Args:
        first: title of the first column.
        columns: title of each other column, and on which side its entries stand.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column(first)
    for title, justify in columns.items():
        table.add_column(title, justify="right" if justify == "right" else "left", no_wrap=True)
    return table
