"""The bench of planted adapters for people: one table, and a figure of error against floats uploaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from mimo_fed.bench.plot import INK, open_figure, save_figure
from mimo_fed.bench.table import goals_table, number, plain_table

Json = dict[str, Any]
LABELS: Final = {
    "fedit": "FedIT, zero-padded",
    "b": "B only",
    "default": "default cycle",
    "spare": "spare cycle",
    "m": "core on a random basis",
    "sketch": "sketch",
    "oracle": "oracle, pooled",
}
MEANS: Final = {"fedit": "inexact", "sketch": "nearly exact", "oracle": "-"}
COLOURS: Final = {
    "fedit": "#c4523b",
    "b": "#9aa3ad",
    "default": "#2f8f6b",
    "spare": "#3b82c4",
    "m": "#b58ad1",
    "sketch": "#c99a2e",
}


def show(document: Json, console: Console) -> None:
    """Print what was run, one row an arm, and the goals."""
    settings, shape = document["settings"], document["settings"]["shape"]
    console.print(
        f"one module of {shape['out']} x {shape['inp']}, {shape['num_clients']} clients of ranks "
        f"{', '.join(map(str, settings['ranks']))}, {shape['rounds']} rounds of {shape['num_steps']} steps, "
        f"seeds {', '.join(map(str, settings['seeds']))}, skew {settings['skew']:g}",
        highlight=False,
    )
    console.print(f"least error of an adapter of this rank: {document['floor']:.3g}", highlight=False)
    console.print()
    console.print(arms_table(document))
    console.print()
    console.print(goals_table(document))


def arms_table(document: Json) -> Table:
    """Draw one row per arm."""
    columns = {"error": "right", "floats a round": "right", "rate": "right", "mean": "left"}
    table = plain_table("arm", **columns)
    for name, entry in document["arms"].items():
        floats = number(entry["floats_per_round"]) if entry["floats_per_round"] else "-"
        table.add_row(
            LABELS[name], f"{entry['error']:.3g}", floats, f"{entry['rate']:g}", MEANS.get(name, "exact")
        )
    return table


def write_plot(document: Json, path: Path) -> None:
    """Draw the error of every arm against the floats that a device of full rank has uploaded.

    Raises:
        ConfigError: the file is neither SVG nor PNG, or matplotlib is not installed.
    """
    figure = open_figure(path, width=7.0, height=4.0)
    axes = figure.subplots()
    for name, colour in COLOURS.items():
        floats, errors = zip(*document["arms"][name]["curve"], strict=True)
        axes.plot(floats, errors, color=colour, label=LABELS[name], linewidth=1.6)
    axes.axhline(document["arms"]["oracle"]["error"], color=INK, linestyle="--", label=LABELS["oracle"])
    axes.axhline(document["floor"], color=INK, linestyle=":", label="least of this rank")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("floats uploaded by a device of full rank", color=INK)
    axes.set_ylabel("error of dW", color=INK)
    axes.tick_params(which="both", colors=INK)
    axes.set_facecolor("none")
    axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(INK)
    save_figure(figure, path)
