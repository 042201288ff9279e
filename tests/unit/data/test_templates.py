import pytest

from mimo_fed.data.templates import Grammar, parse
from mimo_fed.errors import DataError

GRAMMAR = Grammar(
    rules={"the": "(the|my)", "light": "light[s]", "loop": "<loop>", "either": "one|two"},
    lists={"room": ["kitchen", "hall|stairs"], "state": ["on"]},
)


def all_of(template: str, count: int = 300) -> set[str | None]:
    return {GRAMMAR.sentence(template, str(key)) for key in range(count)}


@pytest.mark.parametrize(
    ("template", "sentences"),
    [
        ("plain text", {"plain text"}),
        ("turn (on|off)", {"turn on", "turn off"}),
        ("a [b] c", {"a b c", "a c"}),
        ("light[s]", {"light", "lights"}),
        ("[a|b] c", {"a c", "b c", "c"}),
        ("<the> <light>", {"the light", "the lights", "my light", "my lights"}),
        ("{state}", {"on"}),
        ("{room:place} {state}", {"kitchen on", "hall on", "stairs on"}),
        ("(a;b)", {"a b", "b a"}),
        ("x (a;[b])", {"x a", "x a b", "x b a"}),
        ("<either> more", {"one more", "two more"}),
        ("one|two", {"one", "two"}),
        ("((a|b) c|d)", {"a c", "b c", "d"}),
        ("(a|)b", {"ab", "b"}),
    ],
)
def test_every_sentence_of_a_template_comes_out_and_no_other(template: str, sentences: set[str]) -> None:
    assert all_of(template) == sentences


def test_the_same_key_gives_the_same_sentence() -> None:
    template = "[a] (b|c|d) [e] {room} (f;g;h)"
    assert [GRAMMAR.sentence(template, str(key)) for key in range(50)] == [
        GRAMMAR.sentence(template, str(key)) for key in range(50)
    ]


def test_a_list_that_is_not_there_gives_no_sentence() -> None:
    assert GRAMMAR.sentence("{colour}", "key") is None
    assert all_of("a [{colour}]") == {"a", None}


@pytest.mark.parametrize("template", ["(a", "a)", "[a", "(a]", "(a|b;c)", "<a", "{a", "a}", "<>"])
def test_a_malformed_template_is_refused(template: str) -> None:
    with pytest.raises(DataError):
        parse(template)


def test_rules_that_are_not_there_or_need_themselves_are_refused() -> None:
    with pytest.raises(DataError, match="not there: colour"):
        GRAMMAR.sentence("<colour>", "key")
    with pytest.raises(DataError, match="need each other"):
        GRAMMAR.sentence("<loop>", "key")
