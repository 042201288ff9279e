from __future__ import annotations

import pytest

from mimo_fed.bench.memory import in_child, peak_bytes, raised_by
from mimo_fed.errors import LocalProtocolError

MEGABYTE = 1 << 20


def test_the_peak_rises_by_what_is_held() -> None:
    size = peak_bytes() + 64 * MEGABYTE
    held: list[bytearray] = []
    raised = raised_by(lambda: held.append(bytearray(b"\1") * size))
    assert size - peak_bytes() < raised <= size + 16 * MEGABYTE


def test_a_childs_peak_is_not_its_parents() -> None:
    before = in_child("tests.unit.bench.report_peak")
    large = bytearray(b"\1") * (256 * MEGABYTE)
    after = in_child("tests.unit.bench.report_peak")
    assert len(large) == 256 * MEGABYTE
    assert after["peak"] < before["peak"] + 16 * MEGABYTE
    assert after["raised"] == pytest.approx(32 * MEGABYTE, rel=0.1)


def test_a_child_that_fails_is_an_error_with_its_last_line() -> None:
    with pytest.raises(LocalProtocolError, match="No module named"):
        in_child("mimo_fed.bench.nothing")
