"""What the ring-LWE masks cost to break, in the core-SVP model (docs/protocol.md 3.6, the security argument).

Three attacks, all by lattice reduction in blocks of b under the geometric series assumption: *primal* looks
for the errors as the one unusually short vector; *dual* tells samples from uniform words with short vectors
of the dual lattice; *guessing dual* also guesses some coordinates of the secret, modulo a small p, by a
Fourier transform. A cost model turns b into operations. Estimates of attacks that are known, not proofs.

A secret uniform modulo q is no better than one drawn like the errors: n samples with an invertible matrix
turn the one into the other (normal form; Applebaum, Cash, Peikert, Sahai 2009). So n samples are spent, and
all attacks here take secret and errors of one deviation.
Legend: n dimension of the secret, m samples used, d dimension of the lattice, delta root-Hermite factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, e, lgamma, log, log2, pi, sqrt
from typing import Final

RING: Final = 2048
LOG2_Q: Final = log2(2**31 - 2**17 + 1)
ETA: Final = 32
"""an error is the sum of 32 coin tosses less that of 32 others: variance 16"""

BITS_PER_BLOCK: Final = {"classical": 0.292, "quantum": 0.265, "quantum walk": 0.257, "list": 0.2075}
"""log2 of the cost of one short vector in dimension b, over b

