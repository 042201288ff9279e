"""The page and the section of the docs show the same cells, are whole, and keep what others wrote."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from mimo_fed.errors import DataError
from mimo_fed.evaluate import files, html, markdown, tables
from mimo_fed.evaluate.bootstrap import Estimate
from mimo_fed.evaluate.findings import Findings, compute
from mimo_fed.evaluate.verdict import Goal
from tests.unit.evaluate.rows import results, row, rows_of, whole
from tests.unit.page.balance import check_whole


@pytest.fixture(scope="module")
def found() -> Findings:
    return whole()


@pytest.fixture(scope="module")
def page(found: Findings) -> str:
    return html.page(found)


def test_the_page_is_whole_and_fetches_nothing(page: str) -> None:
    check_whole(page)
    assert page.count("<svg") == 4


def test_the_verdict_comes_first_with_figures_and_intervals(page: str) -> None:
    text = re.sub(r"<[^>]+>", "", page[: page.index("<svg")])
    assert (
        "met, but the interval reaches across the line: full beats local for at least 80 % of users" in text
    )
    assert "80.0 % (60.0-95.0)" in text
    assert "met: cold-start users gain over base by global + cohort, untrained" in text
    assert "+0.750 (0.750 to 0.750)" in text


def test_page_and_section_show_every_table_alike(found: Findings, page: str) -> None:
    text = unescape(re.sub(r"<svg.*?</svg>|<[^>]+>", "", page, flags=re.S))
    section = markdown.section(found, {})
    titles = [one.title for one in tables.all_tables(found)]
    assert len(titles) == len(set(titles)) == 9
    for one in tables.all_tables(found):
        assert one.title in text
        assert f"### {one.title}\n" in section
        for cells in (one.head, *one.rows):
            assert f"| {' | '.join(cells)} |" in section
            for cell in cells:
                assert cell in text, cell


def test_tables_hold_the_known_figures(found: Findings) -> None:
    made = {one.title: one for one in tables.all_tables(found)}
    gains = {r[0]: r for r in made["Users that took part: gains in bits per byte, more is better"].rows}
    assert gains["global + cohort"] == (
        *("global + cohort", "+1.200 (1.200 to 1.200)", "0.0 % (0.0-0.0)", "+0.200 (0.200 to 0.200)"),
        *("100.0 % (100.0-100.0)", "+0.100 (0.100 to 0.100)"),
    )
    assert gains["local"][2:5] == ("0.0 % (0.0-0.0)", "", "")
    costs = {r[0]: r for r in made["What it takes of a device, whole run"].rows}
    assert costs["full"] == ("full", "1", "24", "0.001", "8", "3", "0", "0")
    language = next(one for title, one in made.items() if "took part, by language" in title)
    assert [r[:2] for r in language.rows] == [("de", "5"), ("en", "5"), ("it", "5"), ("pt-BR", "5")]
    classes = next(one for title, one in made.items() if "took part, by device class" in title)
    assert [r[:2] for r in classes.rows] == [("phone", "7"), ("watch", "7"), ("car", "6")]


def test_cold_start_users_are_not_compared_with_training_of_their_own() -> None:
    arms = ("base", "local", "full", "global + cohort")
    rows = [r for arm in arms for r in rows_of(arm, [2.0] * 6, group="cold")]
    made = tables.all_tables(compute(results(), rows))
    assert all(cells[0] != "local" for one in made if one.title.startswith("Cold") for cells in one.rows)
    assert not any("local" in word for one in made for word in one.head)
    language = next(one for one in made if "by language" in one.title)
    assert language.title.endswith("; on the right, global + cohort")
    assert language.head == ("language", "users", "base", "global + cohort", "gain over base")


def test_columns_that_no_arm_fills_are_left_out() -> None:
    made = compute(results(), [*rows_of("base", [2.0] * 5), *rows_of("sketch", [1.5] * 5)])
    gains = next(one for one in tables.all_tables(made) if "gains" in one.title)
    assert gains.head == ("arm", "gain over base", "users harmed")


def test_intents_are_percent_and_have_tables_of_their_own() -> None:
    rows = [row(i, arm=arm, accuracy=v) for arm, v in (("base", 0.25), ("local", 0.5)) for i in range(6)]
    text = markdown.section(compute(results(), rows), {})
    assert "### Users that took part: intent accuracy, higher is better" in text
    assert "| base | 25.0 % (25.0-25.0) |" in text
    assert "| local | +25.0 pp (25.0 to 25.0) | 0.0 % (0.0-0.0) |" in text


def test_an_arm_and_its_encrypted_twin_are_set_side_by_side(found: Findings) -> None:
    rows = rows_of("global", [2.0, 1.0])
    rows += rows_of("global, encrypted", [2.000003, 0.999999], encrypted=True)
    made = tables.all_tables(compute(results(), rows))
    twins = next(one for one in made if one.title == "With and without encryption: bits per byte apart")
    assert twins.rows == (("global", "0.000002", "0.000003"),)
    assert not any("encryption" in one.title for one in tables.all_tables(found))


def test_a_doubtful_goal_says_why() -> None:
    def verdict(figure: Estimate | None) -> str:
        return tables.goal_verdict(Goal(text="", figure=figure, line=0.0, at_least=False, percent=False))

    assert verdict(None) == "not measured"
    assert verdict(Estimate(1.0, 0.5, 2.0)) == "met"
    assert verdict(Estimate(-1.0, -2.0, 0.5)) == "not met, but the interval reaches across the line"
    assert verdict(Estimate(1.0)) == "met, but too few users for an interval"


def test_what_rounds_to_nothing_has_no_minus() -> None:
    assert tables.gain(Estimate(-0.0001, -0.0002, 0.0001)) == "+0.000 (0.000 to 0.000)"
    assert tables.gain(Estimate(-0.25, -0.5, -0.0004)) == "-0.250 (-0.500 to 0.000)"


def test_settings_and_commands_are_escaped() -> None:
    made = whole(settings={"<b>": ["<script>"]}, command="mimo-fed evaluate <i>")
    text = html.page(made)
    check_whole(text)
    assert "<i>" not in text
    assert "<b>" not in text
    assert "&lt;script&gt;" in text


def test_a_page_is_written_from_the_two_files_alone(tmp_path: Path) -> None:
    files.write_folder(tmp_path, results(), rows_of("base", [2.0] * 6))
    path = html.write_page(tmp_path)
    assert path.name == "report.html"
    first = path.read_text()
    assert "2.000 " in first
    assert html.write_page(tmp_path).read_text() == first


def test_a_section_is_replaced_and_the_rest_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.md"
    path.write_text("# Evaluation\n\nWritten by hand.\n")
    small = compute(results(dataset="small"), [row(i, dataset="small") for i in range(5)])
    markdown.update_page(path, whole())
    markdown.update_page(path, small)
    first = path.read_text()
    assert first.startswith("# Evaluation\n\nWritten by hand.\n\n<!-- evaluation synthetic/mimo-nano: ")
    path.write_text(first + "\nA last word.\n")
    markdown.update_page(path, whole(command="mimo-fed evaluate again"))
    second = path.read_text()
    assert second.endswith("\nA last word.\n")
    assert "$ mimo-fed evaluate again\n" in second
    assert (
        second.replace("evaluate again", "evaluate synthetic --base mimo-nano") == first + "\nA last word.\n"
    )
    for link in re.findall(r"!\[.*?\]\((.*?)\)", second):
        assert (tmp_path / link).read_text().startswith("<svg")
    assert "evaluation/synthetic-mimo-nano-gains.svg" in second


@pytest.mark.parametrize("broken", ["begin", "end", "begin begin end", "end begin"])
def test_a_page_with_half_a_section_is_refused(broken: str) -> None:
    whole_ = markdown.replace_section("", "a/b", "text")
    words = {"begin": whole_.splitlines()[0], "end": whole_.splitlines()[-1]}
    with pytest.raises(DataError, match="a page needs one of each"):
        markdown.replace_section("\n".join(words[w] for w in broken.split()), "a/b", "text")


def test_nothing_to_compute_from_is_an_error() -> None:
    with pytest.raises(DataError, match="no rows to compute from: synthetic/mimo-nano"):
        compute(results(), [])
