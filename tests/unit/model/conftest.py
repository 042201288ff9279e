from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mimo_fed.adapter import AdapterSpec
from mimo_fed.config import AdapterConfig, TrainConfig
from mimo_fed.model import Base, DeviceModel, load_base


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Base]:
    patch = pytest.MonkeyPatch()
    patch.setenv("MIMO_FED_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield load_base("mimo-nano")
    patch.undo()


@pytest.fixture(scope="session")
def spec(nano: Base) -> AdapterSpec:
    config = AdapterConfig()
    return AdapterSpec(base_fingerprint=nano.fingerprint, modules=nano.modules(config.targets), config=config)


@pytest.fixture
def device(nano: Base, spec: AdapterSpec) -> DeviceModel:
    return DeviceModel(nano, spec)


@pytest.fixture(scope="session")
def config() -> TrainConfig:
    return TrainConfig(num_steps=6, num_personal_steps=8, batch_size=2, seq_len=48, learning_rate=3e-3)


@pytest.fixture(scope="session")
def texts() -> tuple[str, ...]:
    return tuple(
        f"The tram number {n} to {place} leaves at {n} past nine, and the driver is called Zorblax."
        for n in range(5)
        for place in ("Brera", "Lambrate", "the harbour")
    )


@pytest.fixture
def nano_folder(tmp_path: Path) -> Path:
    """A copy of mimo-nano to damage."""
    import shutil

    from mimo_fed.model.base import NANO

    return Path(shutil.copytree(NANO, tmp_path / "model"))
