"""What the demo prints at its end: devices, what held, what the coordinator saw, where to go on."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from mimo_fed.demo import report
from mimo_fed.demo.run import Finished

Json = dict[str, Any]


def show(finished: Finished, console: Console) -> None:
    """Print it."""
    found, layout = finished.report, finished.layout
    console.print()
    console.print(device_table(found))
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
    best = max(found["devices"], key=lambda d: d["bpb"]["base"] - d["bpb"]["personal"])
    for label, value in (
        ("report", str(layout.page)),
        ("figures", str(layout.report)),
        ("talk to a device", f"mimo-fed chat --device {best['name']}{_run_option(finished)}"),
    ):
        console.print(f"{label + ':':18}{value}", highlight=False, markup=False, soft_wrap=True)


def device_table(found: Json) -> Table:
    """Draw one row per device and their mean; bits per byte on the test split."""
    table = Table(title=f"bits per byte on each device's test split, base {found['base']}; lower is better")
    for title in ("device", "author", "language", "class"):
        table.add_column(title)
    for title in ("rank", "base", "global", "personal", "lambda", "MB up", "MB down", "train s"):
        table.add_column(title, justify="right")
    for d in found["devices"]:
        language = d["language"] + (" (translated)" if d["translated"] else "")
        table.add_row(
            *(d["name"], d["author"][:12], language, d["device_class"], str(d["rank"])),
            *(f"{d['bpb'][arm]:.3f}" for arm in report.ARMS),
            f"{d['lambda']:.2f}",
            f"{d['bytes_up'] / 1e6:.2f}",
            f"{d['bytes_down'] / 1e6:.2f}",
            f"{d['seconds']['train']:.1f}",
        )
    means = [f"{report.mean(found['devices'], arm):.3f}" for arm in report.ARMS]
    table.add_section()
    table.add_row("mean", "", "", "", "", *means)
    return table


def _run_option(finished: Finished) -> str:
    settings = finished.settings
    name = "" if settings.name == "demo" else f" --run {settings.name}"
    return name if str(settings.runs) == "runs" else f"{name} --runs {settings.runs}"
