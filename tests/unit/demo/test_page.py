"""The page is whole in itself, well formed, escapes what others wrote, and shows what the coordinator saw."""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mimo_fed.demo import html, plots, see
from mimo_fed.errors import DataError
from tests.unit.demo.records import RECORDS, built, round_record
from tests.unit.page.balance import check_whole


@pytest.fixture(scope="module")
def whole() -> str:
    return html.page(built(), name="demo")


def test_the_page_is_balanced_and_fetches_nothing(whole: str) -> None:
    check_whole(whole)


def test_the_page_shows_figures_warnings_and_verdicts(whole: str) -> None:
    text = re.sub(r"<svg.*?</svg>", "", whole, flags=re.S)
    for figure in ("1.700", "2.200", "r9-16: closed", "NO DIFFERENTIAL PRIVACY", "test-only", "held: global"):
        assert figure in text, figure
    assert "prefers-color-scheme: dark" in text


def test_what_others_wrote_is_escaped() -> None:
    found = built(base="<script>alert(1)</script>")
    found["devices"][0]["author"] = "<b>&"
    text = html.page(found, name="<i>")
    assert "<script>" not in text
    assert "<b>" not in text
    assert "<i>" not in text
    assert "&lt;b&gt;&amp;" in text


def test_figures_are_well_formed_and_name_the_devices() -> None:
    found = built()
    bars, lines = plots.devices_svg(found["devices"]), plots.rounds_svg(found["rounds"])
    for svg in (bars, lines):
        ElementTree.fromstring(svg)  # noqa: S314 our own output
    assert "watch-1" in bars
    assert "global + personal" in bars
    assert plots.devices_svg(found["devices"]) == bars


def test_a_sight_shows_bytes_size_and_the_single_opening(tmp_path: Path) -> None:
    record = round_record(1)
    data = os.urandom(20_000)
    folder = tmp_path / "spool" / record["round_id"]
    folder.mkdir(parents=True)
    (folder / "phone-1.m2").write_bytes(data)
    sight = see.look(tmp_path, record, "phone-1")
    text = "\n".join(sight.lines())
    assert data[see.SHOWN_FROM : see.SHOWN_FROM + 4].hex() in text
    assert "20,000 bytes" in text
    assert "opened once: 3 votes" in text
    assert record["quorum_digest"] in text
    assert 7.98 < sight.entropy_bits <= 8
    assert sight.lines()[0] in html.page(built(), name="demo", sight=sight)


def test_no_contribution_is_an_error_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"watch-1\.m2"):
        see.look(tmp_path, RECORDS[0], "watch-1")


@pytest.mark.parametrize(("data", "bits"), [(b"aaaa", 0.0), (b"abab", 1.0), (bytes(range(256)), 8.0)])
def test_entropy_of_known_bytes(data: bytes, bits: float) -> None:
    assert see.entropy_bits(data) == pytest.approx(bits)
