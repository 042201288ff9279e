"""Reconstructing a secret and naming who answered wrongly."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from mimo_fed.errors import RoundAborted
from mimo_fed.secagg import MODULUS
from mimo_fed.secagg.crypto import Keystream
from mimo_fed.secagg.decoding import decode, reconstruct
from mimo_fed.secagg.modular import Residues
from mimo_fed.secagg.ring import uniform
from mimo_fed.secagg.shamir import NUM_MASKS, share
from tests.unit.secagg.plain import COMMITTEES, Numbers, random_secrets, rank

KEY = b"f" * 32
SECRET = random_secrets(1)[0]
EIGHT = Numbers(8, 4, 2)


def answers_of(c: Numbers) -> NDArray[np.uint32]:
    return share([SECRET], *c, Keystream(b"s" * 32)).shares()[:, :-NUM_MASKS]


def opened(
    rows: NDArray[np.uint32], members: list[int] | range, c: Numbers
) -> tuple[Residues, tuple[int, ...]]:
    return reconstruct({i: rows[i] for i in members}, c.threshold, c.packing, KEY)


def lie(rows: NDArray[np.uint32], members: list[int], seed: int = 0) -> None:
    """Change one random column of each of these members."""
    rng = np.random.default_rng(seed)
    for i in members:
        column = rng.integers(0, rows.shape[1])
        rows[i, column] = (int(rows[i, column]) + int(rng.integers(1, MODULUS))) % MODULUS


def conspire(rows: NDArray[np.uint32], liars: list[int], spared: list[int], c: Numbers) -> None:
    """Add to the liars' answers a polynomial of degree below r that is zero at r - 1 honest members."""
    assert len(spared) == c.threshold - 1
    for i in liars:
        change = 1
        for j in spared:
            change = change * (i - j) % MODULUS
        rows[i] = (rows[i].astype(np.uint64) + np.uint64(change)) % np.uint64(MODULUS)


@pytest.mark.parametrize("c", COMMITTEES)
def test_any_members_of_a_quorum_can_open(c: Numbers) -> None:
    rows, (size, r, _) = answers_of(c), c
    for members in (range(r), range(size - r, size), range(size)):
        secret, liars = opened(rows, members, c)
        assert np.array_equal(secret, SECRET)
        assert liars == ()


@pytest.mark.parametrize("c", COMMITTEES)
def test_too_few_cannot(c: Numbers) -> None:
    with pytest.raises(RoundAborted, match=f"too few answers .* needed: {c.threshold - 1}"):
        opened(answers_of(c), range(c.threshold - 1), c)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("c", [c for c in COMMITTEES if c.size >= c.threshold + 2])
def test_as_many_liars_as_can_be_named_are_named(c: Numbers, seed: int) -> None:
    rows, most = answers_of(c), (c.size - c.threshold) // 2
    liars = sorted(np.random.default_rng(seed).choice(c.size, most, replace=False).tolist())
    lie(rows, liars, seed)
    secret, named = opened(rows, range(c.size), c)
    assert named == tuple(liars)
    assert np.array_equal(secret, SECRET)


def test_liars_anywhere_are_named() -> None:
    for liars in combinations(range(EIGHT.size), 2):
        rows = answers_of(EIGHT)
        lie(rows, list(liars))
        secret, named = opened(rows, range(EIGHT.size), EIGHT)
        assert named == liars
        assert np.array_equal(secret, SECRET)


def test_liars_that_agree_on_a_polynomial_are_named_too() -> None:
    rows = answers_of(EIGHT)
    conspire(rows, [2, 6], [0, 1, 3], EIGHT)
    secret, named = opened(rows, range(EIGHT.size), EIGHT)
    assert named == (2, 6)
    assert np.array_equal(secret, SECRET)


@pytest.mark.parametrize("c", [c for c in COMMITTEES if c.size > c.threshold])
def test_one_surplus_answer_shows_a_lie_and_names_nobody(c: Numbers) -> None:
    rows = answers_of(c)
    lie(rows, [0])
    with pytest.raises(RoundAborted, match=f"contradict each other, .* wrong: {c.threshold + 1}"):
        opened(rows, range(c.threshold + 1), c)


