import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.adapter.cli import describe
from mimo_fed.cli import build_app
from mimo_fed.errors import ConfigError
from tests.unit.adapter.test_release import filled
from tests.unit.adapter.test_spec import make

SPEC = make()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "spec.json").write_bytes(SPEC.to_json())
    (tmp_path / "a.safetensors").write_bytes(filled(SPEC).to_safetensors())
    return tmp_path


def call(*args: object) -> str:
    result = CliRunner().invoke(build_app(), ["adapter", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_there_and_back_it_computes_the_same(folder: Path) -> None:
    spec = ("--spec", folder / "spec.json")
    call("export", folder / "a.safetensors", *spec, "--out", folder / "lora")
    said = json.loads(call("import", folder / "lora", *spec, "--out", folder / "b.safetensors", "--json"))
    back = GlobalAdapter.from_safetensors((folder / "b.safetensors").read_bytes(), SPEC)
    assert said["digest"] == back.digest()
    for name, (lora_b, lora_a) in filled(SPEC).lora().items():
        other_b, other_a = back.lora()[name]
        whole = lora_b.astype(np.float64) @ lora_a
        np.testing.assert_allclose(
            other_b.astype(np.float64) @ other_a, whole, atol=1e-5 * np.abs(whole).max()
        )


def test_what_an_adapter_is(folder: Path) -> None:
    args = ("show", folder / "a.safetensors", "--spec", folder / "spec.json")
    said = json.loads(call(*args, "--json"))
    square = sum(float(np.square(b.astype(np.float64) @ a).sum()) for b, a in filled(SPEC).lora().values())
    assert said["norm"] == pytest.approx(square**0.5, rel=1e-5)
    assert sum(said["energy"].values()) == pytest.approx(1)
    assert list(said["energy"]) == [shell.name for shell in SPEC.shells]
    assert said["digest"] in call(*args)
    assert describe(GlobalAdapter.zero(SPEC))["norm"] == 0


@pytest.mark.parametrize(
    "change", [{"lora_alpha": 32}, {"r": 8}, {"use_rslora": True}, {"bias": "all"}, {"peft_type": "IA3"}]
)
def test_a_lora_that_computes_something_else_is_refused(folder: Path, change: dict[str, object]) -> None:
    call("export", folder / "a.safetensors", "--spec", folder / "spec.json", "--out", folder / "lora")
    path = folder / "lora" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match="something else"):
        call("import", folder / "lora", "--spec", folder / "spec.json", "--out", folder / "b")


def test_missing_files_are_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        call("show", folder / "nowhere", "--spec", folder / "spec.json")
    with pytest.raises(ConfigError, match="adapter_config"):
        call("import", folder, "--spec", folder / "spec.json", "--out", folder / "b")
