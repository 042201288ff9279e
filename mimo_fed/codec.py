"""Canonical bytes: big-endian integers, length-prefixed strings, and nothing left over.

One value has one encoding, so that two ends that hash the same value get the same digest. There are no
optional fields and no self-description: the first field of every message names its type and version
(docs/protocol.md 2.1).
"""

from __future__ import annotations

import struct
from typing import Final

from mimo_fed.errors import LocalProtocolError, PeerProtocolError

MAX_BLOB: Final = 1 << 30
"""bytes; no message of ours is longer"""


class Writer:
    """Appends values; every method returns the writer, so that a message reads as one chain."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def u8(self, value: int) -> Writer:
        """One byte."""
        return self._integer(value, 1)

    def u16(self, value: int) -> Writer:
        """Two bytes, big-endian."""
        return self._integer(value, 2)

    def u32(self, value: int) -> Writer:
        """Four bytes, big-endian."""
        return self._integer(value, 4)

    def u64(self, value: int) -> Writer:
        """Eight bytes, big-endian."""
        return self._integer(value, 8)

    def f64(self, value: float) -> Writer:
        """IEEE 754 binary64, big-endian."""
        self._parts.append(struct.pack(">d", value))
        return self

    def raw(self, value: bytes) -> Writer:
        """Bytes of a length both ends know: no prefix."""
        self._parts.append(value)
        return self

    def blob(self, value: bytes) -> Writer:
        """Four bytes of length, then the bytes."""
        if len(value) > MAX_BLOB:
            raise LocalProtocolError(f"a field is too long to encode: {len(value)} bytes")
        self.u32(len(value))
        self._parts.append(value)
        return self

    def text(self, value: str) -> Writer:
        """UTF-8, as a blob."""
        return self.blob(value.encode())

    def bytes(self) -> bytes:
        """Everything written so far."""
        return b"".join(self._parts)

    def _integer(self, value: int, width: int) -> Writer:
        if not 0 <= value < 1 << (8 * width):
            raise LocalProtocolError(f"an integer does not fit {width} bytes: {value}")
        self._parts.append(value.to_bytes(width, "big"))
        return self


class Reader:
    """Takes values off the front; whatever does not fit is the peer's fault.

    Args:
        data: the whole message.
        what: its name, for the error.
    """

    def __init__(self, data: bytes, what: str = "message") -> None:
        self._view = memoryview(data)
        self._at = 0
        self._what = what

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._at

    def u8(self) -> int:
        """One byte."""
        return self._take(1)[0]

    def u16(self) -> int:
        """Two bytes, big-endian."""
        return int.from_bytes(self._take(2), "big")

    def u32(self) -> int:
        """Four bytes, big-endian."""
        return int.from_bytes(self._take(4), "big")

    def u64(self) -> int:
        """Eight bytes, big-endian."""
        return int.from_bytes(self._take(8), "big")

    def f64(self) -> float:
        """IEEE 754 binary64, big-endian."""
        return float(struct.unpack(">d", self._take(8))[0])

    def raw(self, length: int) -> bytes:
        """Exactly `length` bytes."""
        return bytes(self._take(length))

    def blob(self, *, max_len: int = MAX_BLOB) -> bytes:
        """Length-prefixed bytes: at most `max_len` bytes."""
        length = self.u32()
        if length > max_len:
            raise PeerProtocolError(f"{self._what}: a field is longer than {max_len} bytes: {length}")
        return bytes(self._take(length))

    def text(self, *, max_len: int = 4096) -> str:
        """UTF-8, as a blob."""
        try:
            return self.blob(max_len=max_len).decode()
        except UnicodeDecodeError:
            raise PeerProtocolError(f"{self._what}: a text is not UTF-8 at byte {self._at}") from None

    def finish(self) -> None:
        """Nothing may be left.

        Raises:
            PeerProtocolError: bytes are left over.
        """
        if left := len(self._view) - self._at:
            raise PeerProtocolError(f"{self._what}: bytes left over: {left}")

    def _take(self, length: int) -> memoryview:
        end = self._at + length
        if end > len(self._view):
            raise PeerProtocolError(f"{self._what}: cut short at byte {len(self._view)}")
        part = self._view[self._at : end]
        self._at = end
        return part
