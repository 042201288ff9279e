"""The report as one page: it opens from disk, needs no network, and follows the reader's light or dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from mimo_fed.demo import plots, report
from mimo_fed.demo.see import Sight

Json = dict[str, Any]

STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --paper: #fbfbfa; --faint: #6b7480; --line: #dfe3e7;
        --warn: #8a4b00; --warn-paper: #fff3e0; --good: #1d7a3f; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --paper: #14181c; --faint: #97a1ac; --line: #2c333a;
          --warn: #ffb866; --warn-paper: #2d2213; --good: #6cc98c; --bad: #ff8a80; }
}
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 68rem; color: var(--ink);
       background: var(--paper);
       font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p { max-width: 46rem; } .faint { color: var(--faint); }
.warn { color: var(--warn); background: var(--warn-paper); border-left: 4px solid; padding: .6rem .9rem; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line);
         white-space: nowrap; }
th { color: var(--faint); font-weight: 500; } td:first-child, th:first-child, .left { text-align: left; }
pre { background: color-mix(in srgb, var(--ink) 6%, transparent); padding: .8rem 1rem; overflow-x: auto;
      font-size: .82rem; }
"""


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
        f'<div class="wide">{plots.devices_svg(found["devices"])}</div>',
        _devices(found["devices"]),
        '<p class="faint">Bits per byte on each device\'s own test split; lower is better. Seconds are the '
        "device's, bytes are what crossed its network interface to and from Flower and the registry.</p>",
        "<h2>Rounds</h2>",
        f'<div class="wide">{plots.rounds_svg(found["rounds"])}</div>',
        _rounds(found["rounds"]),
        _sight(sight),
        "<h2>Settings</h2>",
        _settings(found["settings"]),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>MiMo-Fed: {escape(name)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


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
    return _table((*head, "MB up", "MB down", *(f"{part} s" for part in report.PARTS)), rows)


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
    return _table(head, rows)


def _sight(sight: Sight | None) -> str:
    if sight is None:
        return ""
    return f"<h2>What the coordinator saw</h2>\n<pre>{escape(chr(10).join(sight.lines()))}</pre>"


def _settings(settings: Json) -> str:
    rows = [(escape(key), escape(str(value))) for key, value in settings.items() if value != ""]
    return _table(("setting", "value"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
    )
