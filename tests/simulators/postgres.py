"""A PostgreSQL of our own for one test run: a fresh cluster in a folder, on a socket, gone afterwards."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote


class Absent(Exception):
    """There is no PostgreSQL here, or it cannot be run."""


@contextmanager
def postgres() -> Iterator[str]:
    """Start a cluster; gives its database URL. PostgreSQL never runs as root, so root runs it as `postgres`.

    Raises:
        Absent: with the reason.
    """
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: float(Path(p).parent.name))
    binaries = found[-1] if found else os.path.dirname(shutil.which("initdb") or "")
    if not binaries:
        raise Absent("no PostgreSQL is installed")
    prefix: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="mf-pg-", dir="/tmp"))
    if os.geteuid() == 0:
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            shutil.rmtree(folder)
            raise Absent("PostgreSQL does not run as root, and there is no account `postgres`") from None
        os.chown(folder, account.pw_uid, account.pw_gid)
        prefix = ["runuser", "-u", "postgres", "--"]
    data, server = folder / "data", None
    try:
        made = subprocess.run(
            [*prefix, f"{binaries}/initdb", "-D", str(data), "-U", "mimo", "-A", "trust", "-N", "-E", "UTF8"],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        if made.returncode != 0:
            raise Absent(f"initdb failed: {made.stderr.strip()[-300:]}")
        settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", f"unix_socket_directories={folder}"]
        server = subprocess.Popen(
            [*prefix, f"{binaries}/postgres", "-D", str(data), *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        _wait([*prefix, f"{binaries}/pg_isready", "-q", "-h", str(folder)], server)
        yield f"postgresql+psycopg://mimo@/postgres?host={quote(str(folder), safe='')}"
    finally:
        if server is not None:
            stop = [*prefix, f"{binaries}/pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop"]
            subprocess.run(stop, capture_output=True, check=False, cwd="/")
            server.wait(timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(probe: list[str], server: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + 30
    while subprocess.run(probe, capture_output=True, check=False, cwd="/").returncode != 0:
        if server.poll() is not None or time.monotonic() > give_up_at:
            raise Absent("PostgreSQL did not start")
        time.sleep(0.05)
