"""What the figures were taken on: the processor, how much of it, and the versions of what was timed."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Final

from mimo_fed.page.versions import versions_of

PACKAGES: Final = (
    "mimo-fed",
    "numpy",
    "numba",
    "torch",
    "transformers",
    "peft",
    "cryptography",
    "flwr",
    "tenseal",
)


def describe_machine() -> dict[str, Any]:
    """Name the processor, its cores, the memory and the load; nothing that names the host."""
    return {
        "processor": processor(Path("/proc/cpuinfo")),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def describe_versions() -> dict[str, str]:
    """Return the version of Python and of each package that is installed."""
    return versions_of(PACKAGES)


def processor(cpuinfo: Path) -> str:
    """Read the processor's name where Linux keeps it; elsewhere, what Python knows."""
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
