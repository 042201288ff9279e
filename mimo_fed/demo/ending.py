"""What the demo prints at its end: devices, what held, what the coordinator saw, where to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from mimo_fed.demo import report
from mimo_fed.demo.board import megabytes
from mimo_fed.demo.run import Finished

Json = dict[str, Any]


def show(finished: Finished, console: Console) -> None:
    """Print it."""
    found, layout = finished.report, finished.layout
    console.print()
    console.print(f"bits per byte on each device's test split, base {found['base']}; lower is better")
    console.print(device_table(found))
    console.print("* translated by others from what the author wrote", highlight=False)
    console.print(_costs(found), highlight=False, soft_wrap=True)
    console.print()
    for line in report.verdicts(found):
        console.print(line, style="green" if line.startswith("held") else "bold red", highlight=False)
    settings = found["settings"]
    console.print(f"privacy profile {settings['privacy']}", style="bold yellow", highlight=False)
    if settings["n_min_label"]:
        console.print(
            f"n_min = {settings['n_min']}, {settings['n_min_label']}", style="bold yellow", highlight=False
        )
    console.print()
    for line in finished.sight.lines():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print()
    console.print(
        "What anybody can check of the last round, with `mimo-fed round verify` on a running registry:"
    )
    for line in finished.audited:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    console.print()
    best = max(found["devices"], key=lambda d: d["bpb"]["base"] - d["bpb"]["personal"])
    for label, value in (
        ("report", str(layout.page)),
        ("figures", str(layout.report)),
        ("talk to a device", f"mimo-fed chat --device {best['name']}{_run_option(finished)}"),
    ):
        console.print(f"{label + ':':18}{value}", highlight=False, markup=False, soft_wrap=True)


def device_table(found: Json) -> Table:
    """Draw one row per device and their mean; bits per byte on the test split. Fits 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for title in ("device", "author", "text", "class"):
        table.add_column(title, no_wrap=True)
    for title in ("rank", "base", "global", "personal", "lambda"):
        table.add_column(title, justify="right", no_wrap=True)
    for d in found["devices"]:
        table.add_row(
            *(d["name"], d["author"][:10], d["language"] + ("*" if d["translated"] else "")),
            *(d["device_class"], str(d["rank"])),
            *(f"{d['bpb'][arm]:.3f}" for arm in report.ARMS),
            f"{d['lambda']:.2f}",
        )
    means = [f"{report.mean(found['devices'], arm):.3f}" for arm in report.ARMS]
    table.add_section()
    table.add_row("mean", "", "", "", "", *means)
    return table


def _costs(found: Json) -> str:
    """Say what taking part cost a device, on the mean."""
    devices = found["devices"]
    up, down = (sum(d[f"bytes_{way}"] for d in devices) / len(devices) for way in ("up", "down"))
    seconds = {part: sum(d["seconds"][part] for d in devices) / len(devices) for part in report.PARTS}
    parts = ", ".join(f"{part} {spent:.1f} s" for part, spent in seconds.items())
    return f"a device on the mean: {megabytes(up)} sent, {megabytes(down)} received; {parts}"


def _run_option(finished: Finished) -> str:
    run = finished.settings.runs / finished.settings.name
    return "" if run == Path("runs/demo") else f" --run {run}"
