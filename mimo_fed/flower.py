"""The seam to Flower on the coordinator's side: secure-aggregation bytes in Flower messages, and back.

One message type carries every stage. Deadlines, retries and who is who are ours: Flower carries bytes
between node ids, and a node id means nothing until its hello has proven whose it is.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from mimo_fed.errors import MimoFedError, PeerProtocolError
from mimo_fed.events import EventLog
from mimo_fed.round.cohort import write_rest
from mimo_fed.round.fleet import Answer
from mimo_fed.secagg import Certificate

MESSAGE_TYPE = "query"
POLL_S = (0.25, 0.75)
"""between polls: for the first seconds after a question, and later"""
LIVELY_S = 4.0
LOOK_S = 2.0
"""how often new nodes are looked for while answers are awaited"""
REPEAT_S = 60.0
"""an unanswered request is sent again after this long: the SuperLink may have lost it in a crash"""
HELLO_S = 5.0
"""a node that has not answered its hello by then is not waited for; its answer is still welcome later"""
PULL_S = (15.0, 240.0)
"""a pull that takes longer is left to itself; twice as long each time, for slow links"""
HELLO_BYTES = 32
REFUSED_S = 3600.0
"""a device whose hello is refused is told why, and to come back after this long"""
SHORT_BYTES = 1 << 18

Identify = Callable[[bytes, bytes], Certificate]


def pack(stage: str, payload: bytes) -> RecordDict:
    """Put a stage and its bytes into records.

    Each record is an object of its own at the SuperLink, with requests of its own: a short payload travels
    beside the stage, a long one as an array, which Flower sends in chunks.
    """
    if len(payload) <= SHORT_BYTES:
        return RecordDict({"call": ConfigRecord({"stage": stage, "body": payload})})
    body = ArrayRecord({"bytes": Array(np.frombuffer(payload, dtype=np.uint8))})
    return RecordDict({"call": ConfigRecord({"stage": stage}), "body": body})


def unpack(content: RecordDict) -> tuple[str, bytes]:
    """Return what `pack` was given.

    Raises:
        PeerProtocolError: the records are others.
    """
    try:
        call = content.config_records["call"]
        stage = call["stage"]
        body = call["body"] if "body" in call else content.array_records["body"]["bytes"].numpy().tobytes()
    except (KeyError, ValueError, TypeError) as error:
        raise PeerProtocolError(f"message holds other records than ours: {error}") from None
    if not isinstance(stage, str) or not isinstance(body, bytes):
        raise PeerProtocolError("message holds other types than ours")
    return stage, body


@dataclass
class _Sent:
    """A request that has been sent."""

    device_id: str
    node_id: int
    at_s: float
    nonce: bytes = b""


class FlowerFleet:
    """The devices behind a SuperLink; see `mimo_fed.round.fleet.Fleet`.

    Args:
        grid: Flower's, of the run that this process serves.
        identify: given the nonce of a hello and the answer, returns the device's certificate or raises.
        events: a node whose hello is refused is named there.
    """

    def __init__(self, grid: Grid, identify: Identify, events: EventLog | None = None) -> None:
        self._grid, self._identify = grid, identify
        self._events = events or EventLog(None)
        self._device_of: dict[int, str] = {}
        self._node_of: dict[str, int] = {}
        self._certificates: dict[str, Certificate] = {}
        self._hellos: dict[str, _Sent] = {}
        self._refused: set[int] = set()
        self._looked_at_s = 0.0
        self._arrived: queue.SimpleQueue[list[Message] | Exception] = queue.SimpleQueue()
        self._left: set[str] = set()
        self._pull_s = PULL_S[0]

    def discover(self, *, deadline_at_s: float) -> tuple[Certificate, ...]:
        """Say hello to every node; return the certificates of those that proved who they are."""
        self._look()
        while True:
            time.sleep(POLL_S[0])
            for _ in self._hear({}):
                pass
            if not self._greeting() or time.time() > deadline_at_s:
                return tuple(self._certificates[device_id] for device_id in sorted(self._node_of))
            if time.time() - self._looked_at_s > LOOK_S:
                self._look()

    def ask(
        self, stage: str, requests: Mapping[str, bytes], *, deadline_at_s: float, stop: Callable[[], bool]
    ) -> Iterator[Answer]:
        """Send each device its request and yield answers as they arrive; see `Fleet.ask`."""
        pending, sent, asked_at_s = dict(requests), dict[str, _Sent](), time.time()
        while pending and time.time() < deadline_at_s and not stop():
            if time.time() - self._looked_at_s > LOOK_S:
                self._look()
            self._send(stage, pending, sent)
            for device_id, payload in self._hear(sent):
                if pending.pop(device_id, None) is not None:
                    yield Answer(device_id, payload)
            if pending:
                time.sleep(POLL_S[time.time() - asked_at_s > LIVELY_S])

    def _greeting(self) -> bool:
        """Whether a hello is young enough to be waited for."""
        return any(time.time() - s.at_s < HELLO_S for s in self._hellos.values())

    def _send(self, stage: str, pending: Mapping[str, bytes], sent: dict[str, _Sent]) -> None:
        """Send what has not been sent to the node that the device is now."""
        now_s = time.time()
        fresh = {(s.device_id, s.node_id) for s in sent.values() if now_s - s.at_s < REPEAT_S}
        due = [
            (_Sent(device_id, self._node_of[device_id], now_s), payload)
            for device_id, payload in pending.items()
            if device_id in self._node_of and (device_id, self._node_of[device_id]) not in fresh
        ]
        self._push(stage, due, sent)

    def _push(self, stage: str, due: Sequence[tuple[_Sent, bytes]], sent: dict[str, _Sent]) -> None:
        """Push messages together: what several of them hold alike is pushed once."""
        messages = [Message(pack(stage, payload), entry.node_id, MESSAGE_TYPE) for entry, payload in due]
        for (entry, _), message_id in zip(
            due, self._grid.push_messages(messages) if due else (), strict=False
        ):
            if message_id:
                sent[message_id] = entry

    def _look(self) -> None:
        """Greet nodes that are new; forget those that are gone."""
        self._looked_at_s = time.time()
        there = set(self._grid.get_node_ids())
        for node_id in set(self._device_of) - there:
            device_id = self._device_of.pop(node_id)
            if self._node_of.get(device_id) == node_id:
                del self._node_of[device_id]
        self._hellos = {m: s for m, s in self._hellos.items() if s.node_id in there}
        greeted = {s.node_id for s in self._hellos.values() if self._looked_at_s - s.at_s < REPEAT_S}
        due = []
        for node_id in there - set(self._device_of) - greeted - self._refused:
            nonce = os.urandom(HELLO_BYTES)
            due.append((_Sent("", node_id, self._looked_at_s, nonce), nonce))
        self._push("hello", due, self._hellos)

    def _hear(self, sent: dict[str, _Sent]) -> Iterator[tuple[str, bytes]]:
        """Pull replies: hellos are checked here, answers are handed on; each is let go at once."""
        for reply in self._pull(sent):
            asked = reply.metadata.reply_to_message_id
            entry = sent.pop(asked, None) or self._hellos.pop(asked, None)
            if entry is None or reply.has_error():
                continue
            try:
                _, payload = unpack(reply.content)
            except PeerProtocolError as error:
                self._events.emit("reply.refused", node=entry.node_id, message=error.message)
                continue
            if entry.nonce:
                self._welcome(entry, payload)
            else:
                yield entry.device_id, payload

    def _pull(self, sent: dict[str, _Sent]) -> list[Message]:
        """Pull the replies that are there, in a thread of its own.

        A SuperLink that is killed while a reply is uploaded keeps half of it, and Flower waits minutes for
        the rest. A pull that takes too long is left to itself and its requests are sent again; what it brings
        in the end is still taken.
        """
        open_requests = {m: s for m, s in {**self._hellos, **sent}.items() if m not in self._left}
        arrived: list[list[Message] | Exception] = []
        if open_requests:
            threading.Thread(target=self._pull_into, args=(list(open_requests),), daemon=True).start()
            try:
                arrived.append(self._arrived.get(timeout=self._pull_s))
            except queue.Empty:
                self._left.update(open_requests)
                self._pull_s = min(PULL_S[1], 2 * self._pull_s)
                for entry in open_requests.values():
                    entry.at_s = -math.inf
        while not self._arrived.empty():
            arrived.append(self._arrived.get())
        for found in arrived:
            if isinstance(found, Exception):
                raise found
        return [reply for found in arrived if not isinstance(found, Exception) for reply in found]

    def _pull_into(self, message_ids: list[str]) -> None:
        try:
            self._arrived.put(list(self._grid.pull_messages(message_ids)))
        except Exception as error:  # noqa: BLE001 handed to the thread that asked
            self._arrived.put(error)

    def _welcome(self, entry: _Sent, payload: bytes) -> None:
        try:
            certificate = self._identify(entry.nonce, payload)
        except MimoFedError as error:
            self._refused.add(entry.node_id)
            self._events.emit("hello.refused", node=entry.node_id, message=error.message)
            self._push("later", [(replace(entry, nonce=b""), write_rest(REFUSED_S, error.message))], {})
            return
        self._device_of[entry.node_id] = certificate.device_id
        self._node_of[certificate.device_id] = entry.node_id
        self._certificates[certificate.device_id] = certificate
