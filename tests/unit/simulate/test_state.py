"""The folder of a simulation: what is damaged is said in words, and nobody else's files are touched."""

from pathlib import Path

import numpy as np
import pytest

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, Module
from mimo_fed.aggregate import ServerState
from mimo_fed.config import AdapterConfig
from mimo_fed.errors import DataError
from mimo_fed.model.stack import Personal
from mimo_fed.simulate.state import Learner, State, StateFolder

SPEC = AdapterSpec(
    base_fingerprint="00" * 32,
    modules=(Module("model.layers.0.mlp.up_proj", 6, 5),),
    config=AdapterConfig(rank=4, shells=(4,)),
)


def state_of(seed: int) -> State:
    draw = np.random.default_rng(seed)
    name = SPEC.modules[0].name
    pair = (draw.normal(size=(6, 2)).astype(np.float32), draw.normal(size=(2, 5)).astype(np.float32))
    adapter = GlobalAdapter.zero(SPEC).with_values("M", {f"{name}.M": draw.normal(size=(4, 4))})
    return State(
        learners={"": Learner(adapter, ServerState.empty("M"))},
        choices={"phone": ""},
        personals={"phone": Personal(factors={name: pair}, scale=0.5)},
    )


def test_files_of_others_in_the_folder_stay(tmp_path: Path) -> None:
    other = [tmp_path / "model.safetensors", tmp_path / "adapter.safetensors"]
    for path in other:
        path.write_bytes(b"not ours")
    folder = StateFolder(tmp_path, "settings")
    folder.save(state_of(1))
    first = set(tmp_path.glob("*.safetensors")) - set(other)
    folder.save(state_of(2))
    assert not any(path.exists() for path in first if path.name.startswith(("adapter-", "personal-")))
    folder.clear()
    assert set(tmp_path.iterdir()) == set(other)


def test_a_damaged_personal_adapter_is_said_in_words(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path, "settings")
    folder.save(state_of(1))
    (path,) = tmp_path.glob("personal-*")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="damaged"):
        StateFolder(tmp_path, "settings").load({"": SPEC})
