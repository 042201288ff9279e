import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mimo_fed.bench.upload import BaseShape, run
from mimo_fed.cli import build_app
from mimo_fed.config import ScheduleConfig
from mimo_fed.errors import ConfigError

RANK, LAYERS = 16, 36
SIDES = {  # (out, inp) of q, k, v, o; gate, up, down
    "attention": [(4096, 4096), (1024, 4096), (1024, 4096), (4096, 4096)],
    "mlp": [(11008, 4096), (11008, 4096), (4096, 11008)],
}


@pytest.mark.parametrize("target", ["all", "attention"])
def test_floats_follow_from_the_sizes_of_the_base(target: str) -> None:
    sides = SIDES["attention"] + (SIDES["mlp"] if target == "all" else [])
    out, inp = (RANK * LAYERS * sum(side[i] for side in sides) for i in (0, 1))
    core = RANK * RANK * LAYERS * len(sides)
    found = run(BaseShape(), ScheduleConfig())["uploads"][target]
    assert {name: entry["floats_per_round"] for name, entry in found.items()} == {
        "fedit": out + inp,
        "b": out,
        "default": (out + inp) / 2,
        "spare": (out + inp + 6 * core) / 8,
        "m": core,
        "sketch": (out + inp) * 20 // 16,
    }


def test_the_spare_cycle_uploads_a_quarter_of_the_default() -> None:
    found = run(BaseShape(), ScheduleConfig())["uploads"]["all"]
    assert found["spare"]["floats_per_round"] == pytest.approx(5.23e6, rel=1e-3)
    assert found["default"]["floats_per_round"] == pytest.approx(20.7e6, rel=1e-2)
    assert found["fedit"]["floats_per_round"] == pytest.approx(41.4e6, rel=1e-3)


def test_bytes_are_the_floats_words_and_what_padding_and_statistics_add() -> None:
    for entry in run(BaseShape(), ScheduleConfig())["uploads"]["all"].values():
        small, large = (entry["bytes_per_round"][bits] for bits in ("16", "24"))
        assert large == pytest.approx(1.5 * small)
        assert 2 * entry["floats_per_round"] < small < 2 * entry["floats_per_round"] + 30_000


def test_another_base_is_read_from_its_config(tmp_path: Path) -> None:
    raw = {
        "hidden_size": 64,
        "intermediate_size": 176,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "model_type": "mimo",
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(raw))
    assert BaseShape.from_config(path) == BaseShape(
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    )
    path.write_text(json.dumps({"hidden_size": 64}))
    with pytest.raises(ConfigError, match=r"config\.json"):
        BaseShape.from_config(path)


def test_the_command_prints_tables_and_a_document() -> None:
    runner = CliRunner()
    said = runner.invoke(build_app(), ["bench", "upload", "--json", "--cycle", "BAMM", "--rank", "8"])
    document = json.loads(said.stdout)
    assert (document["rank"], document["uploads"]["all"]["default"]["cycle"]) == (8, "BAMM")
    assert "default cycle" in runner.invoke(build_app(), ["bench", "upload"]).stdout
