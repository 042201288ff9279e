"""Kill -9 of each part in the middle of a round: the round ends, or is taken up again.

One system, one fault a round; the end of the test run prints what happened and how long it took.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.running import Event, Running, running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from running(tmp_path_factory.mktemp("runs"), "faults", 5, "--deadline-s", "120")


Note = Callable[[str, object], None]


def note(record: Note, fault: str, killed_at: float, opened: Event) -> None:
    lost = len(opened["dropouts"])
    outcome = f"{opened['round_id'].rsplit('-', 1)[0]} opened, {lost} dropped out"
    record("fault", (fault, outcome, round(opened["at"] - killed_at, 1)))


def seen(run: Running, device: str, kind: str, round_id: str) -> bool:
    return any(e["kind"] == kind and e.get("round_id") == round_id for e in run.events(f"devices/{device}"))


def device_names(run: Running) -> list[str]:
    return next(e for e in run.events() if e["kind"] == "round.started")["cohort"]  # type: ignore[no-any-return]


def test_agent_killed_in_training(run: Running, record_property: Note) -> None:
    round_id = run.wait_round(1)
    device = device_names(run)[0]
    run.wait("training", lambda: seen(run, device, "train.started", round_id))
    killed_at = run.kill(run.pid(device))
    opened = run.opened(round_id)
    assert set(opened["dropouts"]) <= {device}
    note(record_property, "agent, in training", killed_at, opened)


def test_agent_killed_after_its_contribution(run: Running, record_property: Note) -> None:
    round_id = run.wait_round(2)
    device = run.wait(
        "a contribution",
        lambda: next(
            (e["device"] for e in run.events() if e["kind"] == "contribution" and e["round_id"] == round_id),
            "",
        ),
    )
    killed_at = run.kill(run.pid(device))
    opened = run.opened(round_id)
    assert device in opened["survivors"]
    note(record_property, "agent, after its contribution", killed_at, opened)


def test_coordinator_killed_between_contributions_and_opening(run: Running, record_property: Note) -> None:
    round_id = run.wait_round(3)
    run.wait(
        "the shares stage",
        lambda: any(
            e["kind"] == "stage" and e["round_id"] == round_id and e["stage"] == "shares"
            for e in run.events()
        ),
    )
    started = [e for e in run.events() if e["kind"] == "coordinator.started"]
    killed_at = run.kill(started[-1]["pid"])
    opened = run.opened(round_id)
    assert any(e["kind"] == "round.adopted" and e["round_id"] == round_id for e in run.events())
    assert not opened["dropouts"]
    note(record_property, "coordinator, before the opening", killed_at, opened)


def test_superlink_killed_in_a_round(run: Running, record_property: Note) -> None:
    round_id = run.wait_round(4)
    device = device_names(run)[-1]
    run.wait("training", lambda: seen(run, device, "train.started", round_id))
    killed_at = run.kill(run.pid("superlink"))
    opened = run.ended(4)
    note(record_property, "SuperLink, in training", killed_at, opened)


def test_two_members_gone_after_contributing_change_nothing(run: Running, record_property: Note) -> None:
    opened = run.wait_round(5)
    contributed = run.wait(
        "two contributions",
        lambda: (
            (
                names := [
                    e["device"]
                    for e in run.events()
                    if e["kind"] == "contribution" and e["round_id"] == opened
                ]
            )[1:]
            and names[:2]
        ),
    )
    paused = [run.pid(device) for device in contributed]
    stopped_at = time.time()
    for pid in paused:
        os.kill(pid, signal.SIGSTOP)
    try:
        event = run.opened(opened)
    finally:
        for pid in paused:
            os.kill(pid, signal.SIGCONT)
    assert set(contributed) <= set(event["survivors"])
    note(record_property, "two agents stopped, after contributing", stopped_at, event)


def test_run_ends_with_a_whole_report(run: Running) -> None:
    report = run.finish()
    assert len(report["devices"]) == 8
    assert [r["kind"] for r in report["rounds"]].count("train") >= 5
