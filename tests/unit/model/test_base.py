from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mimo_fed.adapter import Module
from mimo_fed.config import TARGETS
from mimo_fed.errors import ConfigError, DataError
from mimo_fed.model import Base, load_base
from mimo_fed.model.fingerprint import fingerprint


def split_in_two(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, folder / shard, metadata={"format": "pt"})
    weight_map = {name: shard for shard, members in shards.items() for name in members}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )


def test_targets_are_the_decoder_linears_and_never_the_mtp_layers(nano: Base) -> None:
    modules = nano.modules(TARGETS)
    assert len(modules) == 2 * 7
    assert Module("model.layers.0.self_attn.k_proj", 32, 64) in modules
    assert Module("model.layers.1.mlp.down_proj", 64, 176) in modules
    assert not [module for module in modules if "mtp" in module.name]
    assert [name for name, _ in nano.model.named_parameters() if name.startswith("model.mtp_layers.0.")]


def test_targets_that_match_nothing_are_refused(nano: Base) -> None:
    with pytest.raises(ConfigError, match="no linear layer"):
        nano.modules("transformer\\.h.*")
    with pytest.raises(ConfigError, match="wrong"):
        nano.modules("(")


def test_fingerprint_ignores_sharding_and_settings_that_compute_nothing(
    nano: Base, nano_folder: Path, tmp_path: Path
) -> None:
    assert fingerprint(nano_folder, tmp_path) == nano.fingerprint
    split_in_two(nano_folder)
    config = json.loads((nano_folder / "config.json").read_text())
    config |= {"transformers_version": "9", "auto_map": {"AutoConfig": "evil.Evil"}}
    (nano_folder / "config.json").write_text(json.dumps(config))
    assert fingerprint(nano_folder, tmp_path) == nano.fingerprint
    assert load_base(str(nano_folder)).fingerprint == nano.fingerprint


@pytest.mark.parametrize("what", ["weight", "tokenizer", "template", "architecture"])
def test_fingerprint_covers_what_computes(nano: Base, nano_folder: Path, tmp_path: Path, what: str) -> None:
    if what == "weight":
        data = bytearray((nano_folder / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (nano_folder / "model.safetensors").write_bytes(bytes(data))
    elif what == "architecture":
        path = nano_folder / "config.json"
        path.write_text(path.read_text().replace('"rope_theta": 10000.0', '"rope_theta": 640000.0'))
    else:
        path = nano_folder / {"tokenizer": "tokenizer.json", "template": "chat_template.jinja"}[what]
        path.write_text(path.read_text() + " ")
    assert fingerprint(nano_folder, tmp_path) != nano.fingerprint


def test_fingerprint_of_large_files_is_kept_until_they_change(
    nano: Base, nano_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimo_fed.model.fingerprint._SMALL_BYTES", 0)
    assert fingerprint(nano_folder, tmp_path) == nano.fingerprint
    (note,) = (tmp_path / "fingerprints").iterdir()
    kept = json.loads(note.read_text())
    note.write_text(json.dumps({**kept, "fingerprint": "from the note"}))
    assert fingerprint(nano_folder, tmp_path) == "from the note"
    (nano_folder / "chat_template.jinja").write_text("other")
    assert fingerprint(nano_folder, tmp_path) not in {"from the note", nano.fingerprint}
    note.write_text("torn")
    assert len(fingerprint(nano_folder, tmp_path)) == 64


def test_a_missing_folder_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such base-model folder") as caught:
        load_base(str(tmp_path / "nothing"))
    assert "mimo-smol" in caught.value.hint


def test_a_cut_shard_is_named(nano_folder: Path) -> None:
    split_in_two(nano_folder)
    shard = nano_folder / "model-00002-of-00002.safetensors"
    whole = shard.read_bytes()
    for length in (len(whole) - 100, 20, 0):
        shard.write_bytes(whole[:length])
        with pytest.raises(DataError, match="model-00002-of-00002") as caught:
            load_base(str(nano_folder))
        assert "again" in caught.value.hint
    shard.unlink()
    with pytest.raises(DataError, match="missing: model-00002"):
        load_base(str(nano_folder))


@pytest.mark.parametrize("change", ["drop", "add"])
def test_a_checkpoint_that_does_not_fit_is_refused(nano_folder: Path, change: str) -> None:
    tensors = load_file(nano_folder / "model.safetensors")
    if change == "drop":
        del tensors["model.layers.1.mlp.up_proj.weight"]
    else:
        tensors["model.layers.2.mlp.up_proj.weight"] = torch.zeros(2, 2)
    save_file(tensors, nano_folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="up_proj"):
        load_base(str(nano_folder))


def test_a_folder_without_weights_or_config_is_refused(nano_folder: Path) -> None:
    (nano_folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"no \*\.safetensors"):
        load_base(str(nano_folder))
    (nano_folder / "config.json").unlink()
    with pytest.raises(DataError, match=r"config\.json"):
        load_base(str(nano_folder))
