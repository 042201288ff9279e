"""Event files become a board, a table and lines."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from mimo_fed.demo.board import Board, DeviceState
from mimo_fed.demo.live import Tail, View, follow, render
from mimo_fed.errors import TransportError
from mimo_fed.events import EventLog
from tests.unit.demo.records import round_record

NAMES = ("watch-1", "phone-1", "car-1")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {name: tmp_path / name / "events.jsonl" for name in ("coordinator", *NAMES)}


@pytest.fixture
def tail(files: dict[str, Path]) -> Tail:
    return Tail(files["coordinator"], {name: files[name] for name in NAMES})


@pytest.fixture
def board() -> Board:
    return Board(rounds=2, devices={name: DeviceState() for name in NAMES})


def _one_round(files: dict[str, Path]) -> None:
    log, record = EventLog(files["coordinator"]), round_record(1)
    fields = {"round_kind" if k == "kind" else k: v for k, v in record.items()}
    log.emit(
        "round.started",
        round_id=record["round_id"],
        round_kind="train",
        sequence=1,
        cohort=record["cohort"],
    )
    device = EventLog(files["phone-1"])
    device.emit("manifest.accepted", round_id=record["round_id"])
    device.emit("progress", what="train", step=3, num_steps=4, loss=3.25)
    device.emit("train.done", round_id=record["round_id"], loss_before=4.0, loss_after=3.5, seconds=21.25)
    device.emit("bytes", up=1_500_000, down=2_000_000)
    for name in NAMES:
        log.emit("contribution", round_id=record["round_id"], device=name, bytes=1_400_000)
    log.emit("round.opened", **fields)
    log.emit("release.published", number=1, digest="cd" * 32, round_id=record["round_id"])
    log.emit("release.promoted", number=1, channel="stable")
    log.emit("device.installed", device="phone-1", state="committed", release=1)
    device.emit("installed", release=1, state="committed")


def test_a_round_reads_as_a_story(files: dict[str, Path], tail: Tail, board: Board) -> None:
    _one_round(files)
    story = "\n".join(tail.read(board))
    for part in (
        "train-1-00c0ffee: 3 devices asked",
        "phone-1 trained for 21.2 s: loss 4.0000 -> 3.5000",
        "1.40 MB of ciphertext, 3 of 3",
        "sum of 3 devices opened once, 3 votes",
        "release 1 promoted to channel stable",
        "phone-1: committed (release 1)",
    ):
        assert part in story, part
    assert board.trained == 1
    assert board.stable == 1
    phone = board.devices["phone-1"]
    assert (phone.state, phone.loss, phone.bytes_up, phone.release) == ("committed", 3.5, 1_500_000, 1)


def test_what_was_read_is_not_read_again_and_a_torn_line_waits(
    files: dict[str, Path], tail: Tail, board: Board
) -> None:
    log = EventLog(files["coordinator"])
    log.emit("round.aborted", round_id="train-1-aa", message="two answers")
    assert len(tail.read(board)) == 1
    assert tail.read(board) == []
    with files["coordinator"].open("a") as file:
        file.write('{"at":1,"kind":"done"')
        file.flush()
        assert tail.read(board) == []
        file.write(',"rounds":2}\n')
    assert tail.read(board) == ["all 2 training rounds are through"]
    assert board.done


def test_unknown_events_are_passed_over(files: dict[str, Path], tail: Tail, board: Board) -> None:
    EventLog(files["coordinator"]).emit("moon.rose")
    EventLog(files["car-1"]).emit("moon.set")
    assert tail.read(board) == []


def test_a_new_life_of_the_coordinator_is_told(files: dict[str, Path], tail: Tail, board: Board) -> None:
    EventLog(files["coordinator"]).emit("round.adopted", round_id="train-2-bb", stage="shares")
    assert tail.read(board) == ["round train-2-bb: taken up again at stage shares by a new coordinator"]
    assert (board.round_id, board.stage) == ("train-2-bb", "shares")


def test_refusals_of_both_sides_are_told(files: dict[str, Path], tail: Tail, board: Board) -> None:
    EventLog(files["coordinator"]).emit(
        "refusal", round_id="r", device="car-1", code="protocol.peer", message="forged"
    )
    EventLog(files["watch-1"]).emit("refused", stage="contribute", code="privacy", message="NaN")
    EventLog(files["phone-1"]).emit("release.rolled_back", release=2, reason="NaN", serving=1)
    EventLog(files["phone-1"]).emit("install.failed", state="FETCH", code="transport", message="no way")
    lines = tail.read(board)
    assert "  phone-1 rolled release 2 back to 1: NaN" in lines
    assert "  phone-1 could not install (transport), what served still does: no way" in lines
    assert "  car-1 refused (protocol.peer): forged" in lines
    assert "  watch-1 refuses stage contribute (privacy): NaN" in lines


def test_without_a_terminal_lines_are_plain(files: dict[str, Path], tail: Tail, board: Board) -> None:
    output = io.StringIO()
    _one_round(files)
    with View(Console(file=output), board) as view:
        follow(view, tail, ended=lambda: True)
    text = output.getvalue()
    assert "\x1b" not in text
    assert len(text.splitlines()) == 9
    assert all(" s  " in line for line in text.splitlines())


def test_on_a_terminal_a_table_is_drawn(files: dict[str, Path], tail: Tail, board: Board) -> None:
    output = io.StringIO()
    _one_round(files)
    console = Console(file=output, force_terminal=True, width=120, height=40)
    with View(console, board) as view:
        follow(view, tail, ended=lambda: True)
    assert "training rounds" in output.getvalue()
    assert "\x1b" in output.getvalue()


def test_the_table_shows_devices_and_losses(files: dict[str, Path], tail: Tail, board: Board) -> None:
    _one_round(files)
    tail.read(board)
    output = io.StringIO()
    Console(file=output, width=120).print(render(board))
    text = output.getvalue()
    for part in ("1/2", "committed", "1.50 MB", "3.5000", "loss 3.8000 -> 3.5000", "starting"):
        assert part in text, part


def test_a_dead_process_stops_the_view(tail: Tail, board: Board) -> None:
    def ended() -> bool:
        raise TransportError("registry ended with code 3")

    with View(Console(file=io.StringIO()), board) as view, pytest.raises(TransportError, match="registry"):
        follow(view, tail, ended=ended)
