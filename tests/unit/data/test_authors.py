from mimo_fed.data.authors import Package, packages_of, pieces_of
from mimo_fed.data.indices import stanzas
from mimo_fed.data.people import Names
from mimo_fed.data.seen import Seen
from tests.unit.data.archive import PERSON, TEAM, stanza, words

NOBODY = Names([])


def package(name: str, source: str = "") -> Package:
    return Package(name=name, source=source or name, version="1", maintainer=PERSON, description_md5=name)


def described(synopsis: str, *paragraphs: str) -> str:
    return "\n .\n".join(
        [f"{synopsis}\n {paragraphs[0]}", *(f" {paragraph}" for paragraph in paragraphs[1:])]
    )


def texts(
    english: dict[str, str], translated: dict[str, str] | None = None, names: Names = NOBODY
) -> dict[str, str]:
    packages = [package(name) for name in sorted(english)]
    return {piece.package: piece.text for piece in pieces_of(packages, english, translated, names, Seen())}


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


def test_what_was_seen_in_one_language_is_dropped_in_the_next() -> None:
    seen, shared = Seen(), words("shared", 30)
    first = {"a": described("a tool", shared, words("a", 30))}
    assert len(list(pieces_of([package("a")], first, None, NOBODY, seen))) == 1
    packages, english = [package("b")], {"b": described("a thing", words("b", 30))}
    translated = {"b": described("una cosa", shared, words("it", 30))}
    (piece,) = pieces_of(packages, english, translated, NOBODY, seen)
    assert piece.text == f"una cosa\n\n{words('it', 30)}"
    assert (piece.author, piece.source) == (PERSON, "b")
