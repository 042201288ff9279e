"""Who is asked to take part in a round, and when the others come back.

A device's record says when it was last asked and how often; the coordinator's database keeps it. The records
go in and changed ones come out, entropy and time are arguments, and a round noted twice counts once, so that
a replayed round leaves the same records.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import ConfigError, LocalProtocolError, PeerProtocolError

OVER_SELECTION: Final = 1.3
"""devices asked for each one wanted, against drop-outs and stragglers; Bonawitz et al. 2019 ask as many"""
MAX_PATIENCE: Final = 4.0
"""a device counts as having waited no longer than this many times the median wait"""
MAX_LEAD: Final = 2
"""each round that a device is ahead of the median halves its weight, this often at most"""
TOGETHER: Final = 0.1
"""share of a period within which a small population comes back"""
_DRAW_BYTES: Final = 8


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A device's record of participation, as plain values.

    Attributes:
        device_id: whose.
        last_round: sequence of the last round it was asked in, answered or not; None before the first.
        num_rounds: rounds it was asked in.
        last_contributed: sequence of the last round whose sums it is in; None before the first.
        num_contributed: rounds whose sums it is in.
    """

    device_id: str
    last_round: int | None = None
    num_rounds: int = 0
    last_contributed: int | None = None
    num_contributed: int = 0


def note_asked(known: Mapping[str, Candidate], cohort: Iterable[str], sequence: int) -> dict[str, Candidate]:
    """Return the records of a cohort after it was asked; to be stored in place of the old ones."""
    records = {d: known.get(d, Candidate(device_id=d)) for d in cohort}
    return {
        d: r
        if _reached(r.last_round, sequence)
        else replace(r, last_round=sequence, num_rounds=r.num_rounds + 1)
        for d, r in records.items()
    }


def note_contributed(
    known: Mapping[str, Candidate], survivors: Iterable[str], sequence: int
) -> dict[str, Candidate]:
    """Return the records of a round's survivors after its sums were opened.

    Raises:
        LocalProtocolError: a survivor was not noted as asked in that round or a later one.
    """
    changed = {}
    for device_id in survivors:
        record = known.get(device_id, Candidate(device_id=device_id))
        if not _reached(record.last_round, sequence):
            raise LocalProtocolError(f"a survivor was never asked in round {sequence}: {device_id}")
        if not _reached(record.last_contributed, sequence):
            record = replace(record, last_contributed=sequence, num_contributed=record.num_contributed + 1)
        changed[device_id] = record
    return changed


def _reached(last: int | None, sequence: int) -> bool:
    return last is not None and last >= sequence


def choose_cohort(
    eligible: Iterable[Candidate],
    want: int,
    *,
    sequence: int,
    draw: Callable[[int], bytes],
    over_selection: float = OVER_SELECTION,
) -> tuple[str, ...]:
    """Draw a round's cohort at random, with more weight for who waited longer and was asked less.

    Each device gets a key, exponential with rate `weight`, and the smallest keys are taken: a weighted draw
    without replacement in one pass (Efraimidis and Spirakis 2006; their key is exp(-key)). The weight is

        min(rounds since it was last asked, MAX_PATIENCE * median of that)
            * 2^-clip(num_rounds - median of that, 0, MAX_LEAD)

    The wait pulls up whoever is behind; the lead holds back whoever is ahead because it is there more often.
    Both are relative to who is there now, and bounded: in the first draw no device's chance exceeds 32 /
    eligible, so none can lie low and then be sure of a round that it chose. Being asked ends the wait whether
    or not an answer follows, so silence keeps no device at the head. A device never asked counts as having
    waited as long as the most patient, and no longer: a fresh identity gains one round's head start.

    Simulated, with 200 devices there half of the time and 20 of them asked in each of 600 rounds: 60 rounds
    each, standard deviation 2.6 and all within a third, where an even draw has 9. Who is there 1.8 times as
    often is asked 1.3 times as often (tests/unit/round/test_cohort.py).

    Neither speed nor insistence counts: the order of `eligible` is of no effect, and a device named twice
    counts once.

    Args:
        eligible: records of the devices that are there and may be asked.
        want: contributions wanted.
        sequence: of this round; greater than that of every round in the records.
        draw: returns that many uniformly random bytes.
        over_selection: devices asked for each one wanted, at least 1; some will drop out.

    Returns:
        ceil(want * over_selection) ids, or all if there are fewer; sorted.

    Raises:
        ConfigError: a number out of range.
        LocalProtocolError: a record from this round or a later one, or a short draw.
    """
    if want < 1 or not (math.isfinite(over_selection) and over_selection >= 1):
        raise ConfigError(f"a cohort needs want >= 1 and over_selection >= 1: {want}, {over_selection}")
    records = [record for _, record in sorted({c.device_id: c for c in eligible}.items())]
    count = math.ceil(want * over_selection - 1e-9)
    if not records:
        return ()
    keys_N = -np.log(_uniform(draw, len(records))) / _weights(records, sequence)
    chosen = np.argsort(keys_N, kind="stable")[:count]
    return tuple(sorted(records[i].device_id for i in chosen))


