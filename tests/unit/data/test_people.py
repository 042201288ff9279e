import pytest

from mimo_fed.data.people import Names, hashed, person


def test_individuals_are_kept() -> None:
    assert person("Zaphod Quux <zaphod@example.org>") == "Zaphod Quux"
    assert person('"Zaphod B. Quux" <zaphod@example.org>') == "Zaphod B. Quux"


@pytest.mark.parametrize(
    "maintainer",
    [
        "Debian QA Group <packages@qa.example.org>",
        "Quux Maintainers <q@example.org>",
        "Python Team <q@example.org>",
        "Zaphod Quux <pkg-quux@lists.example.org>",
        "Zaphod Quux <quux@packages.example.org>",
        "Zaphod Quux <quux-devel@example.org>",
        "Zaphod Quux",
        "Zaphod <z@example.org>",
        "",
    ],
)
def test_teams_lists_and_halves_of_names_are_not_individuals(maintainer: str) -> None:
    assert person(maintainer) is None


def test_a_hash_depends_on_name_and_seed_and_shows_neither() -> None:
    assert hashed("Zaphod Quux", "a") != hashed("Zaphod Quux", "b")
    assert hashed("Zaphod Quux", "a") == hashed("Zaphod Quux", "a")
    assert len(hashed("Zaphod Quux", "a")) == 10


@pytest.mark.parametrize(
    "paragraph",
    [
        "Write to someone@example.org for help.",
        "See https://example.org for more.",
        "A tool written by its users.",
        "Programma scritto da tanti.",
        "Copyright 2001 its makers.",
        "Based on work of Zaphod Beeblebrox at sea.",
        "Based on Zaphod Dent, a tool.",
        "by zaphod quux, in small letters",
        "A library by Ford Prefect for towels.",
        "Uses the method of T. McMillan.",
        "Program, který napsal jeho uživatel.",
        "Programmet er skrevet af brugere.",
        "Knihovna od Šimon Žáček pro ručníky.",
        "Библиотека от Форд Префект для полотенец.",
        "Автор неизвестен.",
        "Метод Я. Иванова.",
    ],
)
def test_paragraphs_that_may_name_a_person_are_found(paragraph: str) -> None:
    assert Names(["Zaphod Quux"]).may_name_a_person(paragraph)


@pytest.mark.parametrize(
    "paragraph",
    [
        "This package contains the development files.",
        "An Open Source tool for the X Window System.",
        "zaphod alone",
    ],
)
def test_plain_paragraphs_are_left(paragraph: str) -> None:
    assert not Names(["Zaphod Quux"]).may_name_a_person(paragraph)
