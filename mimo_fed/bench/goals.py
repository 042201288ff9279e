"""The figures to reach, and which of them a run has reached.

A goal about something that was not measured, since a package is not installed or it was skipped, is neither
met nor missed; one about another length of vector is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]
_ANY: Final = 1 << 62
_TWO_CORES: Final = 0.6
"""the control's ratio up to which two threads can be said to have had a core each"""
GOALS_LENGTH: Final = 10_000_000
"""parameters of the vector that the goals are stated for"""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One figure to reach.

    Attributes:
        figure: what it is, for people.
        unit: of the figure.
        read: finds the figure in a document; raises KeyError if it was not measured.
        at_most: the figure must not be above this; or
        at_least: must not be below this.
        num_params: (lowest, highest + 1) length of vector that the goal is about.
    """

    figure: str
    unit: str
    read: Callable[[Json], float]
    at_most: float | None = None
    at_least: float | None = None
    num_params: tuple[int, int] = (0, _ANY)

    def judge(self, document: Json) -> Json:
        """Return figure, unit, goal, measured and met; the last two None if it was not measured."""
        try:
            measured = self.read(document)
        except KeyError:
            measured = None
        return {
            "figure": self.figure,
            "unit": self.unit,
            "goal": self.text,
            "measured": measured,
            "met": None if measured is None else self._met(measured),
        }

    @property
    def text(self) -> str:
        """The goal in words: `<= 8` or `>= 40`."""
        return f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"

    def _met(self, measured: float) -> bool:
        if self.at_most is not None:
            return measured <= self.at_most
        return self.at_least is not None and measured >= self.at_least


def at(*path: str) -> Callable[[Json], float]:
    """Make a `read` that follows keys; a null on the way counts as not measured."""

    def read(document: Json) -> float:
        value: Any = document
        for key in path:
            value = value[key]
            if value is None:
                raise KeyError(key)
        return float(value)

    return read


def spread(values: Mapping[str, float]) -> float:
    """Return by how much the values differ from their middle at most: 0.05 is +-5 %."""
    if not values:
        raise KeyError("nothing was measured")
    high, low = max(values.values()), min(values.values())
    return (high - low) / (high + low)


def halving(document: Json) -> float:
    """Return the wall time of two threads over that of one, if the machine had two cores to give.

    Raises:
        KeyError: it had not: hashing, which two threads can do at once, did not gain either.
    """
    if document["control_wall_ratio_2_threads"] > _TWO_CORES:
        raise KeyError("two threads had less than two cores")
    return float(document["protect_wall_ratio_2_threads"])


def growth(document: Json) -> float:
    """Return by how much one more device raises the coordinator's peak, as a fraction of its message."""
    peaks: Mapping[str, float] = document["coordinator_peak_mb"]
    if len(peaks) < 2:
        raise KeyError("one size tells nothing of growth")
    few, *_, many = sorted(peaks, key=int)
    raised_bytes = (peaks[many] - peaks[few]) * 1e6 / (int(many) - int(few))
    return raised_bytes / float(document["client"]["bytes"])


GOALS: Final = (
    Goal(figure="protect, numba", unit="ns/param", read=at("protect_ns_per_param", "numba"), at_most=8),
    Goal(figure="protect, numpy", unit="ns/param", read=at("protect_ns_per_param", "numpy"), at_most=90),
    Goal(
        figure="protect, wall time of two threads",
        unit="x one",
        read=halving,
        at_most=0.55,
    ),
    Goal(figure="add, 32-bit sum", unit="x plain", read=at("add_vs_plain_sum", "u32"), at_most=1.15),
    Goal(figure="add, 16-bit sum", unit="x plain", read=at("add_vs_plain_sum", "u16"), at_most=0.7),
    Goal(figure="unmask, nobody dropped", unit="ns/param", read=at("unmask_ns_per_param", "0"), at_most=8),
    Goal(figure="unmask, 20 % dropped", unit="ns/param", read=at("unmask_ns_per_param", "0.2"), at_most=8),
    Goal(figure="unmask, 40 % dropped", unit="ns/param", read=at("unmask_ns_per_param", "0.4"), at_most=8),
    Goal(
        figure="unmask, spread over dropout",
        unit="+-",
        read=lambda document: spread(document["unmask_ns_per_param"]),
        at_most=0.05,
    ),
    Goal(
        figure="upload over b/8 bytes a parameter",
        unit="fraction",
        read=at("upload_overhead"),
        at_most=0.01,
        num_params=(GOALS_LENGTH, _ANY),
    ),
    Goal(
        figure="upload over b/8 bytes a parameter",
        unit="fraction",
        read=at("upload_overhead"),
        at_most=0.06,
        num_params=(1_000_000, GOALS_LENGTH),
    ),
    Goal(figure="member, each contribution", unit="ms", read=at("member_ms_per_contribution"), at_most=1),
    Goal(
        figure="member's bytes over 20 kB + 2.7 kB n",
        unit="x",
        read=lambda document: float(document["member_bytes"]["all"] / document["member_bytes"]["allowed"]),
        at_most=1,
    ),
    Goal(
        figure="coordinator's peak, one more device",
        unit="of M2",
        read=growth,
        at_most=0.01,
        num_params=(1_000_000, _ANY),
    ),
    Goal(
        figure="Flower SecAgg+, 32: client time",
        unit="x ours",
        read=at("vs", "flower_32", "client_time_ratio"),
        at_least=40,
    ),
    Goal(
        figure="Flower SecAgg+, 32: masking alone",
        unit="x ours",
        read=at("vs", "flower_32", "masking_time_ratio"),
        at_least=40,
    ),
    Goal(
        figure="Flower SecAgg+, 32: bytes",
        unit="x ours",
        read=at("vs", "flower_32", "bytes_ratio"),
        at_least=4,
    ),
    Goal(figure="CKKS: client time", unit="x ours", read=at("vs", "ckks", "client_time_ratio"), at_least=500),
    Goal(
        figure="CKKS: encrypting alone",
        unit="x ours",
        read=at("vs", "ckks", "masking_time_ratio"),
        at_least=500,
    ),
    Goal(figure="CKKS: bytes", unit="x ours", read=at("vs", "ckks", "bytes_ratio"), at_least=19),
)


def judge(document: Json) -> list[Json]:
    """Judge every goal that is about a vector of this length."""
    num_params = document["params"]
    return [goal.judge(document) for goal in GOALS if goal.num_params[0] <= num_params < goal.num_params[1]]