def _weights(records: list[Candidate], sequence: int) -> NDArray[np.float64]:
    """Weigh each device by its wait and its lead; see `choose_cohort`. Shape (N,), positive."""
    for record in records:
        if _reached(record.last_round, sequence):
            raise LocalProtocolError(f"a device was asked in this round or later: {record.device_id}")
    waits = [sequence - r.last_round for r in records if r.last_round is not None]
    longest = max(waits, default=1)
    waited_N = np.array(
        [longest if r.last_round is None else sequence - r.last_round for r in records], float
    )
    rounds_N = np.array([r.num_rounds for r in records], float)
    lead_N = np.clip(rounds_N - np.median(rounds_N), 0, MAX_LEAD)
    weights_N: NDArray[np.float64] = np.minimum(waited_N, MAX_PATIENCE * np.median(waited_N)) * 2.0**-lead_N
    return weights_N


def _uniform(draw: Callable[[int], bytes], num: int) -> NDArray[np.float64]:
    """Turn random bytes into numbers strictly between 0 and 1, 52 bits each. Shape (N,)."""
    data = draw(_DRAW_BYTES * num)
    if len(data) != _DRAW_BYTES * num:
        raise LocalProtocolError(f"a draw of {_DRAW_BYTES * num} bytes gave: {len(data)}")
    words_N = np.frombuffer(data, ">u8") >> np.uint64(12)
    return (words_N.astype(np.float64) + 0.5) * 2.0**-52


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often devices come back.

    Attributes:
        arrivals: devices to come in a period, for each one wanted.
        min_s: shortest delay.
        max_s: longest delay, at least twice the shortest; a day, so that every device soon hears of a change.

    Raises:
        ConfigError: a number out of range.
    """

    arrivals: float = 3.0
    min_s: float = 60.0
    max_s: float = 86_400.0

    def __post_init__(self) -> None:
        if not 1 <= self.arrivals < math.inf:
            raise ConfigError(f"arrivals for each device wanted must be at least 1: {self.arrivals}")
        if not 0 < 2 * self.min_s <= self.max_s < math.inf:
            raise ConfigError(
                f"shortest delay must be at most half of the longest: {self.min_s}, {self.max_s}"
            )


def come_back_s(
    population: int, want: int, period_s: float, u: float, *, next_round_s: float, pace: Pace = Pace()
) -> float:
    """Tell a device that is not needed now after how many seconds to ask again.

    A small population (at most `pace.arrivals` for each device wanted) comes back together, in the first
    tenth of the next period, so that n_min of it are there at once. A large one is spread: each delay is
    uniform with mean S = period * population / (arrivals * want), so that arrivals * want devices come in a
    period. If all ask in one moment, as after a restart, between half and 1.4 times as many come at first,
    which is why `arrivals` is more than twice `OVER_SELECTION`; that evens out within a few S. Where S is
    over half the longest delay, more devices than that come, and are told the same again.

    Nothing is remembered of a device, and nothing is sent to it but the delay.

    Args:
        population: devices that were seen in the last day.
        want: contributions wanted in a round.
        period_s: from the start of a round to the start of the next.
        u: uniformly random in 0 <= u < 1, fresh for each answer.
        next_round_s: from now to the start of the next round.
        pace: how many are to come, and the limits of a delay.

    Returns:
        Seconds, `pace.min_s` to `pace.max_s`.

    Raises:
        ConfigError: a number out of range.

    Ref: Bonawitz et al. 2019 (towards federated learning at scale), section 2.3, pace steering.
    """
    if population < 0 or want < 1 or not 0 <= u < 1:
        raise ConfigError(f"population, want or u is out of range: {population}, {want}, {u}")
    if not (0 < period_s < math.inf and 0 <= next_round_s < math.inf):
        raise ConfigError(f"period or time to the next round is out of range: {period_s}, {next_round_s}")
    share = population / (pace.arrivals * want)
    if share <= 1:
        return min(max(next_round_s + u * TOGETHER * period_s, pace.min_s), pace.max_s)
    longest_s = min(max(2 * share * period_s - pace.min_s, 2 * pace.min_s), pace.max_s)
    return pace.min_s + u * (longest_s - pace.min_s)


def write_rest(seconds: float, reason: str) -> bytes:
    """Tell a device for how long it is not needed, and why."""
    return json.dumps({"seconds": round(seconds, 1), "reason": reason}).encode()


def read_rest(request: bytes) -> tuple[float, str]:
    """Read what `write_rest` wrote: (seconds, reason).

    Raises:
        PeerProtocolError: it is something else, or more than a day: nobody sends a device away for good.
    """
    try:
        raw = json.loads(request)
        seconds, reason = float(raw["seconds"]), str(raw["reason"])[:200]
    except (ValueError, KeyError, TypeError):
        raise PeerProtocolError(f"rest cannot be read: {request[:40]!r}") from None
    if not 0 <= seconds <= Pace.max_s:
        raise PeerProtocolError(f"rest is not within a day: {seconds}")
    return seconds, reason
