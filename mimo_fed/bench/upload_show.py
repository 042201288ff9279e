"""The uploads by schedule for people: one table for each choice of linears."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console

from mimo_fed.bench.planted_show import LABELS
from mimo_fed.bench.table import number, plain_table

Json = dict[str, Any]
SHORT: Final = {"fedit": "FedIT", "m": "core alone"}
TITLES: Final = {"all": "all linears", "attention": "attention's linears alone"}


def show(document: Json, console: Console) -> None:
    """Print millions of floats, and megabytes, that a device of full rank uploads in a round."""
    for target, entries in document["uploads"].items():
        console.print(f"{TITLES[target]}, rank {document['rank']}, a round:", highlight=False)
        bits = list(entries["default"]["bytes_per_round"])
        columns = {"cycle": "left", "M floats": "right"} | {f"MB at {b} bits": "right" for b in bits}
        table = plain_table("schedule", **columns)
        for name, entry in entries.items():
            sizes = [number(entry["bytes_per_round"][b] / 1e6) for b in bits]
            label = SHORT.get(name, LABELS[name])
            table.add_row(label, entry["cycle"], number(entry["floats_per_round"] / 1e6), *sizes)
        console.print(table)
        console.print()
