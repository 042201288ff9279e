"""A page is whole in itself; a figure is the same for the same numbers and takes the page's ink."""

from __future__ import annotations

from xml.etree import ElementTree

from mimo_fed.page import html
from mimo_fed.page.svg import INK, new_figure, to_svg


def _drawn(salt: str) -> str:
    figure = new_figure(width=4, height=2)
    axes = figure.add_subplot()
    axes.plot([1, 2, 3], [4, 1, 9], color="#3b82c4")
    axes.set_xlabel("round")
    axes.text(1, 4, "a label", color=INK)
    return to_svg(figure, salt)


def test_a_figure_is_well_formed_keeps_its_words_and_is_the_same_twice() -> None:
    drawn = _drawn("one")
    ElementTree.fromstring(drawn)  # noqa: S314 our own output
    assert ">a label<" in drawn
    assert "<dc:date>" not in drawn
    assert _drawn("one") == drawn
    assert _drawn("two") != drawn


def test_a_page_replaces_the_ink_of_a_figure_as_it_is_written_there() -> None:
    for use in ("fill", "stroke"):
        assert f'[style*="{use}: {INK}"]' in html.STYLE
        assert f"{use}: {INK}" in _drawn("one")


def test_a_page_needs_nothing_from_elsewhere_and_escapes_its_title() -> None:
    text = html.document("a < b", ["<p>one</p>", "", html.table(("x",), [("1",), ("2",)])])
    assert "<title>a &lt; b</title>" in text
    assert "<p>one</p>\n<div" in text
    assert text.count("<tr>") == 3
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text
    assert "<script" not in text
