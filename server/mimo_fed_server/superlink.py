"""Flower's SuperLink, started the way this system needs it: on a file, and without running anything itself.

State is in a file, so that a killed SuperLink goes on where it was. Apps run in a process of the coordinator
(`--isolation process`), so that they outlive it. Nothing is installed when an app is submitted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mimo_fed.errors import ConfigError

ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


def flower_environment(home: Path) -> dict[str, str]:
    """Return the environment of Flower's processes: their own home, our programs, nothing downloaded."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return os.environ | ENVIRONMENT | {"FLWR_HOME": str(home), "PATH": path}


def flower_program(name: str) -> str:
    """Return the path of one of Flower's programs, from this environment.

    Raises:
        ConfigError: it is not installed.
    """
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise ConfigError(f"program is not installed: {name}", hint="pip install 'mimo-fed[server]'")
    return str(path)


def serve(home: Path, host: str, port: int, certificates: tuple[Path, Path, Path] | None = None) -> None:
    """Become the SuperLink; returns only if it cannot be started.

    Args:
        home: its database and Flower's own files.
        host: address to listen on; loopback or a private network: its control API has no users.
        port: one port for devices, coordinator and control.
        certificates: authority, certificate and key as PEM files; None: no TLS.
    """
    home.mkdir(parents=True, exist_ok=True)
    command = [flower_program("flower-superlink"), "--host", host, "--port", str(port)]
    command += ["--isolation", "process", "--database", str(home / "superlink.db")]
    command += ["--disable-runtime-dependency-installation"]
    if certificates is None:
        command += ["--insecure"]
    else:
        authority, certificate, key = (str(p) for p in certificates)
        command += ["--ssl-ca-certfile", authority, "--ssl-certfile", certificate, "--ssl-keyfile", key]
    os.execve(command[0], command, flower_environment(home))  # noqa: S606 a list, and a program of ours
