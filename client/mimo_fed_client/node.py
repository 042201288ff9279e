"""An embedded Flower node: receives messages, lets the agent answer, and runs nothing that was sent.

Flower's own SuperNode installs the app that comes with a run and starts a process for each message. A device
must not run code from the server, and wants its model to stay in memory, so this file speaks Flower's fleet
protocol itself, with Flower's own client for it. That client is not public API: the file is guarded by
version, and a test runs it against a real SuperLink.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import httpx
from flwr.app import Message
from flwr.app.message.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
    UnregisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_and_inflate_object_from_tree,
    push_objects,
)
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes
from flwr.supercore.run import RunNotRunningException
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from mimo_fed.errors import ConfigError, MimoFedError, PeerProtocolError, TransportError
from mimo_fed.events import EventLog
from mimo_fed.flower import pack, unpack
from mimo_fed.round import envelope

SUPPORTED = ("1.41.", "1.42.")
POLL_S = (0.3, 1.5)
"""between polls: after a message, and when nothing has come for a while; each costs the SuperLink 20 ms"""
LIVELY_S = 4.0
HEARTBEAT_S = 15.0
HEARTBEAT_INTERVAL_S = 30.0
OUTAGE_S = 45.0
"""calls are repeated for this long before the node registers anew; a restarted SuperLink knows it still"""
BACKOFF_S = (0.3, 5.0)
PULL_S = (0.1, 10.0)
"""a message may be seen before all of it is uploaded: first wait for the rest, and longest"""

Handler = Callable[[str, bytes], bytes]

_UNREADABLE = (PeerProtocolError, ObjectPullError, RuntimeError, TypeError, ValueError)


class EmbeddedNode:
    """A node on a SuperLink whose messages are answered by `handler`.

    Args:
        superlink: host:port of the SuperLink.
        handler: (stage, payload) -> enveloped answer; called in one worker thread, `hello` in the poll loop.
        root_certificates: PEM of the authority to trust for TLS; None: no TLS, for a private network alone.
        events: connections and losses are written there.
    """

    def __init__(
        self,
        superlink: str,
        handler: Handler,
        *,
        root_certificates: bytes | None = None,
        events: EventLog | None = None,
    ) -> None:
        if not version("flwr").startswith(SUPPORTED):
            raise ConfigError(
                f"the embedded node does not know this flwr: {version('flwr')}",
                hint=f"install flwr {' or '.join(v + 'x' for v in SUPPORTED)}",
            )
        self._superlink, self._handler = superlink, handler
        self._root_certificates = root_certificates
        self._events = events or EventLog(None)
        self.node_id = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.network_s = 0.0
        self._rested_at_s = 0.0

    def rest(self, seconds: float) -> None:
        """Leave the SuperLink once what was asked is answered, and come back after so many seconds."""
        self._rested_at_s = time.monotonic() + seconds

    @property
    def rest_s(self) -> float:
        """Seconds until the end of the rest; 0 or less: it does not rest."""
        return self._rested_at_s - time.monotonic()

    def run(self, stop: threading.Event) -> None:
        """Serve until told to stop; a lost SuperLink is awaited with back-off and jitter."""
        delay_s = BACKOFF_S[0]
        while not stop.is_set():
            if self.rest_s > 0:
                stop.wait(self.rest_s)
                continue
            try:
                _Connection(self, stop).serve()
                delay_s = BACKOFF_S[0]
            except TransportError as error:
                self._events.emit("superlink.lost", message=error.message)
                stop.wait(delay_s * random.uniform(0.7, 1.3))  # noqa: S311 jitter, not a secret
                delay_s = min(BACKOFF_S[1], delay_s * 2)

    def run_beside(self, watch: Callable[[], None], stop: threading.Event, *, patience_s: float) -> None:
        """Serve until told to stop, with `watch` in a thread that the same event ends.

        Raises:
            TransportError: the SuperLink refuses this node.
        """
        watcher = threading.Thread(target=watch, name="watch", daemon=True)
        watcher.start()
        try:
            self.run(stop)
        finally:
            stop.set()
            watcher.join(timeout=patience_s)

    def answer(self, stage: str, payload: bytes) -> bytes:
        """Call the handler; whatever goes wrong in it becomes an answer."""
        try:
            return self._handler(stage, payload)
        except MimoFedError as error:
            return envelope.failure(error)
        except Exception as error:  # noqa: BLE001 a device answers and goes on, whatever its handler met
            self._events.emit("handler.failed", stage=stage, error=type(error).__name__)
            return envelope.failure(MimoFedError(f"device failed: {type(error).__name__}"))


class _Connection:
    """One registration at the SuperLink."""

    def __init__(self, node: EmbeddedNode, stop: threading.Event) -> None:
        self._owner, self._stop = node, stop
        self._over = threading.Event()
        self._failed: list[TransportError] = []
        self._work: queue.Queue[tuple[str, bytes] | None] = queue.Queue()
        self._asking = threading.Lock()
        self._asked: dict[tuple[str, bytes], Message] = {}
        """the newest message for each request that waits or is worked on: that one is answered"""
        self._idle = threading.Event()
        self._idle.set()
        self._lively_until_s = 0.0
        private, public = generate_key_pairs()
        self._public_key = public_key_to_bytes(public)
        self._client = FleetHttpClient.from_server_address(
            node._superlink,
            node._root_certificates is None,
            node._root_certificates,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(private, public),
            ],
        )
        self._node = Node()

    def serve(self) -> None:
        """Register, then receive, answer and send until stopped or lost."""
        with self._client:
            self._register()
            threads = [threading.Thread(target=t, daemon=True) for t in (self._beat, self._answer)]
            for thread in threads:
                thread.start()
            try:
                self._receive()
            finally:
                self._over.set()
                self._work.put(None)
                self._leave()
        if self._failed:
            raise self._failed[0]

    def _register(self) -> None:
        key, interval_s = self._public_key, HEARTBEAT_INTERVAL_S
        self._call(self._client.RegisterNode, RegisterNodeFleetRequest(public_key=key), 0.0)
        request = ActivateNodeRequest(public_key=key, heartbeat_interval=interval_s)
        self._node = Node(node_id=self._call(self._client.ActivateNode, request, 0.0).node_id)
        self._owner.node_id = self._node.node_id
        self._owner._events.emit("superlink.joined", node=str(self._node.node_id))

    def _receive(self) -> None:
        while not self._stop.is_set() and not self._over.is_set():
            if self._owner.rest_s > 0 and self._idle.is_set():
                return
            response = self._call(self._client.PullMessages, PullMessagesRequest(node=self._node))
            for proto, tree in zip(response.messages_list, response.message_object_trees, strict=True):
                self._take(message_from_proto(proto), tree)
            if not response.messages_list:
                self._stop.wait(POLL_S[0] if time.monotonic() < self._lively_until_s else POLL_S[1])

    def _take(self, header: Message, tree: ObjectTree) -> None:
        """Pull one message; a hello is answered at once, all else waits for the worker."""
        self._lively_until_s = time.monotonic() + LIVELY_S
        started, run_id = time.monotonic(), header.metadata.run_id
        pull = make_pull_object_fn_protobuf(
            partial(self._call_run, self._client.PullObject), self._node, run_id
        )
        confirm = make_confirm_message_received_fn_protobuf(
            partial(self._call_run, self._client.ConfirmMessageReceived), self._node, run_id
        )
        try:
            message = pull_and_inflate_object_from_tree(
                tree, pull, confirm, return_type=Message, initial_backoff=PULL_S[0], max_time=PULL_S[1]
            )
            message.metadata.__dict__["_message_id"] = header.metadata.message_id
            stage, payload = unpack(message.content)
        except (*_UNREADABLE, RunNotRunningException) as error:
            self._owner._events.emit("message.refused", error=type(error).__name__)
            return
        self._owner.bytes_down += len(payload)
        self._owner.network_s += time.monotonic() - started
        if stage == "hello":
            self._send(message, stage, self._owner.answer(stage, payload))
        else:
            request = (stage, payload)
            with self._asking:
                if request not in self._asked:
                    self._idle.clear()
                    self._work.put(request)
                self._asked[request] = message

    def _answer(self) -> None:
        """Answer one message after the other."""
        while (item := self._work.get()) is not None and not self._over.is_set():
            answer = self._owner.answer(*item)
            if self._stop.is_set() or self._over.is_set():
                return
            with self._asking:
                message = self._asked.pop(item)
            try:
                self._send(message, item[0], answer)
                if self._work.empty():
                    self._idle.set()
            except TransportError as error:
                self._failed.append(error)
                self._over.set()
            except Exception as error:  # noqa: BLE001 without this thread the node would hear and never answer
                self._failed.append(TransportError(f"answer could not be sent: {type(error).__name__}"))
                self._over.set()

    def _send(self, message: Message, stage: str, answer: bytes) -> None:
        started = time.monotonic()
        reply = Message(pack(stage, answer), reply_to=message)
        try:
            with no_object_id_recompute():
                reply.metadata.__dict__["_message_id"] = reply.object_id
                objects, tree = get_all_nested_objects(reply), get_object_tree(reply)
                request = PushMessagesRequest(
                    node=self._node,
                    messages_list=[message_to_proto(remove_content_from_message(reply))],
                    message_object_trees=[tree],
                    clientapp_runtime_list=[0.0],
                )
                response = self._call_run(self._client.PushMessages, request)
                push = make_push_object_fn_protobuf(
                    partial(self._call_run, self._client.PushObject),
                    self._node,
                    message.metadata.run_id,
                    response.session_id,
                )
                push_objects(objects, push, object_ids_to_push=set(response.objects_to_push))
        except RunNotRunningException:
            self._owner._events.emit("answer.unwanted", stage=stage)
            return
        except ObjectPushError:
            raise TransportError("answer was not taken: its upload took longer than Flower allows") from None
        self._owner.bytes_up += len(answer)
        self._owner.network_s += time.monotonic() - started
        self._lively_until_s = time.monotonic() + LIVELY_S

    def _beat(self) -> None:
        """Tell the SuperLink every now and then that this node is there."""
        request = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_INTERVAL_S)
        while not self._over.wait(HEARTBEAT_S):
            try:
                known = self._call(self._client.SendNodeHeartbeat, request).success
            except TransportError as error:
                self._failed.append(error)
                known = False
            if not known:
                self._over.set()

    def _leave(self) -> None:
        node_id = self._node.node_id
        for act, request in (
            (self._client.DeactivateNode, DeactivateNodeRequest(node_id=node_id)),
            (self._client.UnregisterNode, UnregisterNodeFleetRequest(node_id=node_id)),
        ):
            try:
                self._call(act, request, 0.0)
            except TransportError:
                return

    def _call_run(self, act: Callable[[Any], Any], request: Any) -> Any:
        """Call on behalf of a run.

        Raises:
            RunNotRunningException: the run is over; the SuperLink is there and knows this node.
            TransportError: see `_call`.
        """

        def guarded(request: Any) -> Any:
            try:
                return act(request)
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.FORBIDDEN:
                    raise RunNotRunningException from None
                raise

        return self._call(guarded, request)

    def _call(self, act: Callable[[Any], Any], request: Any, patience_s: float = OUTAGE_S) -> Any:
        """Call the SuperLink; a connection that fails is tried again for `patience_s`.

        Raises:
            TransportError: it stayed away, or refused.
        """
        end, delay_s = time.monotonic() + patience_s, BACKOFF_S[0]
        while True:
            try:
                return act(request)
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in (502, 503, 504):
                    raise TransportError(f"SuperLink refused: {error.response.status_code}") from None
                failed: Exception = error
            except httpx.TransportError as error:
                failed = error
            if time.monotonic() > end or self._stop.is_set():
                raise TransportError(
                    f"SuperLink cannot be reached: {self._owner._superlink} ({type(failed).__name__})",
                    hint="is it running, and are host, port and TLS the ones in the settings?",
                ) from None
            self._stop.wait(delay_s)
            delay_s = min(BACKOFF_S[1], delay_s * 2)
