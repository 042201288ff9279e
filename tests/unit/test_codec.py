"""One value, one encoding; nothing short, nothing left over."""

from __future__ import annotations

import pytest

from mimo_fed.codec import Reader, Writer
from mimo_fed.errors import LocalProtocolError, PeerProtocolError


def test_values_come_back_in_order() -> None:
    data = Writer().u8(1).u16(2).u32(3).u64(4).f64(-0.5).blob(b"abc").text("caffè").raw(b"xy").bytes()
    reader = Reader(data)
    assert (reader.u8(), reader.u16(), reader.u32(), reader.u64(), reader.f64()) == (1, 2, 3, 4, -0.5)
    assert (reader.blob(), reader.text(), reader.raw(2)) == (b"abc", "caffè", b"xy")
    reader.finish()


def test_the_encoding_is_fixed() -> None:
    assert Writer().u16(258).text("a").bytes().hex() == "0102" + "00000001" + "61"


def test_every_truncation_is_refused() -> None:
    data = Writer().u32(7).blob(b"abcdef").bytes()
    for end in range(len(data)):
        reader = Reader(data[:end], "sample")
        with pytest.raises(PeerProtocolError, match="sample: cut short"):
            (reader.u32(), reader.blob())


def test_left_over_bytes_are_refused() -> None:
    reader = Reader(b"\x01\x02")
    reader.u8()
    with pytest.raises(PeerProtocolError, match="left over: 1"):
        reader.finish()


def test_an_oversize_field_is_refused_before_it_is_read() -> None:
    with pytest.raises(PeerProtocolError, match="longer than 3"):
        Reader(Writer().blob(b"abcd").bytes()).blob(max_len=3)


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(PeerProtocolError, match="UTF-8"):
        Reader(Writer().blob(b"\xff").bytes()).text()


@pytest.mark.parametrize("value", [-1, 256])
def test_an_integer_that_does_not_fit_is_our_fault(value: int) -> None:
    with pytest.raises(LocalProtocolError):
        Writer().u8(value)
