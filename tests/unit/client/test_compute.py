import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mimo_fed.errors import ConfigError, LocalProtocolError
from mimo_fed_client.compute import ComputeSlots

HOLDER = """
import sys, time
from pathlib import Path
from mimo_fed_client.compute import ComputeSlots
with ComputeSlots(Path(sys.argv[1]), int(sys.argv[2])).hold():
    print("holds", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def holder(folder: Path, count: int, seconds: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", HOLDER, str(folder), str(count), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def wait_until_held(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"holds\n"
    process.stdout.close()


def test_no_more_than_count_at_once(tmp_path: Path) -> None:
    running, most = [0], [0]
    lock = threading.Lock()

    def work() -> None:
        with ComputeSlots(tmp_path, 2).hold():
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            time.sleep(0.02)
            with lock:
                running[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 2


def test_without_a_bound_nobody_waits(tmp_path: Path) -> None:
    slots = ComputeSlots(tmp_path / "none", 0)
    with slots.hold() as first, slots.hold() as second:
        assert first == second == 0.0
    assert not (tmp_path / "none").exists()


def test_a_killed_process_gives_its_slot_back(tmp_path: Path) -> None:
    process = holder(tmp_path, 1, 60)
    wait_until_held(process)
    with pytest.raises(LocalProtocolError), ComputeSlots(tmp_path, 1).hold(lambda: True):
        pass
    began = time.monotonic()
    threading.Timer(0.2, process.kill).start()
    with ComputeSlots(tmp_path, 1).hold() as waited_s:
        assert waited_s >= 0.1
    process.wait()
    assert time.monotonic() - began < 5


def test_a_killed_waiter_does_not_block_the_queue(tmp_path: Path) -> None:
    first = holder(tmp_path, 1, 60)
    wait_until_held(first)
    waiter = holder(tmp_path, 1, 60)
    time.sleep(0.5)
    waiter.kill()
    waiter.wait()
    if waiter.stdout:
        waiter.stdout.close()
    first.kill()
    first.wait()
    with ComputeSlots(tmp_path, 1).hold() as waited_s:
        assert waited_s < 5


def test_stop_ends_the_wait(tmp_path: Path) -> None:
    asked = iter([False, False, True])
    with (
        ComputeSlots(tmp_path, 1).hold(),
        pytest.raises(LocalProtocolError, match="stopped"),
        ComputeSlots(tmp_path, 1).hold(lambda: next(asked)),
    ):
        pass
    with ComputeSlots(tmp_path, 1).hold():
        pass


def test_a_negative_number_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="-1"):
        ComputeSlots(tmp_path, -1)
