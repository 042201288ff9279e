"""The goals of learning, each met or not met, with the figure and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mimo_fed.evaluate.bootstrap import Estimate
from mimo_fed.evaluate.metrics import Summary
from mimo_fed.evaluate.records import Roles

SHARE: Final = 0.8
"""of users that the full arm must serve better than local only"""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One goal and how it stands.

    Attributes:
        text: what was asked.
        figure: what was measured; None if an arm that it needs was not run.
        line: what the figure is judged against.
        at_least: the line itself is enough; otherwise the figure must be above it.
        percent: the figure is a share.
    """

    text: str
    figure: Estimate | None
    line: float
    at_least: bool
    percent: bool

    @property
    def met(self) -> bool | None:
        """Whether the figure reaches the line; None if it was not measured."""
        return None if self.figure is None else self._reaches(self.figure.value)

    @property
    def clear(self) -> bool:
        """Whether the whole interval is on the figure's side of the line."""
        if self.figure is None or self.figure.low is None or self.figure.high is None:
            return False
        return self._reaches(self.figure.low) == self._reaches(self.figure.high)

    def _reaches(self, value: float) -> bool:
        return value >= self.line if self.at_least else value > self.line


def judge(federated: Sequence[Summary], cold: Sequence[Summary], roles: Roles) -> tuple[Goal, ...]:
    """Judge the goals on bits per byte.

    Args:
        federated: every arm over the users that took part in rounds.
        cold: every arm over those that never did.
        roles: which arms the goals speak of.
    """
    full = next((s for s in federated if s.arm == roles.full), None)
    untrained = next((s for s in cold if s.arm == roles.cold), None)
    return (
        Goal(
            text=f"{roles.full} beats {roles.local} for at least {100 * SHARE:.0f} % of users",
            figure=None if full is None else full.better_than_local,
            line=SHARE,
            at_least=True,
            percent=True,
        ),
        Goal(
            text=f"{roles.full} beats {roles.local} at the worst decile, in bits per byte",
            figure=None if full is None else full.worst_over_local,
            line=0.0,
            at_least=False,
            percent=False,
        ),
        Goal(
            text=f"cold-start users gain over {roles.base} by {roles.cold}, untrained, in bits per byte",
            figure=None if untrained is None else untrained.gain_over_base,
            line=0.0,
            at_least=False,
            percent=False,
        ),
    )
