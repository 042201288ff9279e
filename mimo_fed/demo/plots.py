"""The report's two figures, as SVG: bits per byte by device, and loss by round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mimo_fed.page.svg import INK, new_figure, to_svg

Json = dict[str, Any]

COLOURS = {"base": "#9aa3ad", "global": "#3b82c4", "personal": "#e08a2c"}
LABELS = {"base": "base", "global": "global", "personal": "global + personal"}


def devices_svg(devices: Sequence[Json]) -> str:
    """Draw three bars per device: bits per byte on its test split; lower is better."""
    figure = new_figure(width=max(6.0, 1.15 * len(devices)))
    axes = figure.add_subplot()
    for offset, (arm, colour) in enumerate(COLOURS.items()):
        heights = [d["bpb"][arm] for d in devices]
        places = [i + (offset - 1) * 0.27 for i in range(len(devices))]
        axes.bar(places, heights, width=0.25, color=colour, label=LABELS[arm])
    axes.set_xticks(range(len(devices)), [f"{d['name']}\n{d['language']}, rank {d['rank']}" for d in devices])
    axes.set_ylabel("bits per byte on the test split")
    axes.legend(frameon=False, labelcolor=INK, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return to_svg(figure, "devices")


def rounds_svg(rounds: Sequence[Json]) -> str:
    """Draw the devices' mean loss before and after each training round, on their validation text."""
    trained = [r for r in rounds if r["kind"] == "train"]
    figure = new_figure(width=6.0)
    axes = figure.add_subplot()
    numbers = range(1, len(trained) + 1)
    before, after = [r["loss_before"] for r in trained], [r["loss_after"] for r in trained]
    axes.plot(numbers, before, "o-", color=COLOURS["global"], label="before training: the shared adapter")
    axes.plot(numbers, after, "s--", color=COLOURS["personal"], label="after training: each device's own")
    axes.set_xticks(list(numbers))
    axes.set_xlabel("training round")
    axes.set_ylabel("loss, nats per token")
    axes.margins(x=0.1, y=0.2)
    axes.legend(frameon=False, labelcolor=INK)
    return to_svg(figure, "rounds")
