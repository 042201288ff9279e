import pytest

from mimo_fed.data.authors import Budget, Item, Package, choose_texts, items_of, packages_of, split_items
from mimo_fed.data.indices import stanzas
from mimo_fed.data.people import Names
from tests.unit.data.archive import PERSON, TEAM, stanza, words

NOBODY = Names([])


def package(name: str, source: str = "") -> Package:
    return Package(name=name, source=source or name, version="1", maintainer=PERSON, description_md5=name)


def item(name: str, source: str = "", size: int = 400) -> Item:
    return Item(package=package(name, source), text=words(name, size)[:size])


def described(synopsis: str, *paragraphs: str) -> str:
    return "\n .\n".join(
        [f"{synopsis}\n {paragraphs[0]}", *(f" {paragraph}" for paragraph in paragraphs[1:])]
    )


def texts(
    english: dict[str, str], translated: dict[str, str] | None = None, names: Names = NOBODY
) -> dict[str, str]:
    packages = [package(name) for name in sorted(english)]
    return {item.package.name: item.text for item in items_of(packages, english, translated, names)}


def test_only_packages_of_individuals_count_with_their_source_and_the_last_version() -> None:
    text = "\n".join([stanza("b", PERSON, source="src"), stanza("a", PERSON), stanza("t", TEAM)])
    text += "\n" + stanza("a", PERSON).replace("1.0-1", "2.0-1")
    first, second = packages_of(stanzas(text.encode()))
    assert (first.name, first.source, first.version, first.maintainer) == ("a", "a", "2.0-1", PERSON)
    assert (second.name, second.source) == ("b", "src")


def test_a_paragraph_seen_before_is_dropped_digits_and_spaces_aside() -> None:
    again = words("shared", 12) + " version 3.11"
    other = again.replace(" ", "  ").replace("3.11", "4.2").upper()
    found = texts(
        {
            "a": described("synopsis of a", words("a", 30), again),
            "b": described("synopsis of b", words("b", 30), other),
        }
    )
    assert again in found["a"]
    assert found["b"] == "synopsis of b\n\n" + words("b", 30)


def test_a_paragraph_that_is_mostly_another_is_dropped() -> None:
    long = words("shared", 40)
    found = texts(
        {
            "a": described("synopsis of a", long),
            "b": described("synopsis of b", "For b: " + long, words("b", 30)),
        }
    )
    assert long not in found["b"]
    assert words("b", 30) in found["b"]


def test_what_is_left_in_english_or_marked_untranslated_is_dropped() -> None:
    kept, english, marked = words("it", 30), words("en", 30), "<trans> " + words("x", 30)
    found = texts(
        {"a": described("a tool", english, words("en2", 30))},
        {"a": described("un attrezzo", english, marked, kept)},
    )
    assert found == {"a": f"un attrezzo\n\n{kept}"}


def test_paragraphs_with_names_and_packages_without_prose_are_dropped() -> None:
    kept, named = words("a", 30), "Made for Zaphod Beeblebrox. " + words("n", 30)
    found = texts(
        {
            "a": described("a tool", named, kept),
            "b": described("transitional package", words("b", 30)),
            "c": described("another tool", "too short"),
        },
        names=Names([PERSON]),
    )
    assert found == {"a": f"a tool\n\n{kept}"}


def test_a_source_package_stays_in_one_split_and_shares_are_as_said() -> None:
    items = [item(f"p{number}", f"s{number // 2}") for number in range(800)]
    parts = split_items(items, "seed")
    sources = {split: {one.package.source for one in part} for split, part in parts.items()}
    assert not sources["train"] & sources["validation"]
    assert not sources["train"] & sources["test"]
    assert not sources["validation"] & sources["test"]
    assert sum(map(len, parts.values())) == 800
    for split, share in (("train", 0.60), ("validation", 0.15), ("test", 0.25)):
        assert abs(len(parts[split]) / 800 - share) < 0.06  # type: ignore[index]


@pytest.mark.parametrize("seed", [str(number) for number in range(40)])
def test_no_split_is_ever_empty(seed: str) -> None:
    parts = split_items([item(f"p{number}") for number in range(3)], seed)
    assert all(len(part) == 1 for part in parts.values())


def test_fewer_than_three_sources_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="three source packages"):
        split_items([item("a"), item("b"), item("c", "b")], "seed")
    assert choose_texts([item("a"), item("b"), item("c", "b")], "seed", Budget()) is None


def test_a_device_gets_what_the_budget_says_or_nothing() -> None:
    items = [item(f"p{number}") for number in range(150)]
    chosen = choose_texts(items, "seed", Budget())
    assert chosen is not None
    for split in ("train", "validation", "test"):
        low, high = Budget().of(split)  # type: ignore[arg-type]
        assert low <= sum(len(text.text.encode()) for text in chosen if text.split == split) <= high
    assert choose_texts(items[:15], "seed", Budget()) is None
    assert choose_texts(items, "seed", Budget()) == chosen
