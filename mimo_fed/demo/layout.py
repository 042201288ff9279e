"""Where everything of one run lies, and the settings files of its processes."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mimo_fed.config import PrivacyConfig, RoundConfig, SecureSumConfig, TrainConfig
from mimo_fed.data import DemoDevice
from mimo_fed.demo.processes import end_leftovers
from mimo_fed.demo.toml import to_toml
from mimo_fed.errors import ConfigError
from mimo_fed.secagg import HELPER_SIZES

HOST = "127.0.0.1"
N_MIN = 3
"""test-only: the last shell has four devices, one of which may drop out"""

CLIP_NORM = 12.0
"""updates of these settings measured 4 to 10 in L2, by rank; the report says how many were clipped"""

LAST_PERSONAL_STEPS = 3
"""steps on the personal adapter after the last release"""

TRAIN = TrainConfig(
    num_steps=3, num_personal_steps=1, learning_rate=3e-3, personal_learning_rate=2e-3, personal_rank=8
)
"""minutes on two cores: few steps, so a high rate (docs/log.md)"""


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What a person chooses.

    Attributes:
        rounds: training rounds; each is followed by a round in which the devices judge the result.
        base: `mimo-smol`, `mimo-nano` or a folder.
        devices: how many of the demo's eight.
        helpers: organisations that open the sums; 0: the devices do.
        runs: the folder that holds runs.
        deadline_s: of one round.
        test_plaintext: devices and coordinator write what they seal and open into `plaintext/`, for a test.
        test_stock_node: the device of this name runs behind Flower's own SuperNode, for a test.
    """

    name: str = "demo"
    rounds: int = 3
    base: str = "mimo-smol"
    devices: int = 8
    helpers: int = 0
    runs: Path = Path("runs")
    deadline_s: float = 600.0
    test_plaintext: bool = False
    test_stock_node: str = ""

    def __post_init__(self) -> None:
        if not self.name or not all(c.isalnum() or c in "-_" for c in self.name):
            raise ConfigError(f"name of a run may have letters, digits, - and _ only: {self.name!r}")
        if self.rounds < 1:
            raise ConfigError(f"a run has at least one round: {self.rounds}")
        if not N_MIN <= self.devices <= 8:
            raise ConfigError(f"the demo has {N_MIN} to 8 devices: {self.devices}")
        if self.helpers not in (0, *HELPER_SIZES):
            raise ConfigError(f"no committee has this many helpers: {self.helpers}", hint="3, 5, 7, or none")

    @property
    def round(self) -> RoundConfig:
        """Settings of a training round."""
        return RoundConfig(
            n_min=N_MIN,
            n_max=max(8, self.devices),
            deadline_s=self.deadline_s,
            train=TRAIN,
            privacy=PrivacyConfig(clip_norm=CLIP_NORM, weight_max=4),
            secure_sum=SecureSumConfig(committee="helper" if self.helpers else "all"),
        )

    @property
    def helper_names(self) -> tuple[str, ...]:
        """Ids of the helper organisations."""
        return tuple(f"helper-{i + 1}" for i in range(self.helpers))


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Ports of this host that were free when the run began."""

    authority: int
    registry: int
    superlink: int

    @property
    def registry_url(self) -> str:
        """Where the registry answers."""
        return f"http://{HOST}:{self.registry}"

    @property
    def authority_url(self) -> str:
        """Where the enrolment authority answers."""
        return f"http://{HOST}:{self.authority}"


class Layout:
    """Paths of one run. Nothing is made until `create`."""

    def __init__(self, runs: Path, name: str) -> None:
        self.root = (runs / name).resolve()
        self.logs = self.root / "logs"
        self.authority = self.root / "authority"
        self.registry = self.root / "registry"
        self.superlink = self.root / "superlink"
        self.coordinator = self.root / "coordinator"
        self.spec = self.root / "spec.json"
        self.report = self.root / "report.json"
        self.page = self.root / "report.html"
        self.rounds = self.root / "rounds.json"
        self.plaintext = self.root / "plaintext"
        self._marker = self.root / "run.json"

    def device(self, name: str) -> Path:
        """Return the home of a device's agent."""
        return self.root / "devices" / name

    def helper(self, name: str) -> Path:
        """Return the home of a helper organisation."""
        return self.root / "helpers" / name

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self.logs / f"{name}.log"

    def create(self, settings: DemoSettings) -> None:
        """Make the folders; an earlier run of this name goes away first.

        Raises:
            ConfigError: the folder holds something that is not a run of the demo.
        """
        if self.root.exists() and any(self.root.iterdir()):
            if not self._marker.exists():
                raise ConfigError(
                    f"folder is not a run of the demo: {self.root}", hint="choose another --name"
                )
            end_leftovers(self.root)
            shutil.rmtree(self.root)
        self.root.mkdir(parents=True, exist_ok=True)
        self._marker.write_text(json.dumps({**asdict(settings), "runs": str(settings.runs)}) + "\n")
        for folder in (self.logs, self.superlink, self.coordinator):
            folder.mkdir()


def coordinator_table(layout: Layout, settings: DemoSettings, ports: Ports) -> dict[str, Any]:
    """Return the coordinator's settings."""
    return {
        "home": str(layout.coordinator),
        "key_file": str(layout.coordinator / "key"),
        "anchors_file": str(layout.registry / "anchors.json"),
        "spec_file": str(layout.spec),
        "registry_url": ports.registry_url,
        "registry_token_file": str(layout.registry / "admin-token"),
        "superlink": f"{HOST}:{ports.superlink}",
        "rounds": settings.rounds,
        "min_devices": settings.devices,
        "test_plaintext": str(layout.plaintext) if settings.test_plaintext else None,
        "round": asdict(settings.round),
    }


def agent_table(layout: Layout, settings: DemoSettings, ports: Ports, device: DemoDevice) -> dict[str, Any]:
    """Return the settings of one device's agent."""
    home = layout.device(device.name)
    return {
        "home": str(home),
        "device_id": device.name,
        "device_class": device.device_class,
        "rank": device.rank,
        "base": settings.base,
        "corpus": str(home / "corpus.jsonl"),
        "superlink": f"{HOST}:{ports.superlink}",
        "registry_url": ports.registry_url,
        "root_file": str(layout.registry / "root.json"),
        "authority_url": ports.authority_url,
        "token_file": str(home / "token"),
        "compute_slots": os.cpu_count() or 1,
        "compute_dir": str(layout.root / "compute"),
        "precision": "fast",
        "install": {"personal_steps": LAST_PERSONAL_STEPS},
        "policy": {"n_min_floor": settings.round.n_min, "clip_norm_max": CLIP_NORM},
    }


def helper_table(layout: Layout, settings: DemoSettings, ports: Ports, name: str) -> dict[str, Any]:
    """Return the settings of one helper organisation's service."""
    home = layout.helper(name)
    return {
        "helper_id": name,
        "home": str(home),
        "superlink": f"{HOST}:{ports.superlink}",
        "registry_url": ports.registry_url,
        "root_file": str(layout.registry / "root.json"),
        "authority_url": ports.authority_url,
        "token_file": str(home / "token"),
        "poll_s": 5.0,
        "policy": {"n_min_floor": settings.round.n_min},
    }


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


def write_settings(path: Path, table: dict[str, Any]) -> None:
    """Write a settings file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_toml(table))
