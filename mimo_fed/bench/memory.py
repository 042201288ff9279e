"""How much memory a piece of work takes at its peak: alone in a process, less what that held before."""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mimo_fed.errors import LocalProtocolError

_PROCESS = Path("/proc/self")


def peak_bytes() -> int:
    """Return the most memory that this process has held so far.

    Linux hands `ru_maxrss` down from the parent of a process; what the kernel says of the address space
    itself does not have that fault, so it is asked first.
    """
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def raised_by(work: Callable[[], object]) -> int:
    """Do the work; return how far above the memory held before it the peak was, bytes.

    Where the kernel cannot forget the peak of what was done before, that may hide a part of it.
    """
    with contextlib.suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")  # the peak becomes what is held now
    before = _status("VmRSS") or peak_bytes()
    work()
    return peak_bytes() - before


def in_child(module: str, *arguments: object) -> Any:
    """Run a module as a program of its own; return the JSON that it prints.

    Raises:
        LocalProtocolError: the program failed.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise LocalProtocolError(f"a measurement in a process of its own failed: {last}")
    return json.loads(done.stdout)


def _status(field: str) -> int:
    """Read a field of the process's status on Linux, bytes; 0 elsewhere."""
    with contextlib.suppress(OSError):
        for line in (_PROCESS / "status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0
