"""The set-up of `docker-compose.yml`: what people do once on the machines of a fleet, by the same commands.

It runs to its end before the services start. Each service has a volume of its own, mounted here under one
folder and there alone: no device gets to another's text, and none to the coordinator's key. Run again, it
leaves alone what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from mimo_fed.config import RoundConfig, SecureSumConfig
from mimo_fed.data import DemoDevice, load_demo, write_corpus
from mimo_fed.demo.layout import write_secret, write_settings
from mimo_fed.errors import ConfigError

HOME = "/var/lib/mimo-fed"
"""where a service finds its volume"""
SUPERLINK = "superlink:8092"
GATE = "gate:8093"
REGISTRY = "http://registry:8090"
AUTHORITY = "http://authority:8091"
DATABASE = "postgresql+psycopg://mimo_fed:{password}@postgres:5432/registry"
N_MIN = 3
"""test-only: as many as the file has devices, so that sums open at all"""
HELPERS = ("helper-1", "helper-2", "helper-3")
RANK = 8
"""of all three: a sum of one device's shell alone would never be opened"""


def make_password(folder: Path) -> None:
    """Make the database's password, for the two services that mount the folder."""
    file = folder / "password"
    if not file.exists():
        part = folder / "password.part"
        part.write_text(secrets.token_urlsafe(24))
        part.chmod(0o444)
        part.replace(file)


class Setup:
    """Makes everything that the services read.

    Args:
        volumes: folder under which the services' volumes are mounted.
        base: `mimo-nano` or `mimo-smol`.
        rounds: train rounds that the coordinator is to run.
        num_devices: how many of the demo's devices take part.
        committee: `all`, or `helper`: three organisations open the sums.
    """

    def __init__(
        self, volumes: Path, *, base: str, rounds: int, num_devices: int, committee: Literal["all", "helper"]
    ) -> None:
        self._committee = committee
        self._volumes, self._base, self._rounds = volumes, base, rounds
        self._authority, self._registry = volumes / "authority", volumes / "registry"
        self._coordinator, self._superlink = volumes / "coordinator", volumes / "superlink"
        self._gate = volumes / "gate"
        self._spec = volumes / "shape" / "spec.json"
        self._num_devices = num_devices

    def run(self) -> None:
        """Do what is not done yet.

        Raises:
            ConfigError: a step failed; the message ends with what it said.
        """
        if not (self._authority / "public-key").exists():
            _mimo_fed("authority", "init", "--home", str(self._authority))
        if not (self._registry / "root.json").exists():
            self._make_registry()
        if not (self._gate / "cert.pem").exists():
            hosts = {SUPERLINK: self._superlink, GATE: self._gate}
            make_certificates({address.partition(":")[0]: folder for address, folder in hosts.items()})
        print(_mimo_fed("registry", "seed", "--home", str(self._registry), "--spec", str(self._spec)))
        if self._committee == "helper":
            self._pin_helpers()
        self._write_coordinator()
        for number, device in enumerate(load_demo()[: self._num_devices], start=1):
            home = self._volumes / f"device-{number}"
            if not (home / "agent.toml").exists():
                self._write_device(home, device)
        print(f"{self._num_devices} devices of rank {RANK} on {self._base}; TEST ONLY: n_min={N_MIN}")

    def _make_registry(self) -> None:
        key_file = self._coordinator / "key"
        key_file.unlink(missing_ok=True)
        coordinator_key = _mimo_fed("coordinator", "init", "--key-file", str(key_file))
        password = (self._volumes / "secret" / "password").read_text()
        _mimo_fed(
            *("registry", "init", "--home", str(self._registry)),
            *("--coordinator-key", coordinator_key),
            *("--authority-key", (self._authority / "public-key").read_text().strip()),
            MIMO_FED_DATABASE=DATABASE.format(password=password),
        )

    def _pin_helpers(self) -> None:
        """Give each helper its settings, key and token, and have the fleet's offline role pin all keys."""
        keys = []
        for name in HELPERS:
            home = self._volumes / name
            if not (home / "helper.toml").exists():
                self._write_helper(home)
            # in its own container the same folder is mounted as HOME
            settings = (home / "helper.toml").read_text().replace(HOME, str(home))
            (home / "setup.toml").write_text(settings)
            keys.append(_mimo_fed("helper", "init", "--config", str(home / "setup.toml")))
            (home / "setup.toml").unlink()
        print(_mimo_fed("registry", "pin-helper", "--home", str(self._registry), *keys))

    def _admit(self, home: Path) -> None:
        """Give a device or helper the pinned root, the gate's authority, and a token to enrol with once."""
        shutil.copy(self._registry / "root.json", home / "root.json")
        shutil.copy(self._gate / "ca.pem", home / "ca.pem")
        token = _mimo_fed("authority", "token", "--home", str(self._authority), "--device", home.name)
        write_secret(home / "token", token)

    def _write_helper(self, home: Path) -> None:
        self._admit(home)
        write_settings(
            home / "helper.toml",
            {
                "helper_id": home.name,
                "home": f"{HOME}/home",
                "superlink": GATE,
                "root_certificates": f"{HOME}/ca.pem",
                "registry_url": REGISTRY,
                "root_file": f"{HOME}/root.json",
                "authority_url": AUTHORITY,
                "token_file": f"{HOME}/token",
                "poll_s": 5.0,
                "policy": {"n_min_floor": N_MIN},
            },
        )

    def _write_coordinator(self) -> None:
        shutil.copy(self._spec, self._coordinator / "spec.json")
        shutil.copy(self._registry / "anchors.json", self._coordinator / "anchors.json")
        shutil.copy(self._superlink / "ca.pem", self._coordinator / "ca.pem")
        write_secret(self._coordinator / "registry-token", (self._registry / "admin-token").read_text())
        write_settings(self._coordinator / "coordinator.toml", self._coordinator_table())

    def _coordinator_table(self) -> dict[str, Any]:
        return {
            "home": f"{HOME}/home",
            "key_file": f"{HOME}/key",
            "anchors_file": f"{HOME}/anchors.json",
            "spec_file": f"{HOME}/spec.json",
            "registry_url": REGISTRY,
            "registry_token_file": f"{HOME}/registry-token",
            "superlink": SUPERLINK,
            "root_certificates": f"{HOME}/ca.pem",
            "rounds": self._rounds,
            "min_devices": self._num_devices,
            "round": asdict(
                RoundConfig(
                    n_min=N_MIN,
                    n_max=max(8, self._num_devices),
                    secure_sum=SecureSumConfig(committee=self._committee),
                )
            ),
        }

    def _write_device(self, home: Path, device: DemoDevice) -> None:
        """Give a device its text, its way in, and its settings."""
        write_corpus(home / "corpus.jsonl", device.texts)
        self._admit(home)
        write_settings(
            home / "agent.toml",
            {
                "home": f"{HOME}/agent",
                "device_id": home.name,
                "device_class": device.device_class,
                "rank": RANK,
                "base": self._base,
                "corpus": f"{HOME}/corpus.jsonl",
                "superlink": GATE,
                "root_certificates": f"{HOME}/ca.pem",
                "registry_url": REGISTRY,
                "root_file": f"{HOME}/root.json",
                "authority_url": AUTHORITY,
                "token_file": f"{HOME}/token",
                "policy": {"n_min_floor": N_MIN},
            },
        )