@pytest.mark.parametrize("count", [3, 4])
def test_liars_too_many_to_be_named_end_the_round(count: int) -> None:
    rows = answers_of(EIGHT)
    lie(rows, list(range(count)))
    with pytest.raises(RoundAborted, match="wrong: 8"):
        opened(rows, range(EIGHT.size), EIGHT)


@pytest.mark.parametrize("surplus", [1, 2, 3, 4])
def test_half_the_surplus_conspiring_never_gives_a_wrong_secret(surplus: int) -> None:
    """ceil((m - r) / 2) liars: if that is one more than can be named, the round ends."""
    c = Numbers(4 + surplus, 4, 2)
    rows, count = answers_of(c), (surplus + 1) // 2
    conspire(rows, list(range(count)), list(range(count, count + 3)), c)
    if surplus % 2:
        with pytest.raises(RoundAborted, match="contradict"):
            opened(rows, range(c.size), c)
    else:
        secret, named = opened(rows, range(c.size), c)
        assert named == tuple(range(count))
        assert np.array_equal(secret, SECRET)


@pytest.mark.parametrize("surplus", [1, 2, 3, 4])
def test_one_conspirator_more_can_have_honest_members_named(surplus: int) -> None:
    """The limit of any decoder of this reach: the answers are what another secret and other liars give."""
    c = Numbers(4 + surplus, 4, 2)
    rows, count = answers_of(c), (surplus + 1) // 2 + 1
    conspire(rows, list(range(count)), list(range(count, count + 3)), c)
    secret, named = opened(rows, range(c.size), c)
    assert named == tuple(range(count + 3, c.size))
    assert not np.array_equal(secret, SECRET)


def invisible(rows: NDArray[np.uint32], member: int, folds: int) -> None:
    """Change a member's answer so that the first folds of the columns do not show it."""
    columns = folds + 1
    table = [uniform(Keystream(KEY, k), rows.shape[1])[:columns].astype(np.uint64) for k in range(folds)]
    change = kernel(np.stack(table))
    for column, value in enumerate(change):
        rows[member, column] = (int(rows[member, column]) + value) % MODULUS


def kernel(matrix: Residues) -> list[int]:
    """A vector that a matrix with one column more than rows takes to zero: its minors, signs alternating."""
    assert rank(matrix) == len(matrix)
    size = matrix.shape[1]
    return [
        (1 - 2 * (at % 2))
        * determinant([[int(row[j]) for j in range(size) if j != at] for row in matrix])
        % MODULUS
        for at in range(size)
    ]


def determinant(rows: list[list[int]]) -> int:
    if not rows:
        return 1
    minors = ([row[:j] + row[j + 1 :] for row in rows[1:]] for j in range(len(rows)))
    total = 0
    for j, minor in enumerate(minors):
        total += (1 - 2 * (j % 2)) * rows[0][j] * determinant(minor)
    return total % MODULUS


@pytest.mark.parametrize("others", [[], [6]])
def test_a_lie_that_one_fold_hides_shows_in_the_next(others: list[int]) -> None:
    rows = answers_of(EIGHT)
    invisible(rows, 1, folds=1)
    lie(rows, others)
    secret, named = opened(rows, range(EIGHT.size), EIGHT)
    assert named == (1, *others)
    assert np.array_equal(secret, SECRET)


@pytest.mark.parametrize("others", [[], [6]])
def test_a_lie_that_no_fold_shows_ends_the_round(others: list[int]) -> None:
    """Nobody can foresee the folds; but if somebody did, no wrong secret would come of it."""
    rows = answers_of(EIGHT)
    invisible(rows, 1, folds=3)
    lie(rows, others)
    with pytest.raises(RoundAborted, match="wrong: 8"):
        opened(rows, range(EIGHT.size), EIGHT)


@pytest.mark.parametrize("word", [[0] * 6, [5] * 6, [0, 0, 0, 9, 0, 0], [7, 7, 7, 7, 8, 7]])
def test_words_of_constant_polynomials_decode(word: list[int]) -> None:
    usual = max(set(word), key=word.count)
    assert decode([1, 2, 3, 4, 5, 6], word, 2) == [i for i, value in enumerate(word) if value != usual]
