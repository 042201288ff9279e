"""What the coordinator keeps on disk, and that a new process goes on with it."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mimo_fed.config import RoundConfig
from mimo_fed.errors import ConfigError, LocalProtocolError
from mimo_fed.events import EventLog
from mimo_fed.round.cohort import Candidate
from mimo_fed.round.coordinate import Coordination
from mimo_fed.round.outcome import Outcome
from mimo_fed.round.records import Plan, Record
from mimo_fed_server.coordinator import LOCK_FILE, only_one
from mimo_fed_server.rounds import FileSpool, RoundsDatabase, StoredRound
from mimo_fed_server.supervisor import _alive, _named
from tests.simulators.fleet import NOW_S, SPEC, Killed, MemoryFleet, Stream
from tests.unit.round.test_round import BASE, CONFIG


class KilledRound(StoredRound):
    """The process ends right after a record of a certain stage."""

    stage = ""

    def append(self, record: Record) -> None:
        super().append(record)
        if record.stage == self.stage:
            raise Killed


def coordinate(fleet: MemoryFleet, store: StoredRound, plan: Plan) -> Outcome:
    return Coordination(
        fleet,
        store,
        key=fleet.key,
        anchors=fleet.anchors,
        spec=SPEC,
        entropy=Stream("cohort"),
        now_s=lambda: NOW_S,
        events=EventLog(None),
    ).run(plan)


@pytest.mark.parametrize(
    "stage", ["manifest", "closed", "complaint", "ballot", "vote", "certificate", "opening"]
)
def test_new_process_goes_on_from_the_file(tmp_path: Path, stage: str) -> None:
    fleet, home = MemoryFleet(tmp_path), tmp_path / "coordinator"
    first = RoundsDatabase(home)
    plan, _ = first.new_round(0, CONFIG, BASE, NOW_S)
    killed = KilledRound(first, plan.round_id)
    killed.stage = stage
    with pytest.raises(Killed):
        coordinate(fleet, killed, plan)
    first.close()

    second = RoundsDatabase(home)
    found = second.open_round(0, CONFIG)
    assert found is not None
    assert found[0] == plan
    outcome = coordinate(fleet, StoredRound(second, plan.round_id), plan)
    assert outcome.dropouts == ()
    assert all(len(device.trained) == 1 for device in fleet.devices.values())
    second.close()


def test_numbers_grow_and_ended_rounds_leave_no_contributions(tmp_path: Path) -> None:
    database = RoundsDatabase(tmp_path)
    first, _ = database.new_round(0, CONFIG, BASE, NOW_S)
    StoredRound(database, first.round_id).spool.put("car.m2", b"bytes")
    database.end_round(first.round_id, "aborted")
    second, _ = database.new_round(0, CONFIG, BASE, NOW_S)
    assert second.sequence == first.sequence + 1
    assert not (tmp_path / "spool" / first.round_id).exists()
    assert database.num_aborted(0, "train") == 1
    assert database.num_aborted(0, "evaluate") == 0
    assert database.open_round(0, RoundConfig(kind="evaluate")) is None
    database.close()


def test_steps_are_done_once(tmp_path: Path) -> None:
    database = RoundsDatabase(tmp_path)
    database.finish(0, "train", {"digest": "ab"})
    assert database.steps(0) == {"train": {"digest": "ab"}}
    assert database.cycles_done() == 0
    database.finish(0, "notify", {})
    assert database.cycles_done() == 1
    database.close()


def test_spool_keeps_files_in_its_folder(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool")
    data = np.arange(100, dtype=np.uint8).tobytes()
    spool.put("car.m2", data)
    spool.put("car.m2", data)
    assert spool.get("car.m2") == data
    assert tuple(spool.all()) == (data,)
    assert spool.read("car.m2", 10, 5) == data[10:15]
    for name in ("../car.m2", "", ".hidden", "a/b"):
        with pytest.raises(LocalProtocolError):
            spool.put(name, b"x")


def test_two_coordinators_do_not_share_a_folder(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(ConfigError, match="another coordinator"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_number_of_an_ended_coordinator_may_be_another_process_by_now(tmp_path: Path) -> None:
    pid_file = tmp_path / LOCK_FILE
    assert not _named(pid_file)
    pid_file.touch()
    assert not _named(pid_file)
    assert not _alive(pid_file)
    with only_one(tmp_path):
        assert _named(pid_file)
        assert _alive(pid_file)
    assert pid_file.read_text() == str(os.getpid())
    assert not _alive(pid_file)


def test_records_of_devices_outlive_the_process(tmp_path: Path) -> None:
    database = RoundsDatabase(tmp_path)
    car = Candidate(device_id="car", last_round=3, num_rounds=2)
    database.note_devices([car, Candidate(device_id="phone")])
    database.note_devices([replace(car, last_contributed=3, num_contributed=1)])
    database.close()
    again = RoundsDatabase(tmp_path).known_devices()
    assert again["car"] == replace(car, last_contributed=3, num_contributed=1)
    assert again["phone"].last_round is None
