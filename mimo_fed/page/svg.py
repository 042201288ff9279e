"""Figures as SVG that read on white and on near-black; the same numbers give the same bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from mimo_fed.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK: Final = "#7d8590"
"""readable on white and on near-black; a page replaces it by its own ink"""


def new_figure(*, width: float, height: float = 3.6) -> Figure:
    """Open a figure of this size in inches.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ConfigError(
            "a figure needs a package that is not installed: matplotlib", hint="install the extra [client]"
        ) from None
    mpl.use("Agg")
    return Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure, salt: str) -> str:
    """Draw a figure with transparent ground, text as text, and axes in `INK`.

    Args:
        figure: its axes' own colours are replaced, its artists' are not.
        salt: makes the ids inside differ from those of other figures on the page.
    """
    from matplotlib import rc_context

    for axes in figure.axes:
        axes.tick_params(which="both", colors=INK)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
        axes.set_facecolor("none")
        for side, spine in axes.spines.items():
            spine.set_visible(spine.get_visible() and side in ("left", "bottom"))
            spine.set_color(INK)
    buffer = io.StringIO()
    settings: Any = {"svg.hashsalt": salt, "svg.fonttype": "none", "font.family": "sans-serif"}
    with rc_context(settings):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
