"""Weaker protocols, each with one safeguard left out, against which an attack succeeds.

Nothing of this is used by the project. Each strawman says which safeguard it lacks; `test_strawmen` shows
what an attacker then learns or spoils, and the other files here that the real code refuses the same lie.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from mimo_fed.codec import Writer
from mimo_fed.secagg import Anchors, Arithmetic, Committee, Manifest, Member, SignedManifest, verify
from mimo_fed.secagg.crypto import Box, Keystream
from mimo_fed.secagg.intake import read_contribution, read_opening
from mimo_fed.secagg.manifest import num_words
from mimo_fed.secagg.messages import Ballot, Entry, seal_context
from mimo_fed.secagg.modular import MODULUS, Residues, multiply, power
from mimo_fed.secagg.ring import RING, evaluate, public_key, root, uniform
from mimo_fed.secagg.shamir import SHARE_DTYPE, base_points, lagrange, num_groups
from mimo_fed.secagg.shares import Received, add_up
from mimo_fed.secagg.words import Words, empty_sum
from tests.unit.secagg.rig import Rig, Vector

Totals = NDArray[np.float64]


class VotesAgain(Member):
    """Lacks the one vote ever: it votes for every ballot put to it, and opens what it voted for last."""

    _kept: dict[str, Received] | None = None

    def vote(self, ballot: bytes) -> bytes:
        self._kept = self._kept or self._received
        self._received, self._ballot = dict(self._kept), b""
        return super().vote(ballot)


class OpensWithoutQuorum(Member):
    """Lacks the quorum certificate: it votes once, and opens at once what it has voted for."""

    def open(self, quorum_certificate: bytes) -> bytes:
        del quorum_certificate
        return self._opening


class OneListPerSum(Member):
    """Lacks the one list of survivors: each sum has a list of its own, and the member adds up sum by sum."""

    def open_sum(self, sum_index: int, survivors: Sequence[Entry]) -> NDArray[np.uint32]:
        ballot = Ballot(survivors=tuple(survivors), opened=1 << sum_index)
        opening = add_up(self._signed, self._index, ballot, bytes(32), self._received)
        groups = num_groups(self._signed.manifest.committee.packing)
        return np.frombuffer(opening[-4 * groups :], SHARE_DTYPE).astype(np.uint32)


class HalfIsAQuorum(Manifest):
    """Lacks the rule that two quorums share more members than may be corrupt: two of four are enough."""

    @property
    def committee(self) -> Committee:
        return Committee(size=4, quorum=2, threshold=2, corrupt=1, packing=1)

    @classmethod
    def of(cls, signed: SignedManifest) -> SignedManifest:
        manifest = signed.manifest
        return replace(signed, manifest=cls(**{f.name: getattr(manifest, f.name) for f in fields(manifest)}))


# In place of functions of the real code: each test says of which


def accepts_shares(*_: object) -> None:
    """Lacks the check of shares against their proof: a member takes whatever opens."""


def accepts_unsigned_contributions(public_key: bytes, domain: str, message: bytes, signature: bytes) -> None:
    """Lacks the contributor's signature; votes and openings are checked."""
    if domain != "contribution":
        verify(public_key, domain, message, signature)


def accepts_unsigned_prekeys(public_key: bytes, domain: str, message: bytes, signature: bytes) -> None:
    """Lacks the member's signature on its one-time key; certificates are checked."""
    if domain != "prekey":
        verify(public_key, domain, message, signature)


def accepts_members(manifest: Manifest, anchors: Anchors) -> None:
    """Lacks pinned helpers: whoever is certified may be one."""
    del manifest, anchors


def draws_no_lots(manifest: Manifest, population: int | None) -> None:
    """Lacks the lottery: the coordinator names whom it likes."""
    del manifest, population


def context_without_sender(mh: bytes, sender: str, recipient: str, nonce: bytes, sums: int) -> bytes:
    """Lacks sender and message in what a seal is bound to: a sealed row opens under anybody's header."""
    del sender, nonce, sums
    return Writer().raw(mh).text(recipient).bytes()


