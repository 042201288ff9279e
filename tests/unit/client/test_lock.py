import os
import subprocess
import sys
from pathlib import Path

import pytest

from mimo_fed.errors import ConfigError
from mimo_fed_client.lock import only_agent, running_agent

HOLDER = """
import sys, time
from pathlib import Path
from mimo_fed_client.lock import only_agent
with only_agent(Path(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(60)
"""


def test_a_second_agent_is_told_who_runs(tmp_path: Path) -> None:
    assert running_agent(tmp_path) is None
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(ConfigError, match=f"process {process.pid}"), only_agent(tmp_path):
        pass
    assert running_agent(tmp_path) == process.pid
    process.kill()
    process.wait()
    process.stdout.close()
    assert running_agent(tmp_path) is None
    tmp_path.chmod(0o755)
    with only_agent(tmp_path):
        assert running_agent(tmp_path) == os.getpid()
        assert tmp_path.stat().st_mode & 0o077 == 0
    assert running_agent(tmp_path) is None
