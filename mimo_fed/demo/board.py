"""What is known of a run while it goes: a fold over the event files of the coordinator and the devices.

An event changes the board and may be worth a line for people. Unknown kinds and fields are passed over, so
that an older demo can watch newer processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Event = Mapping[str, Any]


@dataclass(kw_only=True)
class DeviceState:
    """One device as seen from its own events."""

    state: str = "starting"
    step: int = 0
    num_steps: int = 0
    loss: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    release: int | None = None


@dataclass(frozen=True, kw_only=True)
class RoundPast:
    """A round that was opened."""

    round_id: str
    kind: str
    survivors: int
    cohort: int
    loss_before: float
    loss_after: float
    seconds: float


@dataclass(kw_only=True)
class Board:
    """All that the view shows.

    Attributes:
        rounds: training rounds to be run.
        devices: by name, in the order given.
    """

    rounds: int
    devices: dict[str, DeviceState]
    round_id: str = ""
    kind: str = ""
    stage: str = "starting"
    cohort: int = 0
    contributions: int = 0
    past: list[RoundPast] = field(default_factory=list)
    stable: int = 0
    done: bool = False

    def coordinator(self, event: Event) -> str | None:
        """Take in one of the coordinator's events; return a line if people should read it."""
        act = _COORDINATOR.get(str(event.get("kind")))
        return act(self, event) if act else None

    def device(self, name: str, event: Event) -> str | None:
        """Take in one event of the device `name`; return a line if people should read it."""
        act = _DEVICE.get(str(event.get("kind")))
        return act(self.devices[name], name, event) if act else None

    @property
    def trained(self) -> int:
        """Training rounds that are through."""
        return sum(past.kind == "train" for past in self.past)


def megabytes(num_bytes: float) -> str:
    """Write a size for people."""
    return f"{num_bytes / 1e6:.2f} MB"


def _started(board: Board, event: Event) -> str:
    board.round_id, board.kind = str(event["round_id"]), str(event["round_kind"])
    board.cohort, board.contributions, board.stage = len(event["cohort"]), 0, "contribute"
    return f"round {board.round_id}: {board.cohort} devices asked"


def _adopted(board: Board, event: Event) -> str:
    board.round_id, board.stage = str(event["round_id"]), str(event["stage"])
    return f"round {board.round_id}: taken up again at stage {board.stage} by a new coordinator"


def _stage(board: Board, event: Event) -> None:
    board.round_id, board.stage = str(event["round_id"]), str(event["stage"])


def _contribution(board: Board, event: Event) -> str:
    board.contributions += 1
    size = megabytes(float(event["bytes"]))
    return f"  {event['device']}: {size} of ciphertext, {board.contributions} of {board.cohort}"


def _refusal(board: Board, event: Event) -> str:
    return f"  {event['device']} refused ({event['code']}): {event['message']}"


def _opened(board: Board, event: Event) -> str:
    past = RoundPast(
        round_id=str(event["round_id"]),
        kind=str(event["round_kind"]),
        survivors=len(event["survivors"]),
        cohort=len(event["survivors"]) + len(event["dropouts"]),
        loss_before=float(event["loss_before"]),
        loss_after=float(event["loss_after"]),
        seconds=float(event["seconds"]),
    )
    board.past.append(past)
    board.stage = "opened"
    return (
        f"round {past.round_id}: sum of {past.survivors} devices opened once, {event['votes']} votes, "
        f"loss {past.loss_before:.4f} -> {past.loss_after:.4f}, {past.seconds:.1f} s"
    )


def _aborted(board: Board, event: Event) -> str:
    board.stage = "aborted"
    return f"round {event['round_id']} aborted, nothing was opened: {event['message']}"


def _published(board: Board, event: Event) -> str:
    board.stage = "judged by the devices"
    return f"release {event['number']} signed on channel dev: {str(event['digest'])[:16]}"


def _promoted(board: Board, event: Event) -> str:
    board.stage, board.stable = "installed by the devices", int(event["number"])
    return f"release {event['number']} promoted to channel {event['channel']}"


def _kept_back(board: Board, event: Event) -> str:
    board.stage = "kept back"
    return f"release {event['number']} kept back: {event['reason']}"


def _told(board: Board, event: Event) -> str:
    return f"  {event['device']}: {event['state']} (release {event['release']})"


def _done(board: Board, event: Event) -> str:
    board.done, board.stage = True, "done"
    return f"all {event['rounds']} training rounds are through"


_COORDINATOR: dict[str, Callable[[Board, Event], str | None]] = {
    "round.started": _started,
    "round.adopted": _adopted,
    "stage": _stage,
    "contribution": _contribution,
    "refusal": _refusal,
    "round.opened": _opened,
    "round.aborted": _aborted,
    "release.published": _published,
    "release.promoted": _promoted,
    "release.kept_back": _kept_back,
    "device.installed": _told,
    "done": _done,
}


def _enter(word: str) -> Callable[[DeviceState, str, Event], None]:
    def act(device: DeviceState, name: str, event: Event) -> None:
        device.state, device.step, device.num_steps = word, 0, 0

    return act


def _state(device: DeviceState, name: str, event: Event) -> None:
    device.state, device.step, device.num_steps = str(event["state"]), 0, 0


def _progress(device: DeviceState, name: str, event: Event) -> None:
    device.state = str(event["what"])
    device.step, device.num_steps = int(event["step"]), int(event["num_steps"])
    if event.get("loss") is not None:
        device.loss = float(event["loss"])


def _trained(device: DeviceState, name: str, event: Event) -> str:
    device.state, device.loss, device.step = "trained", float(event["loss_after"]), device.num_steps
    return (
        f"  {name} trained for {float(event['seconds']):.1f} s: "
        f"loss {float(event['loss_before']):.4f} -> {float(event['loss_after']):.4f} on its own text"
    )


def _bytes(device: DeviceState, name: str, event: Event) -> None:
    device.bytes_up, device.bytes_down = int(event["up"]), int(event["down"])


def _refused(device: DeviceState, name: str, event: Event) -> str:
    return f"  {name} refuses stage {event['stage']} ({event['code']}): {event['message']}"


def _installed(device: DeviceState, name: str, event: Event) -> None:
    device.state, device.release = str(event["state"]), int(event["release"])


def _rolled_back(device: DeviceState, name: str, event: Event) -> str:
    return f"  {name} rolled release {event['release']} back to {event['serving']}: {event['reason']}"


def _failed(device: DeviceState, name: str, event: Event) -> str:
    return f"  {name} could not install ({event['code']}), what served still does: {event['message']}"


_DEVICE: dict[str, Callable[[DeviceState, str, Event], str | None]] = {
    "state": _state,
    "progress": _progress,
    "manifest.accepted": _enter("manifest accepted"),
    "train.started": _enter("train"),
    "train.done": _trained,
    "evaluate.started": _enter("judge"),
    "evaluate.done": _enter("judged"),
    "shares": _enter("checked shares"),
    "sealed": _enter("sealed"),
    "vote": _enter("voted"),
    "opened": _enter("opened"),
    "bytes": _bytes,
    "refused": _refused,
    "installed": _installed,
    "release.rolled_back": _rolled_back,
    "install.failed": _failed,
}