def opens_unchecked(
    signed: SignedManifest,
    sum_index: int,
    words_D: Words,
    key: Residues,
    num_devices: int,
    arithmetic: Arithmetic,
) -> Totals:
    """Lacks the check coordinates: a sum is whatever is left when the mask is lifted."""
    del num_devices
    spec = signed.manifest.sums[sum_index]
    total_D = arithmetic.backend.unmask(
        public=public_key(signed.mh, spec.name),
        secret=key.astype(np.uint32),
        words_D=words_D,
        word_bits=signed.manifest.word_bits,
        run=arithmetic.run,
    )
    return total_D[: spec.dim]


# What an attacker computes from what it got


def interpolate(shares: Mapping[int, NDArray[np.uint32]], rig: Rig) -> Residues:
    """A ring element from r of its shares, by member's index."""
    c = rig.signed.manifest.committee
    members = sorted(shares)[: c.threshold]
    known = np.stack([shares[i] for i in members]).astype(np.uint64)
    points = tuple(i + 1 for i in members)
    return multiply(lagrange(points, base_points(c.packing)), known).reshape(-1)[:RING]


def key_of(rig: Rig, openings: Collection[bytes]) -> Residues:
    """The sum of keys that r openings of the first sum give."""
    answers = {}
    for opening in openings:
        index, _, values = read_opening(rig.signed, opening)
        answers[index] = values[0]
    return interpolate(answers, rig)


def subtract(one: Residues, other: Residues) -> Residues:
    """A difference of ring elements."""
    return (one + np.uint64(MODULUS) - other) % np.uint64(MODULUS)


def read_with_key(rig: Rig, devices: Collection[str], key: Residues, sum_index: int = 0) -> Totals:
    """What these devices' spooled contributions to a sum add up to, given the sum of their keys."""
    bits = rig.manifest.word_bits
    words_D = empty_sum(num_words(rig.manifest.sums[sum_index]), bits)
    for d in devices:
        _, words = read_contribution(rig.signed, rig.spool.get(f"{d}.m2"))
        rig.arithmetic.backend.add(words_D, dict(words)[sum_index], bits)
    return opens_unchecked(rig.signed, sum_index, words_D, key, len(devices), rig.arithmetic)


def collude(rig: Rig, boxes: Mapping[int, Box], victim: str) -> Totals:
    """What r members that lend their one-time keys read of a device: its first vector, and no vote needed."""
    kept, _ = read_contribution(rig.signed, rig.spool.get(f"{victim}.m2"))
    groups, shares = num_groups(rig.signed.manifest.committee.packing), {}
    for index, box in boxes.items():
        recipient, header = rig.signed.member_id(index), kept.header
        context = seal_context(rig.signed.mh, victim, recipient, header.nonce, header.sums)
        at = kept.sealed_at + index * kept.sealed_length
        row = box.unseal(context, rig.spool.read(f"{victim}.m2", at, kept.sealed_length))
        shares[index] = np.frombuffer(row, SHARE_DTYPE)[:groups].astype(np.uint32)
    return read_with_key(rig, [victim], interpolate(shares, rig))


def secret_from_known_plaintext(rig: Rig, words: Vector, known: Vector) -> Residues:
    """Solve a s + m = c for s, from the 2048 words of lane 0 whose m is known; there must be no errors.

    In the evaluated form the product is one of residues: s = (c - m) / a, value by value.
    """
    lanes = -(-len(words) // RING)
    stream = Keystream(public_key(rig.signed.mh, rig.manifest.sums[0].name), 0)
    drawn = uniform(stream, RING * lanes).reshape(64, 32, lanes)
    a = drawn.transpose(1, 0, 2).reshape(RING, lanes)[:, 0].astype(np.uint64)  # j = 64 n1 + n2
    product = evaluate((words[::lanes].astype(np.uint64) + MODULUS - known) % MODULUS)
    inverse = np.array([pow(int(value), -1, MODULUS) for value in a], np.uint64)
    return _coefficients(product * inverse % MODULUS)


def _coefficients(values: Residues) -> Residues:
    """Undo `evaluate`: coefficient k is the mean of value_j psi^(-(2j + 1) k)."""
    odd, out = 2 * np.arange(RING) + 1, np.empty(RING, np.uint64)
    scale = pow(RING, -1, MODULUS)
    for k in range(RING):
        terms = values * power(root(), -odd * k, 2 * RING) % MODULUS
        out[k] = int(terms.sum()) % MODULUS * scale % MODULUS
    return out
