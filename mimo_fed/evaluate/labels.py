"""Words beside what they name: labels of points and of line ends that do not lie on each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

Align = Literal["left", "right", "center"]

SIZE: Final = 9
"""of a label's letters, in points"""

_FAR: Final = 18
"""points above or below the mark from which on a label is tied to it"""

_OFFSETS: Final[tuple[tuple[int, int, Align], ...]] = tuple(
    offset
    for far in (0, 9, 18, 27, 36, 48, 60)
    for offset in (
        (7, far, "left"),
        (7, -far, "left"),
        (-7, far, "right"),
        (-7, -far, "right"),
        (0, far + 12, "center"),
        (0, -far - 12, "center"),
    )
)
"""where a label may be, in points from its mark, best first"""


@dataclass(frozen=True, kw_only=True)
class Label:
    """One word at a point of the axes' data."""

    text: str
    x: float
    y: float
    colour: str


def place(axes: Axes, labels: Sequence[Label]) -> None:
    """Write each label near its point, where it meets no other label and no point, if there is such a place.

    A label that had to go far is tied to its point by a thin line. The axes' limits must be final.
    """
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    if figure is None:
        return
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    points = [axes.transData.transform((label.x, label.y)) for label in labels]
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in points]
    for label in labels:
        for offset in _OFFSETS:
            text = _write(axes, label, *offset)
            box = text.get_window_extent()
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                break
            text.remove()
        else:
            offset = _OFFSETS[0]
            box = _write(axes, label, *offset).get_window_extent()
        if abs(offset[1]) > _FAR:
            _tie(axes, label, offset[0], offset[1])
        taken.append(box)


def _write(axes: Axes, label: Label, dx: int, dy: int, align: Align) -> Annotation:
    text = axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=(dx, dy),
        textcoords="offset points",
        ha=align,
        va="center",
        color=label.colour,
        fontsize=SIZE,
    )
    text.set_in_layout(False)
    return text


def _tie(axes: Axes, label: Label, dx: int, dy: int) -> None:
    line = {"arrowstyle": "-", "color": label.colour, "lw": 0.6, "shrinkA": 0, "shrinkB": 3}
    near = dy - math.copysign(SIZE / 2, dy) if dx == 0 else dy
    tie = axes.annotate(
        "", (label.x, label.y), xytext=(dx, near), textcoords="offset points", arrowprops=line
    )
    tie.set_in_layout(False)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Move places apart until neighbours are at least a gap from each other, and as little as that takes.

    Args:
        wanted: in any order.
        gap: positive.

    Returns:
        the new places, in the order of `wanted`; their order along the axis is kept.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    pools: list[tuple[float, int]] = []  # what each pool's first place should be, and how many are in it
    for i, index in enumerate(order):
        sum_, count = wanted[index] - i * gap, 1
        while pools and pools[-1][0] / pools[-1][1] > sum_ / count:
            before = pools.pop()
            sum_, count = sum_ + before[0], count + before[1]
        pools.append((sum_, count))
    starts = [sum_ / count for sum_, count in pools for _ in range(count)]
    placed = [0.0] * len(wanted)
    for i, index in enumerate(order):
        placed[index] = starts[i] + i * gap
    return placed