def chosen_committee() -> Literal["all", "helper"]:
    """Return what COMMITTEE in the environment says; nothing is `all`.

    Raises:
        ConfigError: it is another word; the sums would be opened by others than was meant.
    """
    chosen = os.environ.get("COMMITTEE") or "all"
    if chosen == "all":
        return "all"
    if chosen == "helper":
        return "helper"
    raise ConfigError(f"COMMITTEE is neither all nor helper: {chosen!r}")


def make_certificates(folders: Mapping[str, Path]) -> None:
    """Make a TLS key and certificate for each host, under a private authority whose key is not kept.

    Args:
        folders: by host; each gets `ca.pem`, `cert.pem` and `key.pem`.

    Raises:
        ConfigError: OpenSSL's program failed.
    """
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    request += ["-days", "365"]
    with tempfile.TemporaryDirectory() as aside:
        authority = (f"{aside}/ca.pem", f"{aside}/ca.key")
        _call(
            *(*request, "-subj", "/CN=MiMo-Fed test fleet", "-out", authority[0], "-keyout", authority[1]),
            *("-addext", "keyUsage=critical,keyCertSign"),
        )
        for host, folder in folders.items():
            shutil.copy(authority[0], folder / "ca.pem")
            _call(
                *(*request, "-CA", authority[0], "-CAkey", authority[1], "-subj", f"/CN={host}"),
                *("-out", f"{folder}/cert.pem", "-keyout", f"{folder}/key.pem"),
                *("-addext", f"subjectAltName=DNS:{host},DNS:localhost"),
                *("-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth"),
            )


def _mimo_fed(*arguments: str, **variables: str) -> str:
    """Run one of our commands and return what it prints.

    Raises:
        ConfigError: it failed.
    """
    return _call(sys.executable, "-m", "mimo_fed.cli", *arguments, **variables)


def _call(*command: str, **variables: str) -> str:
    """Run a program and return what it prints.

    Raises:
        ConfigError: it failed.
    """
    done = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode:
        raise ConfigError(f"{' '.join(command[:5])} failed: {(done.stdout + done.stderr).strip()[-1000:]}")
    return done.stdout.strip()


def main() -> None:
    """Read the arguments and set up."""
    parser = argparse.ArgumentParser(prog="python -m mimo_fed.demo.compose", description=__doc__)
    parser.add_argument("part", choices=("secret", "fleet"))
    parser.add_argument("--volumes", type=Path, default=Path("/setup"))
    parser.add_argument("--base", default="mimo-nano")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--devices", type=int, default=3)
    arguments = parser.parse_args()
    try:
        if arguments.part == "secret":
            make_password(arguments.volumes / "secret")
            return
        Setup(
            arguments.volumes,
            base=arguments.base,
            rounds=arguments.rounds,
            num_devices=arguments.devices,
            committee=chosen_committee(),
        ).run()
    except ConfigError as error:
        sys.exit(json.dumps(error.message))


if __name__ == "__main__":
    main()
