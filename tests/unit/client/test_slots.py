import hashlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mimo_fed.errors import InstallError
from mimo_fed.release import ReleaseInfo
from mimo_fed.release.info import adapter_path
from mimo_fed_client.slots import Slots

SWAPPER = """
import sys
from pathlib import Path
from tests.unit.client.test_slots import content, info
from mimo_fed_client.slots import Slots
slots = Slots(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    number += 1
    slots.stage(content(number), info(number))
    slots.commit(number)
    print(number, flush=True)
"""


def content(number: int) -> bytes:
    return str(number).encode() * 20_000


def info(number: int) -> ReleaseInfo:
    return ReleaseInfo(
        number=number,
        channel="stable",
        digest=hashlib.sha256(content(number)).hexdigest(),
        length=len(content(number)),
        base_fingerprint="ab" * 32,
        basis_epoch=0,
        spec_digest="cd" * 32,
        round_id=f"train-{number}",
        parent=-1,
        quorum_digest="",
        path=adapter_path("stable", "ab" * 32, number),
    )


def install(slots: Slots, number: int) -> None:
    slots.stage(content(number), info(number))
    slots.commit(number)


def serving(slots: Slots) -> int | None:
    installed = slots.current()
    if installed is None:
        return None
    assert installed.data == content(installed.info.number)
    return installed.info.number


def test_what_is_staged_serves_only_after_the_commit(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    assert serving(slots) is None
    slots.stage(content(1), info(1))
    assert serving(slots) is None
    slots.commit(1)
    assert serving(slots) == 1
    slots.stage(content(2), info(2))
    assert serving(Slots(tmp_path)) == 1
    slots.commit(2)
    assert serving(Slots(tmp_path)) == 2


def test_only_what_is_staged_whole_can_be_committed(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    install(slots, 1)
    with pytest.raises(InstallError, match="release 2"):
        slots.commit(2)
    slots.stage(content(2), info(2))
    with pytest.raises(InstallError, match="release 3"):
        slots.commit(3)
    (tmp_path / "b.safetensors").write_bytes(content(2)[:-1])
    with pytest.raises(InstallError, match="whole"):
        slots.commit(2)
    with pytest.raises(InstallError, match="not those of release 2"):
        slots.stage(content(3), info(2))
    assert serving(slots) == 1


@pytest.mark.parametrize("how", ["cut", "gone", "record", "pointer"])
def test_a_damaged_slot_falls_back_to_the_other(tmp_path: Path, how: str) -> None:
    said: list[str] = []
    slots = Slots(tmp_path, said.append)
    install(slots, 1)
    install(slots, 2)
    serving_file = tmp_path / "b.safetensors"
    if how == "cut":
        serving_file.write_bytes(content(2)[:100])
    elif how == "gone":
        serving_file.unlink()
    elif how == "record":
        (tmp_path / "b.json").write_text("{")
    else:
        (tmp_path / "serving").write_text("z")
    assert serving(slots) == 1
    assert said
    slots.stage(content(3), info(3))
    assert serving(slots) == 1
    slots.commit(3)
    assert serving(slots) == 3
    assert (tmp_path / "a.safetensors").read_bytes() == content(1)


def test_both_damaged_is_nothing_to_serve(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    install(slots, 1)
    install(slots, 2)
    for name in "ab":
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    assert serving(slots) is None
    slots.stage(content(3), info(3))
    assert serving(slots) is None
    slots.commit(3)
    assert serving(slots) == 3


def test_bad_releases_are_remembered_and_never_fallen_back_to(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    assert slots.bad() == {}
    install(slots, 1)
    slots.stage(content(2), info(2))
    slots.mark_bad(2, "too costly")
    assert Slots(tmp_path).bad() == {2: "too costly"}
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert serving(slots) is None


def test_a_full_disk_leaves_the_old_one_serving(tmp_path: Path) -> None:
    install(Slots(tmp_path), 1)
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from mimo_fed.errors import InstallError\n"
        "from mimo_fed_client.slots import Slots\n"
        "from tests.unit.client.test_slots import content, info, serving\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "slots = Slots(Path(sys.argv[1]))\n"
        "try:\n"
        "    slots.stage(content(2), info(2))\n"
        "except InstallError as error:\n"
        "    print(error.code, serving(slots))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parents[3])
    assert done.stdout == b"install 1\n"


def test_killed_in_the_middle_there_is_always_a_whole_release(tmp_path: Path) -> None:
    install(Slots(tmp_path), 1)
    last = 1
    for pause_s in (0.0, 0.013, 0.04):
        command = [sys.executable, "-c", SWAPPER, str(tmp_path), str(last)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(pause_s)
        process.kill()
        said = [int(line) for line in process.stdout.read().split()]
        process.wait()
        process.stdout.close()
        said_last = max(said, default=last + 1)
        now = serving(Slots(tmp_path))
        assert now in (said_last, said_last + 1)
        last = now or 0
