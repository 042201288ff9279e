"""The embedded node's threads; the rest of it is tested against a real SuperLink."""

import threading
from typing import Any

import pytest

from mimo_fed.errors import TransportError
from mimo_fed_client.node import EmbeddedNode, _Connection


def test_answer_that_cannot_be_sent_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that died alone would leave a node that hears everything and answers nothing."""

    def broken(*_: Any) -> None:
        raise ValueError("not what the library says it raises")

    connection = _Connection(EmbeddedNode("127.0.0.1:1", lambda stage, payload: payload), threading.Event())
    monkeypatch.setattr(connection, "_send", broken)
    message: Any = object()
    connection._asked["prekey", b"x"] = message
    connection._work.put(("prekey", b"x"))
    connection._work.put(None)
    connection._answer()
    assert connection._over.is_set()
    assert isinstance(connection._failed[0], TransportError)
