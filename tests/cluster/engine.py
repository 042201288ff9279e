"""A container engine for the tests, also where none runs and no image can be pulled.

On a machine with an engine it is used and left alone. As root on a bare Debian machine the engine, Compose
and a base image are made from Debian's own packages, and stopped again at the end.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

BASE_IMAGE = "python:3.11-slim-bookworm"
POSTGRES_IMAGE = "postgres:15-bookworm"
WHEELS_IMAGE = "mimo-fed-wheels"
ROOT = Path(__file__).parents[2]
INSTALLING = Lock()
APT = {"DEBIAN_FRONTEND": "noninteractive"}


class EngineUnavailable(Exception):
    """No engine runs here and none can be started; the message says why."""


def run(*command: str, timeout_s: float = 600, **environment: str) -> str:
    """Run a command; return its output, or raise with the end of it."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, env=os.environ | environment, check=False
    )
    if done.returncode:
        raise EngineUnavailable(f"{' '.join(command)[:200]}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def answers(*command: str) -> bool:
    """Whether the command runs and exits with 0."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class Engine:
    """The engine that tests use; `start` finds or makes one.

    Args:
        home: sockets, pids, logs, images and packages; a later start from the same folder is warm.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._daemon: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Make sure of an engine and Compose v2.

        Raises:
            EngineUnavailable: with the reason.
        """
        if not answers("docker", "info"):
            self._start_daemon()
        if not answers("docker", "compose", "version"):
            self._install_compose()

    def images(self) -> str:
        """Make sure of the base image, PostgreSQL and the packages; return the image that holds the latter.

        Raises:
            EngineUnavailable: with the reason.
        """
        with ThreadPoolExecutor() as pool:
            made = [pool.submit(make) for make in (self.base_image, self.postgres_image, self.wheels_image)]
            return str([one.result() for one in made][-1])

    def stop(self) -> None:
        """Stop the engine if `start` started it."""
        if self._daemon is None:
            return
        self._daemon.terminate()
        self._daemon.wait(60)
        self._daemon = None
        for command in (["ip", "link", "del", "docker0"], ["iptables", "-P", "FORWARD", "ACCEPT"]):
            subprocess.run(command, capture_output=True, check=False)

    def _start_daemon(self) -> None:
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise EngineUnavailable("no container engine runs, and this is not root on a Debian machine")
        packages("docker.io", "iptables")
        socket = self._home / "docker.sock"
        os.environ["DOCKER_HOST"] = f"unix://{socket}"
        with (self._home / "dockerd.log").open("wb") as log:
            self._daemon = subprocess.Popen(
                [
                    "dockerd",
                    f"--host=unix://{socket}",
                    f"--data-root={self._home / 'data'}",
                    f"--exec-root={self._home / 'exec'}",
                    f"--pidfile={self._home / 'dockerd.pid'}",
                    "--bip=10.201.0.1/24",
                    "--default-address-pool=base=10.202.0.0/16,size=24",
                ],
                stdout=log,
                stderr=log,
            )
        for _ in range(120):
            if answers("docker", "info"):
                return
            if self._daemon.poll() is not None:
                break
            time.sleep(0.25)
        tail = (self._home / "dockerd.log").read_text(errors="replace")[-500:]
        self.stop()
        raise EngineUnavailable(f"the engine does not start: {tail}")

    def _install_compose(self) -> None:
        """Take Compose v2 and buildx, two self-contained programs, out of the next Debian's packages."""
        config = self._home / "docker-config"
        os.environ["DOCKER_CONFIG"] = str(config)
        plugins = config / "cli-plugins"
        if not (plugins / "docker-compose").exists():
            plugins.mkdir(parents=True, exist_ok=True)
            for program in self._unpack("docker-compose", "docker-buildx").rglob("cli-plugins/docker-*"):
                shutil.copy2(program, plugins)
        if not answers("docker", "compose", "version"):
            raise EngineUnavailable("Compose v2 cannot be had on this machine")

    def _unpack(self, *names: str) -> Path:
        """Download packages of Debian 13 from the mirror this machine uses, and unpack them aside."""
        apt = self._home / "trixie"
        for folder in ("parts", "lists/partial", "cache/archives/partial", "debs", "root"):
            (apt / folder).mkdir(parents=True, exist_ok=True)
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        source = f"Types: deb\nURIs: {mirror()}\nSuites: trixie\nComponents: main\nSigned-By: {keyring}\n"
        (apt / "parts" / "trixie.sources").write_text(source)
        (apt / "apt.conf").write_text(
            'Dir::Etc::sourcelist "/dev/null";\n'
            f'Dir::Etc::sourceparts "{apt}/parts";\nDir::State::lists "{apt}/lists";\n'
            f'Dir::Cache "{apt}/cache";\nAPT::Sandbox::User "root";\n'
        )
        environment = APT | {"APT_CONFIG": str(apt / "apt.conf")}
        run("apt-get", "update", "-qq", **environment)
        run("sh", "-c", f"cd '{apt / 'debs'}' && apt-get download -qq {' '.join(names)}", **environment)
        for package in (apt / "debs").glob("*.deb"):
            run("dpkg-deb", "-x", str(package), str(apt / "root"))
        return apt / "root"

    def base_image(self) -> None:
        """Pull the official image, or make one of the same name: Debian 12 with its Python 3.11 and pip."""
        if answers("docker", "image", "inspect", BASE_IMAGE) or answers("docker", "pull", BASE_IMAGE):
            return
        archive = self._bootstrap("base", ["python3", "python3-venv", "python3-pip-whl"], PYTHON_HOOKS)
        load(archive, BASE_IMAGE, 'CMD ["python3"]')

    def postgres_image(self) -> None:
        """Pull PostgreSQL, or make an image of the same name that honours the same variables and volume."""
        if answers("docker", "image", "inspect", POSTGRES_IMAGE) or answers("docker", "pull", POSTGRES_IMAGE):
            return
        entry = Path(__file__).with_name("postgres-entrypoint.sh")
        data = 'chroot "$1" install -d -o postgres -g postgres -m 0700 /var/lib/postgresql/data'
        archive = self._bootstrap(
            "postgres", ["postgresql-15"], [f'copy-in "{entry}" /usr/local/bin', data], entry.read_bytes()
        )
        load(
            archive,
            POSTGRES_IMAGE,
            "ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin",
            "ENV PGDATA=/var/lib/postgresql/data",
            f'ENTRYPOINT ["sh", "/usr/local/bin/{entry.name}"]',
            "USER postgres",
        )

    def wheels_image(self) -> str:
        """Make an image of all packages that the others install, with this machine's pip; return its name.

        A build's containers may have no way to a package index; the machine that runs the tests has one. With
        another Python than the images' there is no such image, and builds go to the index: `scratch`.
        """
        if sys.version_info[:2] != (3, 11):
            return "scratch"
        lock = (ROOT / "requirements.lock").read_bytes()
        torch = next(
            line.removeprefix("TORCH = ")
            for line in (ROOT / "Makefile").read_text().splitlines()
            if line.startswith("TORCH = ")
        )
        wanted = hashlib.sha256(lock + torch.encode() + sys.version.encode()).hexdigest()[:12]
        name = f"{WHEELS_IMAGE}:{wanted}"
        if answers("docker", "image", "inspect", name):
            return name
        wheels = self._home / "wheels" / wanted
        if not wheels.exists():
            download(torch, unfinished := wheels.with_suffix(".part"))
            unfinished.rename(wheels)
        archive = wheels.with_suffix(".tar")
        run("tar", "-cf", str(archive), "-C", str(wheels), ".")
        load(archive, name)
        archive.unlink()
        return name

    def _bootstrap(self, name: str, include: list[str], hooks: list[str], more: bytes = b"") -> Path:
        """Make a root file system, or return the one that an earlier run made in the same way."""
        recipe = hashlib.sha256(repr((include, hooks)).encode() + more).hexdigest()[:12]
        archive = self._home / f"{name}-{recipe}.tar"
        if not archive.exists():
            packages("mmdebstrap")
            bootstrap(archive, include, hooks)
        return archive


PYTHON_HOOKS = [
    'rm -f "$1"/usr/lib/python3.11/EXTERNALLY-MANAGED',
    'for n in python python3; do ln -sf ../../bin/python3.11 "$1"/usr/local/bin/$n; done',
    'chroot "$1" sh -c \'w=$(echo /usr/share/python-wheels/pip-*.whl);'
    " PYTHONPATH=$w python3 -m pip install -q --no-index --root-user-action=ignore $w'",
]


def packages(*names: str) -> None:
    """Install the Debian packages that are missing."""
    with INSTALLING:
        missing = [n for n in names if not answers("dpkg", "-s", n)]
        if missing:
            run("apt-get", "update", "-qq", **APT)
            run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, **APT)


