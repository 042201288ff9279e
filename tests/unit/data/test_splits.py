import pytest

from mimo_fed.data.splits import DEMO_BUDGET, Budget, Piece, choose_texts, split_at, split_pieces
from mimo_fed.errors import ConfigError
from tests.unit.data.archive import words


def piece(name: str, source: str = "", size: int = 400) -> Piece:
    return Piece(author="somebody", source=source or name, text=words(name, size)[:size], package=name)


def test_a_source_package_stays_in_one_split_and_shares_are_as_said() -> None:
    pieces = [piece(f"p{number}", f"s{number // 2}") for number in range(800)]
    parts = split_pieces(pieces, "seed")
    sources = {split: {one.source for one in part} for split, part in parts.items()}
    assert not sources["train"] & sources["validation"]
    assert not sources["train"] & sources["test"]
    assert not sources["validation"] & sources["test"]
    assert sum(map(len, parts.values())) == 800
    for split, share in (("train", 0.60), ("validation", 0.15), ("test", 0.25)):
        assert abs(len(parts[split]) / 800 - share) < 0.06


@pytest.mark.parametrize("seed", [str(number) for number in range(40)])
def test_no_split_is_ever_empty(seed: str) -> None:
    parts = split_pieces([piece(f"p{number}") for number in range(3)], seed)
    assert all(len(part) == 1 for part in parts.values())


def test_fewer_than_three_sources_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="three sources"):
        split_pieces([piece("a"), piece("b"), piece("c", "b")], "seed")
    assert choose_texts([piece("a"), piece("b"), piece("c", "b")], "seed", DEMO_BUDGET) is None


def test_a_device_gets_what_the_budget_says_or_nothing() -> None:
    pieces = [piece(f"p{number}") for number in range(150)]
    chosen = choose_texts(pieces, "seed", DEMO_BUDGET)
    assert chosen is not None
    for split in ("train", "validation", "test"):
        low, high = DEMO_BUDGET.of(split)
        assert low <= sum(len(text.text.encode()) for text in chosen if text.split == split) <= high
    assert choose_texts(pieces[:15], "seed", DEMO_BUDGET) is None
    assert choose_texts(pieces, "seed", DEMO_BUDGET) == chosen


def test_an_author_with_few_sources_gets_another_draw() -> None:
    budget = Budget(train=(700, 1300), validation=(300, 500), test=(300, 500))
    pieces = [piece(f"p{number}") for number in range(4)]
    seeds = [f"seed {number}" for number in range(30)]
    once = [choose_texts(pieces, seed, budget) for seed in seeds]
    often = [choose_texts(pieces, seed, budget, draws=64) for seed in seeds]
    assert None in once
    assert None not in often
    assert all(more == first for first, more in zip(once, often, strict=True) if first is not None)


def test_a_text_too_big_for_its_split_is_left_out() -> None:
    budget = Budget(train=(100, 500), validation=(100, 500), test=(100, 500))
    chosen = choose_texts([piece(f"p{n}") for n in range(40)] + [piece("big", size=900)], "seed", budget)
    assert chosen is not None
    assert "big" not in {text.package for text in chosen}


def test_split_at_covers_all_places() -> None:
    places = [split_at(number / 1000) for number in range(1000)]
    assert [places.count(split) for split in ("train", "validation", "test")] == [600, 150, 250]


@pytest.mark.parametrize("bounds", [(0, 10), (11, 10), (-1, 10)])
def test_bounds_that_cannot_hold_are_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="validation"):
        Budget(train=(1, 2), validation=bounds, test=(1, 2))
