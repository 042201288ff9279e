"""What each arm did for the users: means, the worst tenth, who was harmed, and gains over other arms.

Seeds are averaged within a user first, so a user counts once however many seeds there are. Gains are signed
so that more is better, for bits per byte as for accuracy; a harmed user is one for whom the base alone did
better.

# legend: N users of one group, A arms, K figures, all float64
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from mimo_fed.errors import DataError
from mimo_fed.evaluate import bootstrap
from mimo_fed.evaluate.bootstrap import Estimate, Float64, Resamples
from mimo_fed.evaluate.records import Group, Roles, Row


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One thing that is measured on a user's test text.

    Attributes:
        field: of `Row`.
        title: what people read.
        better: -1 if lower is better, 1 if higher is.
    """

    field: Literal["bits_per_byte", "accuracy"]
    title: str
    better: int


BITS: Final = Measure(field="bits_per_byte", title="bits per byte", better=-1)
ACCURACY: Final = Measure(field="accuracy", title="intent accuracy", better=1)


@dataclass(frozen=True, kw_only=True)
class User:
    """What is known of one user; see `Row`."""

    user: str
    language: str
    device_class: str
    rank: int
    train_bytes: int


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One measure of one group of users under every arm that all of them have.

    Attributes:
        values: float64, shape (N, A): mean over seeds.
    """

    measure: Measure
    group: Group
    users: tuple[User, ...]
    arms: tuple[str, ...]
    values: Float64

    def column(self, arm: str) -> Float64:
        """Return float64 (N,): one arm's values, in the order of the users."""
        return np.asarray(self.values[:, self.arms.index(arm)])

    def gain(self, arm: str, over: str) -> Float64:
        """Return float64 (N,): by how much an arm is better than another, per user."""
        return self.measure.better * (self.column(arm) - self.column(over))

    def split(self, key: Callable[[User], str]) -> dict[str, Panel]:
        """Return a panel for each value that users have, largest first."""
        members: dict[str, list[int]] = {}
        for index, user in enumerate(self.users):
            members.setdefault(key(user), []).append(index)
        ordered = sorted(members.items(), key=lambda entry: (-len(entry[1]), entry[0]))
        return {
            value: dataclasses.replace(
                self, users=tuple(self.users[i] for i in indices), values=self.values[indices]
            )
            for value, indices in ordered
        }


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One arm's figures over one group of users. A comparison with an arm that was not run is None.

    Attributes:
        worst_decile: mean of the tenth of users for whom this arm does worst.
        harmed: share of users for whom the base alone does better.
        gain_over_base: mean over users; likewise over local and global.
        better_than_local: share of users for whom this arm does better than local only.
        worst_over_local: by how much this arm's worst decile is better than that of local only.
    """

    arm: str
    num_users: int
    mean: Estimate
    worst_decile: Estimate
    median: Estimate
    harmed: Estimate | None
    gain_over_base: Estimate | None
    gain_over_local: Estimate | None
    gain_over_global: Estimate | None
    better_than_local: Estimate | None
    worst_over_local: Estimate | None


def panel(rows: Sequence[Row], group: Group, measure: Measure) -> Panel | None:
    """Arrange rows by user and arm; None if no row of the group has the measure.

    Raises:
        DataError: an arm lacks a user, or a seed of one (so arms could not be paired); or a user's language,
            class, rank or size changes between rows.
    """
    chosen = [r for r in rows if r.group == group and getattr(r, measure.field) is not None]
    if not chosen:
        return None
    users = _users(chosen)
    seeds: dict[str, set[int]] = {}
    cells: dict[tuple[str, str], list[float]] = {}
    for r in chosen:
        seeds.setdefault(r.arm, set()).add(r.seed)
        cells.setdefault((r.user, r.arm), []).append(getattr(r, measure.field))
    for arm, found in seeds.items():
        for name in users:
            if (count := len(cells.get((name, arm), ()))) != len(found):
                raise DataError(f"arm {arm} has {count} rows, not {len(found)}, for user {name}")
    values_NA = np.array([[np.mean(cells[name, arm]) for arm in seeds] for name in users])
    return Panel(
        measure=measure, group=group, users=tuple(users.values()), arms=tuple(seeds), values=values_NA
    )


def summarise(of: Panel, roles: Roles) -> tuple[Summary, ...]:
    """Compute every arm's figures with their intervals, in the order of the arms."""
    draws, sign = Resamples(len(of.users)), of.measure.better
    bad_NA = -sign * of.values
    means = draws.estimate(bootstrap.mean(of.values))
    worst = [_times(e, -sign) for e in draws.estimate(bootstrap.top_decile(bad_NA))]
    medians = draws.estimate(bootstrap.median(of.values))
    over_base, over_local, over_global = (
        _gains(of, draws, reference) for reference in (roles.base, roles.local, roles.shared)
    )
    harmed, better = _shares(of, draws, roles.base, -1), _shares(of, draws, roles.local, 1)
    distance = _worst_gains(of, draws, roles.local)
    return tuple(
        Summary(
            arm=arm,
            num_users=len(of.users),
            mean=means[a],
            worst_decile=worst[a],
            median=medians[a],
            harmed=harmed[a],
            gain_over_base=over_base[a],
            gain_over_local=over_local[a],
            gain_over_global=over_global[a],
            better_than_local=better[a],
            worst_over_local=distance[a],
        )
        for a, arm in enumerate(of.arms)
    )


def _users(rows: Sequence[Row]) -> dict[str, User]:
    users: dict[str, User] = {}
    for r in rows:
        user = User(
            user=r.user,
            language=r.language,
            device_class=r.device_class,
            rank=r.rank,
            train_bytes=r.train_bytes,
        )
        if users.setdefault(r.user, user) != user:
            raise DataError(f"language, class, rank or size differ between rows of user {r.user}")
    return users


def _others(of: Panel, reference: str, figures: list[Estimate]) -> list[Estimate | None]:
    """Leave out the arm that would be compared with itself."""
    return [None if arm == reference else e for arm, e in zip(of.arms, figures, strict=True)]


def _gains(of: Panel, draws: Resamples, reference: str) -> list[Estimate | None]:
    if reference not in of.arms:
        return [None] * len(of.arms)
    gains_NA = np.stack([of.gain(arm, reference) for arm in of.arms], axis=1)
    return _others(of, reference, draws.estimate(bootstrap.mean(gains_NA)))


def _shares(of: Panel, draws: Resamples, reference: str, sign: int) -> list[Estimate | None]:
    """Share of users whose gain has this sign; no gain at all has neither."""
    if reference not in of.arms:
        return [None] * len(of.arms)
    gains_NA = np.stack([of.gain(arm, reference) for arm in of.arms], axis=1)
    return _others(of, reference, draws.estimate(bootstrap.mean((sign * gains_NA > 0).astype(np.float64))))


def _worst_gains(of: Panel, draws: Resamples, reference: str) -> list[Estimate | None]:
    """Each arm has a worst tenth of its own; both are taken from the same draw."""
    if reference not in of.arms:
        return [None] * len(of.arms)
    worst = bootstrap.top_decile(-of.measure.better * of.values)
    place = of.arms.index(reference)

    def distance(weights_SN: Float64) -> Float64:
        worst_SA = worst(weights_SN)
        return worst_SA[:, place : place + 1] - worst_SA

    return _others(of, reference, draws.estimate(distance))


def _times(estimate: Estimate, sign: int) -> Estimate:
    """Turn an estimate round where the sign is -1."""
    if sign > 0:
        return estimate
    low, high = estimate.low, estimate.high
    return Estimate(-estimate.value, None if high is None else -high, None if low is None else -low)
