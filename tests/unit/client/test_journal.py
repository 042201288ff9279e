import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mimo_fed.errors import ConfigError, InstallError, LocalProtocolError
from mimo_fed_client.journal import FileJournal, state_key

KEY = bytes(range(32))

WRITER = """
import sys
from pathlib import Path
from mimo_fed_client.journal import FileJournal
journal = FileJournal(Path(sys.argv[1]), bytes(range(32)))
number = 0
while True:
    number += 1
    journal.put("round/one/member", str(number).encode() * 5000)
    print(number, flush=True)
"""


@pytest.fixture
def journal(tmp_path: Path) -> FileJournal:
    return FileJournal(tmp_path / "journal", KEY)


def test_keeps_and_forgets(journal: FileJournal) -> None:
    assert journal.get("prekey/r-1/secret") is None
    journal.put("prekey/r-1/secret", b"s" * 64)
    journal.put("prekey/r-1/message", b"")
    journal.put("round/ab/m2", b"m\0m")
    assert journal.get("prekey/r-1/secret") == b"s" * 64
    assert journal.get("prekey/r-1/message") == b""
    assert journal.get("round/ab/m2") == b"m\0m"
    assert journal.keys("prekey/") == ("prekey/r-1/message", "prekey/r-1/secret")
    journal.erase("prekey/r-1/secret")
    journal.erase("prekey/r-1/secret")
    assert journal.get("prekey/r-1/secret") is None
    assert journal.keys("") == ("prekey/r-1/message", "round/ab/m2")


def test_another_process_reads_it_only_with_the_key(journal: FileJournal, tmp_path: Path) -> None:
    journal.put("secret", b"private words")
    stored = b"".join(path.read_bytes() for path in (tmp_path / "journal").iterdir())
    assert b"private" not in stored
    assert FileJournal(tmp_path / "journal", KEY).get("secret") == b"private words"
    with pytest.raises(LocalProtocolError):
        FileJournal(tmp_path / "journal", bytes(32)).get("secret")


def test_files_are_the_owners_alone(journal: FileJournal, tmp_path: Path) -> None:
    journal.put("secret", b"x")
    (path,) = (tmp_path / "journal").iterdir()
    assert path.stat().st_mode & 0o077 == 0


def test_damaged_or_swapped_records_do_not_open(journal: FileJournal, tmp_path: Path) -> None:
    journal.put("one", b"1")
    journal.put("two", b"2")
    one, two = sorted((tmp_path / "journal").iterdir())
    one.write_bytes(two.read_bytes())
    with pytest.raises(LocalProtocolError, match="not the one"):
        journal.get("one")
    data = bytearray(two.read_bytes())
    data[-1] ^= 1
    two.write_bytes(data)
    with pytest.raises(LocalProtocolError, match="does not open"):
        journal.get("two")


@pytest.mark.parametrize("key", ["", "a\0b", "x" * 300])
def test_bad_keys_are_refused(journal: FileJournal, key: str) -> None:
    with pytest.raises(LocalProtocolError):
        journal.put(key, b"")


def test_keys_cannot_leave_the_folder(journal: FileJournal, tmp_path: Path) -> None:
    with pytest.raises(LocalProtocolError):
        journal.put("../outside", b"x")
    journal.put("a/../../outside", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]


def test_a_disk_that_refuses_keeps_the_old_value(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from mimo_fed.errors import InstallError\n"
        "from mimo_fed_client.journal import FileJournal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "journal = FileJournal(Path(sys.argv[1]), bytes(range(32)))\n"
        "journal.put('k', b'old')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    journal.put('k', bytes(100_000))\n"
        "except InstallError as error:\n"
        "    print(error.code, journal.get('k').decode())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True)
    assert done.stdout == b"install old\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_kill_leaves_the_last_value_that_was_put(tmp_path: Path) -> None:
    for pause_s in (0.02, 0.05):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(pause_s)
        process.kill()
        said = [int(line) for line in process.stdout.read().split()]
        process.wait()
        process.stdout.close()
        value = FileJournal(tmp_path, KEY).get("round/one/member")
        assert value is not None
        last = max(said, default=1)
        assert value in (str(last).encode() * 5000, str(last + 1).encode() * 5000)
        assert not list(tmp_path.glob("*.new"))


def test_state_key_is_made_once(tmp_path: Path) -> None:
    key = state_key(tmp_path / "state.key")
    assert key == state_key(tmp_path / "state.key")
    assert (tmp_path / "state.key").stat().st_mode & 0o077 == 0
    (tmp_path / "state.key").write_bytes(key[:31])
    with pytest.raises(ConfigError):
        state_key(tmp_path / "state.key")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_our_error(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path, KEY)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InstallError):
            journal.put("k", b"")
    finally:
        tmp_path.chmod(0o700)
