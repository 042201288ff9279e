"""Write `adapter.json`: the basis, specs and released bytes, by a second implementation.

Standard library alone, from the written descriptions: nothing of the package under test is imported. Run

    python -m tests.vectors.make_adapter

after a format changes on purpose, and never to make a failing test pass.
"""

import base64
import hashlib
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("adapter.json")
FORMAT = "mimo-fed/vectors/adapter/v1"
TARGETS = r"model\.layers\.\d+\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj"

Matrix = list[list[float]]


def row_of_basis(seed: int, module: str, row: int, inp: int) -> list[float]:
    stream = hashlib.shake_256(f"mimo-fed/basis/v1\n{seed}\n{module}\n{row}".encode()).digest((inp + 7) // 8)
    magnitude = 1 / math.sqrt(inp)
    return [-magnitude if stream[i // 8] >> (i % 8) & 1 else magnitude for i in range(inp)]


def basis_of(seed: int, module: str, rank: int, inp: int) -> Matrix:
    return [row_of_basis(seed, module, row, inp) for row in range(rank)]


def float32(matrix: Matrix) -> bytes:
    return b"".join(struct.pack(f"<{len(row)}f", *row) for row in matrix)


def compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def spec_of(modules: list[list[Any]], **config: Any) -> dict[str, Any]:
    usual = {"rank": 4, "shells": [1, 4], "seed": 20261123, "targets": TARGETS, "basis_epoch": 0}
    return {"base_fingerprint": "ab" * 32, "modules": modules, "config": usual | config}


def metadata_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "base_fingerprint": spec["base_fingerprint"],
        "basis_epoch": spec["config"]["basis_epoch"],
        "spec_digest": hashlib.sha256(compact(spec).encode()).hexdigest(),
    }


def safetensors(tensors: Mapping[str, Matrix], metadata: Mapping[str, str]) -> bytes:
    """Lay out float32 tensors by name; the header is padded with spaces to a multiple of eight."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    body = b""
    for name in sorted(tensors):
        data = float32(tensors[name])
        shape = [len(tensors[name]), len(tensors[name][0])]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def adapter_of(spec: Mapping[str, Any]) -> tuple[dict[str, Matrix], dict[str, str]]:
    """Tensors and metadata of an adapter whose B counts up in eighths."""
    rank, seed = spec["config"]["rank"], spec["config"]["seed"]
    tensors: dict[str, Matrix] = {}
    for name, out, inp in spec["modules"]:
        prefix = f"base_model.model.{name}"
        tensors[f"{prefix}.lora_A.weight"] = basis_of(seed, name, rank, inp)
        tensors[f"{prefix}.lora_B.weight"] = [
            [(o * rank + r - 3) / 8 for r in range(rank)] for o in range(out)
        ]
    return tensors, {"mimo_fed": compact(metadata_of(spec))}


SPEC = spec_of([["model.layers.0.self_attn.q_proj", 3, 9], ["model.layers.0.mlp.up_proj", 2, 8]])
A = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
B = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"


def adapter_cases() -> list[dict[str, Any]]:
    tensors, metadata = adapter_of(SPEC)
    good = safetensors(tensors, metadata)
    flipped = [[-x for x in tensors[A][0]], *tensors[A][1:]]
    not_a_number = [[math.nan] * 4, [0.0] * 4]
    without = {name: value for name, value in tensors.items() if name != A}
    cases = {
        "good": good,
        "bad_truncated_body": good[:-1],
        "bad_truncated_header": good[:40],
        "bad_empty": b"",
        "bad_trailing_byte": good + b"\0",
        "bad_header_length_beyond_the_file": struct.pack("<Q", 2**40) + good[8:],
        "bad_basis_row_negated": safetensors(tensors | {A: flipped}, metadata),
        "bad_not_a_number": safetensors(tensors | {B: not_a_number}, metadata),
        "bad_infinite": safetensors(tensors | {B: [[math.inf] * 4, [0.0] * 4]}, metadata),
        "bad_shape": safetensors(tensors | {B: [[0.0] * 4] * 3}, metadata),
        "bad_tensor_missing": safetensors(without, metadata),
        "bad_tensor_extra": safetensors(tensors | {"base_model.model.lm_head.weight": [[0.0]]}, metadata),
        "bad_no_metadata": safetensors(tensors, {}),
        "bad_metadata_extra": safetensors(tensors, metadata | {"note": "x"}),
        "bad_header_padding": _repadded(good),
    }
    for name, other in {
        "bad_other_seed": spec_of(SPEC["modules"], seed=1),
        "bad_other_epoch": spec_of(SPEC["modules"], basis_epoch=1),
        "bad_other_shells": spec_of(SPEC["modules"], shells=[2, 4]),
        "bad_other_base": SPEC | {"base_fingerprint": "cd" * 32},
    }.items():
        cases[name] = safetensors(*adapter_of(other))
    return [
        {
            "name": name,
            "success": name == "good",
            "bytes": base64.b64encode(data).decode(),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        for name, data in cases.items()
    ]


def _repadded(data: bytes) -> bytes:
    """The same tensors under a header of eight more spaces: valid safetensors, another digest."""
    length = struct.unpack("<Q", data[:8])[0]
    return struct.pack("<Q", length + 8) + data[8 : 8 + length] + b" " * 8 + data[8 + length :]


def basis_cases() -> list[dict[str, Any]]:
    cases = [
        (20261123, "model.layers.0.self_attn.q_proj", 4, 9),
        (20261123, "model.layers.27.mlp.down_proj", 16, 1536),
        (0, "model.layers.0.mlp.up_proj", 1, 1),
        (2**63, "model.layers.0.mlp.up_proj", 3, 4096),
    ]
    return [
        {
            "seed": seed,
            "module": module,
            "rank": rank,
            "inp": inp,
            "sha256": hashlib.sha256(float32(basis_of(seed, module, rank, inp))).hexdigest(),
        }
        for seed, module, rank, inp in cases
    ]


def vectors() -> dict[str, Any]:
    return {
        "format": FORMAT,
        "basis": basis_cases(),
        "spec": SPEC,
        "spec_digest": hashlib.sha256(compact(SPEC).encode()).hexdigest(),
        "adapters": adapter_cases(),
    }


def text() -> str:
    return json.dumps(vectors(), indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(text())
