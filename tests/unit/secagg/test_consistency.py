"""Showing that shares fit together, and catching a dealer whose do not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg import MODULUS
from mimo_fed.secagg.consistency import check_shares, prove
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.modular import Residues
from mimo_fed.secagg.ring import uniform
from mimo_fed.secagg.shamir import NUM_MASKS, Sharing, base_points, share
from tests.unit.secagg.plain import COMMITTEES, Numbers, interpolate, random_secrets, rank

KEY = b"c" * 32
SURPLUS = [c for c in COMMITTEES if c.size > c.threshold]
SMALL = [c for c in COMMITTEES if c.size <= 8]


def deal(c: Numbers, count: int = 1) -> Sharing:
    return share(random_secrets(count), *c, Keystream(b"s" * 32))


def coefficients(num_groups: int) -> Residues:
    return uniform(Keystream(KEY), NUM_MASKS * num_groups).reshape(NUM_MASKS, -1).astype(np.uint64)


def combine(rows: NDArray[np.uint32]) -> list[list[int]]:
    """For each row, the four values it should give, in plain integers."""
    table = coefficients(rows.shape[1] - NUM_MASKS).astype(object)
    groups, masks = rows[:, :-NUM_MASKS].astype(object), rows[:, -NUM_MASKS:].astype(object)
    return ((masks + groups @ table.T) % MODULUS).tolist()  # type: ignore[no-any-return]


def proof_through(rows: NDArray[np.uint32], members: list[int]) -> NDArray[np.uint32]:
    """The best a dealer can do that wants these r members to accept."""
    points, wanted = [i + 1 for i in members], combine(rows[members])
    proof = [
        [interpolate(points, [t[k] for t in wanted], x) for x in base_points(len(members))]
        for k in range(NUM_MASKS)
    ]
    return np.array(proof, np.uint32)


def accepting(rows: NDArray[np.uint32], proof: NDArray[np.uint32], threshold: int) -> list[int]:
    found = []
    for i, row in enumerate(rows):
        try:
            check_shares(row, i, proof, KEY, threshold)
        except PeerProtocolError:
            continue
        found.append(i)
    return found


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("c", COMMITTEES)
def test_every_member_accepts_a_good_sharing(c: Numbers, count: int) -> None:
    sharing = deal(c, count)
    proof = prove(sharing, KEY)
    assert proof.shape == (NUM_MASKS, c.threshold)
    assert accepting(sharing.shares(), proof, c.threshold) == list(range(c.size))


def test_a_proof_is_exact_at_the_largest_residues() -> None:
    values = np.full((4, 3000), MODULUS - 1, np.uint64)
    assert prove(Sharing(values=values, size=5), KEY).T.tolist() == combine(values.astype(np.uint32))


@pytest.mark.parametrize("c", [Numbers(3, 3, 1), Numbers(24, 17, 8), Numbers(64, 48, 17)])
def test_any_one_changed_share_is_refused(c: Numbers) -> None:
    sharing = deal(c)
    proof, member = prove(sharing, KEY), c.size - 1
    row = sharing.shares()[member]
    for column in range(len(row)):
        changed = row.copy()
        changed[column] = (int(row[column]) + 1 + 7 * column) % MODULUS
        with pytest.raises(PeerProtocolError, match=f"inconsistent with their proof; member: {member}"):
            check_shares(changed, member, proof, KEY, c.threshold)


@pytest.mark.parametrize("c", COMMITTEES)
def test_a_member_given_a_wrong_share_refuses_and_the_others_accept(c: Numbers) -> None:
    sharing = deal(c)
    rows = sharing.shares()
    rows[1, 5] = (int(rows[1, 5]) + 1) % MODULUS
    accept = accepting(rows, prove(sharing, KEY), c.threshold)
    assert accept == [0, *range(2, c.size)]


@pytest.mark.parametrize("c", SURPLUS)
def test_a_proof_made_to_fit_the_wrong_share_is_refused_by_others(c: Numbers) -> None:
    rows = deal(c).shares()
    rows[1, 5] = (int(rows[1, 5]) + 1) % MODULUS
    fooled = list(range(c.threshold))
    assert accepting(rows, proof_through(rows, fooled), c.threshold) == fooled


@pytest.mark.parametrize("c", SURPLUS)
def test_no_more_than_r_members_accept_shares_of_degree_r(c: Numbers) -> None:
    rows = deal(c._replace(threshold=c.threshold + 1)).shares()
    fooled = list(range(c.size - c.threshold, c.size))
    assert accepting(rows, proof_through(rows, fooled), c.threshold) == fooled


def test_a_proof_of_degree_r_is_refused_for_its_shape() -> None:
    c = Numbers(8, 6, 3)
    sharing = deal(c._replace(threshold=c.threshold + 1))
    proof = prove(sharing, KEY)
    with pytest.raises(PeerProtocolError, match=r"another shape: \(4, 7\)"):
        check_shares(sharing.shares()[0], 0, proof, KEY, c.threshold)
    with pytest.raises(PeerProtocolError, match=r"another shape: \(3, 6\)"):
        check_shares(sharing.shares()[0], 0, proof[:3, :6], KEY, c.threshold)


@pytest.mark.parametrize("known", [3, 4])
def test_a_dealer_that_foresees_the_challenge_must_foresee_all_four_repetitions(known: int) -> None:
    """Masks shifted against a wrong share hide it: so shares are committed to before the challenge is."""
    c, member, group, change = Numbers(8, 6, 3), 2, 9, 12345
    sharing = deal(c)
    rows = sharing.shares()
    rows[member, group] = (int(rows[member, group]) + change) % MODULUS
    table = coefficients(rows.shape[1] - NUM_MASKS)
    for k in range(known):
        column = rows.shape[1] - NUM_MASKS + k
        rows[member, column] = (int(rows[member, column]) - change * int(table[k, group])) % MODULUS
    accept = accepting(rows, prove(sharing, KEY), c.threshold)
    assert (member in accept) == (known == 4)


def test_another_challenge_is_refused() -> None:
    c = Numbers(8, 6, 3)
    sharing = deal(c)
    with pytest.raises(PeerProtocolError, match="inconsistent"):
        check_shares(sharing.shares()[0], 0, prove(sharing, b"d" * 32), KEY, c.threshold)


def test_another_members_shares_are_refused() -> None:
    c = Numbers(8, 6, 3)
    sharing = deal(c)
    with pytest.raises(PeerProtocolError, match="inconsistent"):
        check_shares(sharing.shares()[0], 1, prove(sharing, KEY), KEY, c.threshold)


@pytest.mark.parametrize("column", [0, -1])
def test_a_residue_has_one_form(column: int) -> None:
    c = Numbers(8, 6, 3)
    sharing = deal(c)
    row, proof = sharing.shares()[0], prove(sharing, KEY)
    row[column] = 5
    larger = row.copy()
    larger[column] += MODULUS
    with pytest.raises(PeerProtocolError, match="q or above; member: 0"):
        check_shares(larger, 0, proof, KEY, c.threshold)
    proof[0, column] = MODULUS
    with pytest.raises(PeerProtocolError, match="q or above; member: 0"):
        check_shares(row, 0, proof, KEY, c.threshold)


def view_of(c: Numbers, members: int, keys: list[bytes], num_masks: int = NUM_MASKS) -> tuple[int, int]:
    """Rank of what some members and everybody see of two groups: by the random values, and by all values.

    Equal ranks mean that every secret gives the same distribution of what is seen.
    """
    random: list[Residues] = []
    secret: list[Residues] = []
    for b in range(c.threshold):
        for column in range(2 + num_masks):
            values = np.zeros((c.threshold, 2 + NUM_MASKS), np.uint64)
            values[b, column] = 1
            unit = Sharing(values=values, size=c.size)
            seen = [unit.shares()[:members].reshape(-1), *(prove(unit, key).reshape(-1) for key in keys)]
            hidden = column >= 2 or b >= c.packing
            (random if hidden else secret).append(np.concatenate(seen).astype(np.uint64))
    return rank(np.stack(random)), rank(np.stack(random + secret))


@pytest.mark.parametrize("c", SMALL)
def test_a_proof_adds_nothing_to_what_r_less_l_members_know(c: Numbers) -> None:
    by_random, by_all = view_of(c, c.threshold - c.packing, [KEY])
    assert by_random == by_all


@pytest.mark.parametrize("c", SMALL)
def test_a_proof_without_masks_or_under_two_challenges_would_tell(c: Numbers) -> None:
    corrupt = c.threshold - c.packing
    for by_random, by_all in (
        view_of(c, corrupt, [KEY], num_masks=3),
        view_of(c, corrupt, [KEY, b"d" * 32]),
        view_of(c, corrupt + 1, [KEY]),
    ):
        assert by_random < by_all
