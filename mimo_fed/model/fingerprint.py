"""What a base model is, as one digest: equal on every device whatever way its files are sharded.

Covered: each tensor's name, type, shape and bytes; the tokenizer; the chat template; the architecture.
Not covered: shard boundaries, file times, and settings that do not change what the model computes.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mimo_fed.errors import DataError

_SHARD_HINT = "download or copy the folder again; a shard that was cut off cannot be repaired"
_SMALL_BYTES = 16 << 20
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json")
_ARCHITECTURE = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "rms_norm_eps",
    "rope_theta",
    "rope_parameters",
    "rope_scaling",
    "hidden_act",
    "tie_word_embeddings",
    "use_sliding_window",
    "sliding_window",
    "num_nextn_predict_layers",
    "eos_token_id",
)


def shards(folder: Path) -> list[Path]:
    """Return the weight files of a model folder, each present and whole.

    Raises:
        DataError: no folder, no weights, a shard of the index is missing, or a file was cut off.
    """
    if not folder.is_dir():
        raise DataError(
            f"no such base-model folder: {folder}",
            hint="give mimo-smol, mimo-nano, or a folder with config.json and *.safetensors",
        )
    if not (folder / "config.json").is_file():
        raise DataError(f"no config.json in the base-model folder: {folder}", hint=_SHARD_HINT)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_read_json(index).get("weight_map", {}).values()))
    else:
        names = sorted(path.name for path in folder.glob("*.safetensors"))
    if not names:
        raise DataError(
            f"no *.safetensors in the base-model folder: {folder}",
            hint="weights in other formats are not read; save the model with save_pretrained",
        )
    paths = [folder / name for name in names]
    for path in paths:
        if not path.is_file():
            raise DataError(f"a shard named by the index is missing: {path.name}", hint=_SHARD_HINT)
        _header(path)
    return paths


def fingerprint(folder: Path, cache: Path) -> str:
    """SHA-256 of the base in `folder`, hexadecimal.

    Hashing gigabytes takes a while, so the answer is kept in `cache`, keyed by every file's size and time.

    Raises:
        DataError: as `shards`.
    """
    paths = shards(folder)
    if sum(path.stat().st_size for path in paths) < _SMALL_BYTES:
        return _compute(folder, paths)
    key = _stat_key(folder, paths)
    note = cache / "fingerprints" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]}.json"
    try:
        kept = json.loads(note.read_bytes())
        if kept.get("key") == key:
            return str(kept["fingerprint"])
    except (OSError, ValueError, KeyError, AttributeError):
        pass  # no note yet, or a torn one: compute
    value = _compute(folder, paths)
    note.parent.mkdir(parents=True, exist_ok=True)
    draft = note.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({"key": key, "fingerprint": value}))
    draft.replace(note)
    return value


def _stat_key(folder: Path, paths: list[Path]) -> str:
    files = [*paths, folder / "config.json", *(folder / name for name in _TOKENIZER_FILES)]
    files += [folder / "tokenizer_config.json", folder / "chat_template.jinja"]
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file()]
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()


def _compute(folder: Path, paths: list[Path]) -> str:
    config = _read_json(folder / "config.json")
    tokenizer_config = (
        _read_json(path) if (path := folder / "tokenizer_config.json").is_file() else dict[str, Any]()
    )
    template_file = folder / "chat_template.jinja"
    template = template_file.read_text() if template_file.is_file() else tokenizer_config.get("chat_template")
    record = {
        "tensors": sorted(entry for path in paths for entry in _tensors(path)),
        "architecture": {name: config[name] for name in _ARCHITECTURE if config.get(name) is not None},
        "tokenizer": {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for name in _TOKENIZER_FILES
            if (path := folder / name).is_file()
        },
        "chat_template": template,
    }
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(b"mimo-fed/base/1\0" + canonical.encode()).hexdigest()


def _tensors(path: Path) -> Iterator[tuple[str, str, tuple[int, ...], str]]:
    header, start = _header(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        view = memoryview(data)
        try:
            for name, entry in header.items():
                low, high = entry["data_offsets"]
                with view[start + low : start + high] as piece:
                    digest = hashlib.sha256(piece).hexdigest()
                yield name, entry["dtype"], tuple(entry["shape"]), digest
        finally:
            view.release()


def _header(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """Read a safetensors file's tensor table and where its data starts; check that it is whole."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError(length)
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"not a safetensors file, or cut off: {path.name}", hint=_SHARD_HINT) from None
    if size != end:
        raise DataError(
            f"a shard has {size} bytes where its header says {end}: {path.name}", hint=_SHARD_HINT
        )
    return header, 8 + length


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        raise DataError(f"not JSON: {path.name}", hint=_SHARD_HINT) from None
    if not isinstance(value, dict):
        raise DataError(f"not a JSON object: {path.name}", hint=_SHARD_HINT)
    return value