Classical sieve: Becker, Ducas, Gama, Laarhoven 2016. Quantum: Laarhoven 2015; with quantum walks: Chailloux,
Loyer 2021. The last counts only that a sieve writes down its list of (4/3)^(b/2) vectors, and is nobody's
algorithm (Alkim, Ducas, Pöppelmann, Schwabe 2016: "ADPS").
"""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """Samples of (ring-)LWE in normal form.

    Attributes:
        dim: n.
        log2_q: of the modulus.
        deviation: standard deviation of secret and errors.
        max_samples: how many an attacker has, beyond those spent on the normal form.
    """

    dim: int
    log2_q: float
    deviation: float
    max_samples: int = 1 << 28


@dataclass(frozen=True, kw_only=True)
class Attack:
    """The cheapest setting of an attack: block size, samples, dimension, and log2 of the classical cost."""

    block: int
    samples: int
    dim: int
    cost: float


MASK: Final = Instance(dim=RING, log2_q=LOG2_Q, deviation=4.0)
HINTED: Final = Instance(dim=RING, log2_q=LOG2_Q, deviation=4.0 / sqrt(2))
"""one of two honest masks, once the sum of their keys and of their errors is known"""


def log2_delta(block: int) -> float:
    """Log2 of the root-Hermite factor that blocks of this size reach (Chen 2013)."""
    return log2((pi * block) ** (1 / block) * block / (2 * pi * e)) / (2 * (block - 1))


def primal(instance: Instance) -> Attack:
    """Find the least block size that finds the errors as a unique short vector (condition of ADPS 2016)."""
    n = instance.dim
    for block in range(50, 4000):
        step = log2_delta(block)
        best = sqrt((n + 1) * instance.log2_q / step)
        dim = max(n + 2.0, min(best, n + 1.0 + instance.max_samples))
        last_of_block = (2 * block - dim - 1) * step + (dim - n - 1) * instance.log2_q / dim
        if log2(instance.deviation) + 0.5 * log2(block) <= last_of_block:
            cost = BITS_PER_BLOCK["classical"] * block
            return Attack(block=block, samples=round(dim - n - 1), dim=round(dim), cost=cost)
    raise ValueError(f"no block size is enough: {instance}")


def dual(instance: Instance, bits_per_block: float = 0.292) -> Attack:
    """Find the cheapest dual attack that repeats until the advantage is a half (ADPS 2016)."""
    return min((_dual_at(instance, b, bits_per_block) for b in range(60, 1400)), key=lambda a: a.cost)


def _dual_at(instance: Instance, block: int, bits_per_block: float) -> Attack:
    dim, length = _dual_vector(instance, block, guessed=0)
    advantage = 2 - 2 * pi**2 * 2 ** (2 * (length + log2(instance.deviation) - instance.log2_q)) * log2(e)
    repeats = max(0.0, -2 * advantage - 0.2075 * block)
    samples = round(dim) - instance.dim
    return Attack(block=block, samples=samples, dim=round(dim), cost=bits_per_block * block + repeats)


def _dual_vector(instance: Instance, block: int, guessed: int) -> tuple[float, float]:
    """Return the best dimension, and log2 of the length of the dual vectors there."""
    n, step = instance.dim - guessed, log2_delta(block)
    dim = min(sqrt(n * instance.log2_q / step), float(n + instance.max_samples))
    return dim, dim * step + n * instance.log2_q / dim


def guessing_dual(instance: Instance, bits_per_block: float = 0.292) -> Attack:
    """Find the cheapest dual attack with guessed coordinates, all assumptions in the attacker's favour.

    One sieve gives (4/3)^(b/2) vectors as short as sqrt(4/3) times the shortest, all of them independent; the
    transform over p^k guesses costs p^k k log2 p. After Guo and Johansson 2021 and MATZOV 2022, whose
    independence is contested (Ducas, Pulles 2023).
    """
    settings = [(0, 2)] + [(k, p) for k in range(2, 140, 2) for p in (2, 3, 4, 5, 6, 8, 10)]
    near = primal(instance).block
    blocks = range(near - 40, near + 2)
    found = [_guessing_at(instance, b, k, p, bits_per_block) for b in blocks for k, p in settings]
    return min(found, key=lambda a: a.cost)


def _guessing_at(instance: Instance, block: int, guessed: int, p: int, bits_per_block: float) -> Attack:
    dim, length = _dual_vector(instance, block, guessed)
    relative = 2 ** (2 * (length + 0.5 * log2(4 / 3) + log2(instance.deviation) - instance.log2_q))
    exponent = 2 * pi**2 * (relative + guessed * instance.deviation**2 / (12 * p * p))
    vectors = 2 * exponent * log2(e) + log2(max(1.0, guessed * log(p))) + 1
    reduction = bits_per_block * block + max(0.0, vectors - block * 0.5 * log2(4 / 3))
    transform = guessed * log2(p) + log2(max(1.0, guessed * log2(p)))
    most = max(reduction, vectors, transform)
    cost = most + log2(sum(2 ** (x - most) for x in (reduction, vectors, transform)))
    return Attack(block=block, samples=round(dim) - instance.dim + guessed, dim=round(dim), cost=cost)


def full_cost(attack: Attack) -> float:
    """Log2 of the cost with all calls and a sieve's constant: the Homomorphic Encryption Standard's model."""
    return BITS_PER_BLOCK["classical"] * attack.block + 16.4 + log2(8 * attack.dim)


def hinted_variance(total: int, eta: int = ETA) -> float:
    """Variance of one device's error, given that two honest ones add up to `total`.

    Two centred binomial errors are 4 eta coin tosses; given how many show heads, those of one device are
    hypergeometric.
    """
    tosses, heads = 4 * eta, 2 * eta + total
    return heads * (tosses - heads) / (4 * (tosses - 1))


def picked_deviation(num_coefficients: int, num_picked: int, eta: int = ETA) -> float:
    """Deviation of the errors whose sums are the most extreme, if an attacker picks those samples.

    Args:
        num_coefficients: samples to choose from.
        num_picked: samples used, normal form included.
    """
    share, taken, variance = num_picked / num_coefficients, 0.0, 0.0
    for total in range(2 * eta, -1, -1):
        chance = comb(4 * eta, 2 * eta + total) / 2 ** (4 * eta) * (2 if total else 1)
        take = min(chance, share - taken)
        variance, taken = variance + take * hinted_variance(total, eta), taken + take
    return sqrt(variance / share)


def rounding_deviation(word_bits: int) -> float:
    """Deviation of the rounding error that a word of this many bits adds, which no figure here counts."""
    return float(2 ** (LOG2_Q - word_bits) / sqrt(12))


def linearised_unknowns(support: int, dim: int = RING) -> float:
    """Log2 of the monomials, so of the samples, that Arora and Ge (2011) need for `support` error values."""
    return (lgamma(dim + support + 1) - lgamma(support + 1) - lgamma(dim + 1)) / log(2)


def elimination_table(instance: Instance) -> float:
    """Log2 of the table, and so of the samples, of plain Blum-Kalai-Wasserman elimination."""
    additions = 2 * (instance.log2_q - log2(instance.deviation))
    return instance.log2_q * instance.dim / additions
