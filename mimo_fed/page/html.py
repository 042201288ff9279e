"""One page: it opens from disk, needs no network and no script, and follows the reader's light or dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from mimo_fed.page.svg import INK

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2329; --paper: #fbfbfa; --faint: #6b7480; --line: #dfe3e7;
        --warn: #8a4b00; --warn-paper: #fff3e0; --good: #1d7a3f; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --paper: #14181c; --faint: #97a1ac; --line: #2c333a;
          --warn: #ffb866; --warn-paper: #2d2213; --good: #6cc98c; --bad: #ff8a80; }
  svg { filter: brightness(1.3); }
}
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 68rem; color: var(--ink);
       background: var(--paper);
       font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p { max-width: 46rem; } .faint { color: var(--faint); }
.warn { color: var(--warn); background: var(--warn-paper); border-left: 4px solid; padding: .6rem .9rem; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
svg [style*="fill: INK"] { fill: var(--faint) !important; }
svg [style*="stroke: INK"] { stroke: var(--faint) !important; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line);
         white-space: nowrap; }
th { color: var(--faint); font-weight: 500; } td:first-child, th:first-child, .left { text-align: left; }
pre { background: color-mix(in srgb, var(--ink) 6%, transparent); padding: .8rem 1rem; overflow-x: auto;
      font-size: .82rem; }
""".replace("INK", INK)


def document(title: str, parts: Sequence[str]) -> str:
    """Join parts of HTML into a whole page; empty parts are left out."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table of cells that are HTML already; it scrolls sideways where the window is narrow."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
    )


def wide(svg: str) -> str:
    """Hold a figure, which scrolls sideways where the window is narrow."""
    return f'<div class="wide">{svg}</div>'
