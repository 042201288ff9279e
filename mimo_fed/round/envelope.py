"""An answer of a device: the payload, or the typed error that stopped it.

One tag byte, then the payload or the error as JSON. The receiver gets the same class of error back, so a
refusal on a device reads the same at the coordinator.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from mimo_fed.errors import MimoFedError, PeerProtocolError

_OK = b"\x01"
_FAILED = b"\x00"


def ok(payload: bytes) -> bytes:
    """Wrap a payload."""
    return _OK + payload


def failure(error: MimoFedError) -> bytes:
    """Wrap an error: its code, message and hint, never a traceback."""
    return _FAILED + json.dumps([error.code, error.message, error.hint]).encode()


def unwrap(data: bytes) -> bytes:
    """Return the payload.

    Raises:
        MimoFedError: the error the device answered with, of its own class.
        PeerProtocolError: the bytes are neither.
    """
    tag, body = data[:1], data[1:]
    if tag == _OK:
        return body
    if tag != _FAILED:
        raise PeerProtocolError(f"answer is not an envelope: {data[:8].hex() or 'empty'}")
    try:
        code, message, hint = json.loads(body)
        kind = _BY_CODE.get(code, MimoFedError)
        error = kind(str(message)[:2000], hint=str(hint)[:2000])
    except (ValueError, TypeError):
        raise PeerProtocolError(f"answer is not an error either: {body[:32]!r}") from None
    raise error


def _tree(kind: type[MimoFedError]) -> Iterator[type[MimoFedError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


_BY_CODE = {kind.code: kind for kind in _tree(MimoFedError)}
