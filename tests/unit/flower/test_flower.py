"""Bytes in and out of Flower's records, and a fleet on a grid that loses, repeats and lies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from mimo_fed.errors import PeerProtocolError
from mimo_fed.flower import SHORT_BYTES, FlowerFleet, pack, unpack
from mimo_fed.round.fleet import Answer
from mimo_fed.secagg import Certificate


@pytest.mark.parametrize("size", [0, 1, SHORT_BYTES, SHORT_BYTES + 1])
def test_payload_comes_back(size: int) -> None:
    payload = bytes(i % 251 for i in range(size))
    assert unpack(pack("contribute", payload)) == ("contribute", payload)


@pytest.mark.parametrize(
    "records",
    [
        RecordDict(),
        RecordDict({"call": ConfigRecord({"stage": "hello"})}),
        RecordDict({"call": ConfigRecord({"stage": 3, "body": b""})}),
        RecordDict({"call": ConfigRecord({"stage": "x", "body": "text"})}),
        RecordDict({"call": ArrayRecord({"bytes": Array(np.zeros(3, np.uint8))})}),
    ],
)
def test_other_records_are_refused(records: RecordDict) -> None:
    with pytest.raises(PeerProtocolError):
        unpack(records)


class Grid:
    """Nodes in memory: node id -> device name; `mute` nodes never reply."""

    def __init__(self, nodes: dict[int, str]) -> None:
        self.nodes, self.mute, self.liars = nodes, set[int](), set[int]()
        self.pushed: list[tuple[int, str]] = []
        self.slow: dict[str, float] = {}
        """replies that are there only from then on"""
        self.torn: set[str] = set()
        """replies that are never whole: a pull of them hangs"""
        self._replies: dict[str, Any] = {}

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Any]) -> list[str]:
        ids = []
        for message in messages:
            node_id = message.metadata.dst_node_id
            stage, payload = unpack(message.content)
            self.pushed.append((node_id, stage))
            ids.append(f"m{len(self.pushed)}")
            if node_id in self.mute or node_id not in self.nodes:
                continue
            answer = payload + self.nodes[node_id].encode() if stage == "hello" else payload[::-1]
            if node_id in self.liars:
                answer = b"lie"
            self._replies[ids[-1]] = SimpleNamespace(
                metadata=SimpleNamespace(reply_to_message_id=ids[-1]),
                has_error=lambda: False,
                content=pack(stage, answer),
            )
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Any]:
        ids = list(message_ids)
        while self.torn & set(ids):
            time.sleep(0.05)
        return [
            self._replies.pop(i) for i in ids if i in self._replies and time.time() > self.slow.get(i, 0.0)
        ]


def identify(nonce: bytes, answer: bytes) -> Certificate:
    if not answer.startswith(nonce):
        raise PeerProtocolError("hello is not signed over our nonce")
    return Certificate(
        device_id=answer[len(nonce) :].decode(),
        public_key=bytes(32),
        serial=1,
        not_before_s=0,
        not_after_s=1,
        signature=bytes(64),
    )


def ids(certificates: Iterable[Certificate]) -> tuple[str, ...]:
    return tuple(certificate.device_id for certificate in certificates)


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskIdentity, "_task_id", 1)
    monkeypatch.setattr(TaskIdentity, "_run_id", 1)
    monkeypatch.setattr(TaskIdentity, "_node_id", 1)


def ask(fleet: FlowerFleet, requests: dict[str, bytes], seconds: float = 3.0) -> list[Answer]:
    return list(fleet.ask("open", requests, deadline_at_s=time.time() + seconds, stop=lambda: False))


def test_devices_are_found_by_what_they_prove() -> None:
    grid = Grid({11: "car", 12: "phone", 13: "liar"})
    grid.liars.add(13)
    fleet = FlowerFleet(grid, identify)  # type: ignore[arg-type]
    assert ids(fleet.discover(deadline_at_s=time.time() + 3)) == ("car", "phone")
    assert {a.device_id: a.payload for a in ask(fleet, {"car": b"ab", "phone": b"cd"})} == {
        "car": b"ba",
        "phone": b"dc",
    }
    assert (13, "open") not in grid.pushed
    assert (13, "later") in grid.pushed


def test_device_that_comes_back_under_another_node_is_asked_again() -> None:
    grid = Grid({11: "car"})
    fleet = FlowerFleet(grid, identify)  # type: ignore[arg-type]
    fleet.discover(deadline_at_s=time.time() + 3)
    grid.mute.add(11)
    grid.nodes[21] = "car"
    assert [a.payload for a in ask(fleet, {"car": b"ab"}, 8.0)] == [b"ba"]
    assert (21, "open") in grid.pushed


def test_silent_device_costs_no_more_than_the_deadline() -> None:
    grid = Grid({11: "car", 12: "phone"})
    fleet = FlowerFleet(grid, identify)  # type: ignore[arg-type]
    fleet.discover(deadline_at_s=time.time() + 3)
    grid.mute.add(12)
    assert [a.device_id for a in ask(fleet, {"car": b"", "phone": b""}, 0.7)] == ["car"]
    assert [(n, s) for n, s in grid.pushed if s == "open"] == [(11, "open"), (12, "open")]


def test_stop_ends_the_wait() -> None:
    grid = Grid({12: "phone"})
    fleet = FlowerFleet(grid, identify)  # type: ignore[arg-type]
    fleet.discover(deadline_at_s=time.time() + 3)
    grid.mute.add(12)
    polls: list[int] = []
    answers = fleet.ask(
        "open", {"phone": b""}, deadline_at_s=time.time() + 60, stop=lambda: len(polls) > 1 or polls.append(1)
    )
    assert list(answers) == []


def test_silent_node_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimo_fed.flower.HELLO_S", 1.0)
    monkeypatch.setattr("mimo_fed.flower.LOOK_S", 0.2)
    grid = Grid({11: "car", 12: "phone"})
    grid.mute.add(12)
    fleet = FlowerFleet(grid, identify)  # type: ignore[arg-type]
    late = threading.Timer(0.4, grid.nodes.__setitem__, (13, "watch"))
    late.start()
    started = time.monotonic()
    assert ids(fleet.discover(deadline_at_s=time.time() + 20)) == ("car", "watch")
    assert time.monotonic() - started < 5


def test_torn_reply_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimo_fed.flower.PULL_S", (0.5, 2.0))
    grid = Grid({11: "car", 12: "phone"})
    fleet = FlowerFleet(grid, identify)  # type: ignore[arg-type]
    fleet.discover(deadline_at_s=time.time() + 3)
    grid.torn = {f"m{len(grid.pushed) + 1}"}
    answers = {a.device_id: a.payload for a in ask(fleet, {"car": b"ab", "phone": b"cd"}, 8.0)}
    grid.torn = set()
    assert answers == {"car": b"ba", "phone": b"dc"}
    assert grid.pushed.count((11, "open")) == 2


def test_late_hello_is_heard_by_a_later_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimo_fed.flower.HELLO_S", 0.3)
    grid = Grid({11: "car"})
    grid.slow["m1"] = time.time() + 1.0
    fleet = FlowerFleet(grid, identify)  # type: ignore[arg-type]
    assert ids(fleet.discover(deadline_at_s=time.time() + 5)) == ()
    time.sleep(1.0)
    assert ids(fleet.discover(deadline_at_s=time.time() + 5)) == ("car",)
    assert grid.pushed == [(11, "hello")]