def download(torch: str, folder: Path) -> None:
    """Download the packages of the lock, and torch with what it needs, for this interpreter."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = str(ROOT / "requirements.lock")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "-d", str(folder)]
    run(*pip, "--no-deps", "-r", lock)
    index = os.environ.get("TORCH_INDEX")
    run(*pip, *(["--index-url", index] if index else []), "-c", lock, torch)


def mirror() -> str:
    """Return the Debian mirror that this machine uses."""
    for path in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        for line in path.read_text().splitlines() if path.exists() else ():
            words = line.split()
            if words[:1] in (["URIs:"], ["deb"]):
                return next(w for w in words if "://" in w)
    raise EngineUnavailable("this machine names no Debian mirror")


def bootstrap(archive: Path, include: list[str], hooks: list[str]) -> None:
    """Make the root file system of an image from Debian 12's packages alone."""
    sources = next(
        p for p in ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list") if Path(p).exists()
    )
    unfinished = archive.with_suffix(".part")
    run(
        "mmdebstrap",
        "--quiet",
        "--format=tar",
        "--variant=minbase",
        f"--include=ca-certificates,{','.join(include)}",
        "--aptopt=Apt::Install-Recommends false",
        "--aptopt=Acquire::Languages none",
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        *(f"--customize-hook={hook}" for hook in hooks),
        "bookworm",
        str(unfinished),
        sources,
    )
    unfinished.rename(archive)


def load(archive: Path, name: str, *changes: str) -> None:
    """Import a root file system as an image."""
    given = [c for change in changes for c in ("--change", change)]
    run("docker", "import", "--change", "ENV LANG=C.UTF-8", *given, str(archive), name)
