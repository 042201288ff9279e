"""The demo's report as one page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from mimo_fed.demo import plots, report
from mimo_fed.demo.see import Sight
from mimo_fed.page.html import document, table, wide

Json = dict[str, Any]


def page(found: Json, *, name: str, sight: Sight | None = None) -> str:
    """Write the whole page.

    Args:
        found: the report, as `report.build` gives it.
        name: of the run.
        sight: what the coordinator saw of one device, if it is to be shown.
    """
    parts = [
        _head(found, name),
        "<h2>Devices</h2>",
        wide(plots.devices_svg(found["devices"])),
        _devices(found["devices"]),
        '<p class="faint">Bits per byte on each device\'s own test split; lower is better. Seconds are the '
        "device's, bytes are what crossed its network interface to and from Flower and the registry.</p>",
        "<h2>Rounds</h2>",
        wide(plots.rounds_svg(found["rounds"])),
        _rounds(found["rounds"]),
        _sight(sight),
        "<h2>Settings</h2>",
        _settings(found["settings"]),
    ]
    return document(f"MiMo-Fed: {name}", parts)


def _head(found: Json, name: str) -> str:
    settings = found["settings"]
    warnings = [settings["privacy"]]
    if settings["n_min_label"]:
        warnings.append(f"n_min = {settings['n_min']}, {settings['n_min_label']}")
    held = "".join(
        f'<li class="{"good" if line.startswith("held") else "bad"}">{escape(line)}</li>'
        for line in report.verdicts(found)
    )
    return (
        f"<h1>MiMo-Fed: {escape(name)}</h1>\n"
        f'<p class="faint">{len(found["devices"])} devices, {settings["rounds"]} training rounds, base '
        f"{escape(found['base'])}, {found['wall_s']:.0f} s in all.</p>\n"
        f"<ul>{held}</ul>\n" + "".join(f'<p class="warn">{escape(line)}</p>' for line in warnings)
    )


def _devices(devices: Sequence[Json]) -> str:
    head = ("device", "author", "language", "class", "rank", "base", "global", "personal", "&lambda;")
    rows = []
    for d in devices:
        language = d["language"] + (" (translated)" if d["translated"] else "")
        words = (d["name"], d["author"][:12], language, d["device_class"], str(d["rank"]))
        figures = (*(f"{d['bpb'][arm]:.3f}" for arm in report.ARMS), f"{d['lambda']:.2f}")
        sizes = (f"{d['bytes_up'] / 1e6:.2f}", f"{d['bytes_down'] / 1e6:.2f}")
        seconds = tuple(f"{d['seconds'][part]:.1f}" for part in report.PARTS)
        rows.append((*(escape(word) for word in words), *figures, *sizes, *seconds))
    return table((*head, "MB up", "MB down", *(f"{part} s" for part in report.PARTS)), rows)


def _rounds(rounds: Sequence[Json]) -> str:
    head = (
        "round",
        "kind",
        "asked",
        "in the sum",
        "left out",
        "release",
        "loss",
        "sums",
        "seconds",
        "quorum",
    )
    rows = []
    for r in rounds:
        sums = ", ".join(
            f"{s['name']}: {s['num_devices']}" if s["opened"] else f"{s['name']}: closed" for s in r["sums"]
        )
        release = "" if r["release"] is None else str(r["release"])
        loss = f"{r['loss_before']:.4f} &rarr; {r['loss_after']:.4f}"
        rows.append(
            (
                *(escape(r[key]) for key in ("round_id", "kind")),
                *(str(len(r[key])) for key in ("cohort", "survivors", "dropouts")),
                *(release, loss, escape(sums), f"{r['seconds']:.1f}", escape(r["quorum_digest"][:16])),
            )
        )
    return table(head, rows)


def _sight(sight: Sight | None) -> str:
    if sight is None:
        return ""
    return f"<h2>What the coordinator saw</h2>\n<pre>{escape(chr(10).join(sight.lines()))}</pre>"


def _settings(settings: Json) -> str:
    rows = [(escape(key), escape(str(value))) for key, value in settings.items() if value != ""]
    return table(("setting", "value"), rows)
