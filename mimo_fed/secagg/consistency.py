"""Batched verifiable sharing: a contributor whose shares do not fit together is caught (docs/protocol.md 4).

The dealer commits to every member's sealed shares; the hash of that commitment is the challenge key. It
gives coefficients c_kg, and the dealer publishes, for each repetition k, the polynomial
t_k = m_k + sum_g c_kg p_g of degree below r, by its values at the base points. A member checks that t_k at
its own point is what its own shares give.

Theorem. If the shares of the members that check do not all lie on polynomials of degree below r, then for a
uniform challenge all of them accept with probability at most q^-4 < 2^-123.9. A dealer that tries N
commitments has N such chances: hence four repetitions. What is published says nothing about the secrets,
because each m_k is uniform and hides one combination; so a sharing is proved under one challenge alone.
Legend: C members, r threshold, S secrets, G groups of a secret.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg import modular
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.modular import MODULUS, Residues
from mimo_fed.secagg.ring import uniform
from mimo_fed.secagg.shamir import NUM_MASKS, Sharing, base_points, lagrange


def prove(sharing: Sharing, challenge_key: bytes) -> NDArray[np.uint32]:
    """Combine the polynomials of a sharing as the challenge says; never under two keys.

    Args:
        sharing: the dealer's, complete: its masks come last.
        challenge_key: 32 bytes, the hash of a commitment to all sealed shares.

    Returns:
        (4, r) residues: the values of t_k at the base points. They are public.
    """
    return _combine(sharing.values, challenge_key).T.astype(np.uint32)


def check_shares(
    row: NDArray[np.uint32], index: int, proof: NDArray[np.uint32], challenge_key: bytes, threshold: int
) -> None:
    """Check a member's shares from one contributor against its proof.

    Args:
        row: (S * G + 4,) integers, the shares of all secrets and of the masks, as the contributor gave them.
        index: of the member, from 0.
        proof: (4, r) integers, as the contributor gave them.
        challenge_key: 32 bytes, the hash of the contributor's commitment to all sealed shares.
        threshold: r.

    Raises:
        PeerProtocolError: a value is q or above, the proof has another shape, or the two do not fit. The
            contributor is to blame.
    """
    if proof.shape != (NUM_MASKS, threshold):
        raise PeerProtocolError(f"proof of shares has another shape: {proof.shape}")
    if max(int(row.max()), int(proof.max())) >= MODULUS:
        raise PeerProtocolError(f"shares or their proof hold a value of q or above; member: {index}")
    expected = modular.multiply(lagrange(base_points(threshold), (index + 1,)), proof.T.astype(np.uint64))
    if not np.array_equal(_combine(row[None].astype(np.uint64), challenge_key), expected):
        raise PeerProtocolError(f"shares are inconsistent with their proof; member: {index}")


def _combine(values: Residues, challenge_key: bytes) -> Residues:
    """Add to each mask the combination of all groups: (n, S * G + 4) values to (n, 4)."""
    groups = values[:, :-NUM_MASKS]
    combined = values[:, -NUM_MASKS:].copy()
    num_coefficients = NUM_MASKS * groups.shape[1]
    coefficients = uniform(Keystream(challenge_key), num_coefficients).astype(np.uint64)
    for k, row in enumerate(coefficients.reshape(NUM_MASKS, -1)):
        # a product is below 2^62; a sum of reduced ones below 2^64 for 2^33 of them
        combined[:, k] += (row * groups % np.uint64(MODULUS)).sum(axis=1)
    return combined % np.uint64(MODULUS)
