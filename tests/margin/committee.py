"""How many corrupt members a committee stands, and how often a drawn one has more (docs/protocol.md 6).

The tails are binomial, computed in logarithms; `test_margin` checks them against exact fractions.
Legend: C members, r answers to interpolate, Q votes for a quorum, f corrupt members, l packing; gamma the
corrupt share of all devices, delta the share of members that fail; kC devices are eligible on average, of
which the coordinator picks C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import comb, exp, inf, lgamma, log, log2
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Committee:
    """Size C, quorum Q, threshold r, corrupt f, packing l."""

    size: int
    quorum: int
    threshold: int
    corrupt: int
    packing: int


def all_members(n: int) -> Committee:
    """Mode `all`: every contributor is a member."""
    r = -(-7 * n // 10)
    f = 2 * r - n - 1
    return Committee(size=n, quorum=r, threshold=r, corrupt=f, packing=r - f)


SAMPLED: Final = Committee(size=64, quorum=48, threshold=48, corrupt=31, packing=17)
HELPERS: Final = tuple(
    Committee(size=c, quorum=q, threshold=r, corrupt=f, packing=1)
    for c, f, q, r in ((3, 1, 3, 2), (5, 2, 4, 3), (7, 3, 6, 4))
)
TABLE: Final = {
    (0.05, 0.05): (40, 29, 17, 12),
    (0.05, 0.10): (59, 40, 20, 20),
    (0.05, 0.30): (334, 193, 51, 142),
    (0.10, 0.05): (49, 37, 24, 13),
    (0.10, 0.10): (76, 54, 31, 23),
    (0.10, 0.30): (521, 314, 106, 208),
    (0.20, 0.05): (73, 58, 42, 16),
    (0.20, 0.10): (116, 87, 57, 30),
}
"""(gamma, delta) to (C, r, f, l) of the design, Q = r"""


def allowed() -> tuple[Committee, ...]:
    """Return every committee that some mode allows."""
    return (*(all_members(n) for n in range(3, 65)), SAMPLED, *HELPERS)


def common_honest(c: Committee) -> int:
    """Fewest honest members that two quorums have in common, f being corrupt."""
    return 2 * c.quorum - c.size - c.corrupt


def unknown_values(c: Committee) -> int:
    """Values of a sharing polynomial that f shares leave open; l of them hide the secrets."""
    return c.threshold - c.corrupt


def losses(c: Committee) -> int:
    """Members that may be lost before the vote; r of those that voted must then answer."""
    return c.size - max(c.quorum, c.threshold)


def binomial_tail(trials: int, chance: float, at_least: int) -> float:
    """Log2 of the probability of `at_least` or more successes."""
    if at_least <= 0:
        return 0.0
    if not 0 < chance < 1 or at_least > trials:
        return 0.0 if chance >= 1 and at_least <= trials else -inf
    successes, failures = log(chance), log(1 - chance)
    terms = [
        lgamma(trials + 1) - lgamma(i + 1) - lgamma(trials - i + 1) + i * successes + (trials - i) * failures
        for i in range(at_least, min(trials, at_least + 2000) + 1)
    ]
    return _log2_sum(terms)


def poisson_tail(mean: float, at_least: int) -> float:
    """Log2 of the probability of `at_least` or more events."""
    return _log2_sum([i * log(mean) - mean - lgamma(i + 1) for i in range(at_least, at_least + 2000)])


def exact_tail(trials: int, chance: Fraction, at_least: int) -> float:
    """Log2 of the same as `binomial_tail`, summed in fractions."""
    total = sum(
        comb(trials, i) * chance**i * (1 - chance) ** (trials - i) for i in range(at_least, trials + 1)
    )
    return log2(total.numerator) - log2(total.denominator) if total else -inf


def _log2_sum(logs: list[float]) -> float:
    most = max(logs)
    return (most + log(sum(exp(x - most) for x in logs))) / log(2)


def drawn_corrupt(c: Committee, gamma: float, k: int) -> float:
    """Log2 of the chance that more than f of exactly kC eligible devices are corrupt: the design's model."""
    return binomial_tail(k * c.size, gamma, c.corrupt + 1)


def lottery_corrupt(c: Committee, gamma: float, k: int, population: int) -> float:
    """Log2 of the chance that more than f corrupt devices are eligible: the lottery as it is run.

    Each of the gamma * population corrupt devices is eligible by itself with chance kC / population, and the
    coordinator picks all of them. How many devices are eligible altogether does not matter.
    """
    return binomial_tail(round(gamma * population), min(1.0, k * c.size / population), c.corrupt + 1)


def lottery_limit(c: Committee, gamma: float, k: int) -> float:
    """Log2 of the same for a large population, where the number of eligible corrupt devices is Poisson."""
    return poisson_tail(gamma * k * c.size, c.corrupt + 1)


def too_few_answers(c: Committee, delta: float) -> float:
    """Log2 of the chance that more members fail than may be lost."""
    return binomial_tail(c.size, delta, losses(c) + 1)


def too_few_eligible(c: Committee, k: int, present: float) -> float:
    """Log2 of the chance that fewer than C eligible devices are present, for a large population."""
    mean = k * c.size * present
    return _log2_sum([i * log(mean) - mean - lgamma(i + 1) for i in range(c.size)])


def largest(tail: Callable[[float], float], log2_limit: float) -> float:
    """Bisect for the largest share whose tail is within the limit."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) <= log2_limit else (low, middle)
    return low


def log2_tries(log2_hashes: float, num_corrupt: int) -> float:
    """Log2 of the beacons that so many hashes can try: a try hashes the id of each corrupt device."""
    return log2_hashes - log2(num_corrupt)


def captured_group(num_contributors: int, num_corrupt: int, group: int) -> float:
    """Log2 of the chance that one honest contributor falls in a group where all others are corrupt."""
    return log2(comb(num_corrupt, group - 1)) - log2(comb(num_contributors - 1, group - 1))
