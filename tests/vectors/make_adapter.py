"""Write `adapter.json`: the first factors, a spec and released bytes, by a second implementation.

Standard library alone, from the written descriptions: nothing of the package under test is imported. Run

    python -m tests.vectors.make_adapter

after a format changes on purpose, and never to make a failing test pass.
"""

import base64
import hashlib
import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("adapter.json")
FORMAT = "mimo-fed/vectors/adapter/v2"
TARGETS = r"model\.layers\.\d+\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj"
DOMAINS = {"left": "mimo-fed/basis/left/v1", "right": "mimo-fed/basis/v1"}

Matrix = list[list[float]]
Tensors = dict[str, Matrix]


def signs(side: str, seed: int, module: str, index: int, length: int) -> list[float]:
    """Row `index` of the right factor, or column `index` of the left one."""
    text = f"{DOMAINS[side]}\n{seed}\n{module}\n{index}"
    stream = hashlib.shake_256(text.encode()).digest((length + 7) // 8)
    magnitude = 1 / math.sqrt(length)
    return [-magnitude if stream[i // 8] >> (i % 8) & 1 else magnitude for i in range(length)]


def first_factor(side: str, seed: int, module: str, rank: int, length: int) -> Matrix:
    """What an adapter begins with: right (rank, length), left (length, rank)."""
    rows = [signs(side, seed, module, index, length) for index in range(rank)]
    return rows if side == "right" else [list(row) for row in zip(*rows, strict=True)]


def float32(matrix: Matrix) -> bytes:
    return b"".join(struct.pack(f"<{len(row)}f", *row) for row in matrix)


def compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def spec_of(modules: list[list[Any]], **config: Any) -> dict[str, Any]:
    usual = {"rank": 4, "shells": [1, 4], "seed": 20261123, "targets": TARGETS}
    return {"base_fingerprint": "ab" * 32, "modules": modules, "config": usual | config}


def metadata_of(spec: Mapping[str, Any], epoch: object) -> dict[str, str]:
    note = {
        "base_fingerprint": spec["base_fingerprint"],
        "basis_epoch": epoch,
        "spec_digest": hashlib.sha256(compact(spec).encode()).hexdigest(),
    }
    return {"mimo_fed": compact(note)}


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


def counted(rows: int, cols: int) -> Matrix:
    """Entries that count up in eighths."""
    return [[(row * cols + col - 3) / 8 for col in range(cols)] for row in range(rows)]


def tensors_of(spec: Mapping[str, Any], sides: Iterable[str]) -> Tensors:
    """The tensors of an adapter whose factors of these sides count up; the seed's are left out."""
    rank = spec["config"]["rank"]
    shapes = {"left": lambda out, inp: (out, rank), "core": lambda out, inp: (rank, rank)}
    shapes["right"] = lambda out, inp: (rank, inp)
    return {
        f"{name}.{side}": counted(*shapes[side](out, inp))
        for name, out, inp in spec["modules"]
        for side in sides
    }


Q, UP = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"
SPEC = spec_of([[Q, 5, 9], [UP, 4, 8]])
ALL = ("left", "core", "right")
GOOD = {
    "good_zero": (0, ()),
    "good_phase_b": (0, ("left", "core")),
    "good_phase_a": (0, ("core", "right")),
    "good_phase_m": (0, ("core",)),
    "good_later_epoch": (1, ALL),
    "good_last_epoch": (2**31 - 1, ALL),
}
"""epoch, and the sides whose entries count up; of good_zero, the cores are zero"""


def good_cases() -> dict[str, bytes]:
    zero = {f"{name}.core": [[0.0] * 4] * 4 for name in (Q, UP)}
    return {
        name: safetensors(tensors_of(SPEC, sides) or zero, metadata_of(SPEC, epoch))
        for name, (epoch, sides) in GOOD.items()
    }


def bad_cases() -> dict[str, bytes]:
    tensors, metadata = tensors_of(SPEC, ALL), metadata_of(SPEC, 1)
    good = safetensors(tensors, metadata)

    def changed(**of_up: Matrix) -> bytes:
        return safetensors(tensors | {f"{UP}.{side}": value for side, value in of_up.items()}, metadata)

    def without(*names: str) -> bytes:
        return safetensors({name: t for name, t in tensors.items() if name not in names}, metadata)

    def seeded(side: str) -> bytes:
        others = tensors_of(SPEC, [other for other in ALL if other != side])
        lengths = {name: out if side == "left" else inp for name, out, inp in SPEC["modules"]}
        firsts = {f"{n}.{side}": first_factor(side, 20261123, n, 4, length) for n, length in lengths.items()}
        return safetensors(others | firsts, metadata)

    cases = {
        "truncated_body": good[:-1],
        "truncated_header": good[:40],
        "empty": b"",
        "trailing_byte": good + b"\0",
        "header_length_beyond_the_file": struct.pack("<Q", 2**40) + good[8:],
        "header_padding": _repadded(good),
        "seeded_left_is_shipped": seeded("left"),
        "seeded_right_is_shipped": seeded("right"),
        "not_a_number": changed(core=[[math.nan] * 4] * 4),
        "infinite": changed(core=[[math.inf] * 4] * 4),
        "shape": changed(left=[[0.5] * 4] * 3),
        "turned": changed(right=[[0.5] * 4] * 8),
        "half_precision": good.replace(b'"F32","shape":[4,4]', b'"F16","shape":[4,8]', 1),
        "tensor_missing": without(f"{UP}.right"),
        "core_missing": without(f"{Q}.core", f"{UP}.core"),
        "tensor_extra": safetensors(tensors | {"lm_head.core": counted(4, 4)}, metadata),
        "names_of_peft": good.replace(b".right", b".rig_A"),
        "no_metadata": safetensors(tensors, {}),
        "metadata_extra": safetensors(tensors, metadata | {"note": "x"}),
        "other_spec_of_seed": safetensors(tensors, metadata_of(spec_of(SPEC["modules"], seed=1), 1)),
        "other_spec_of_shells": safetensors(tensors, metadata_of(spec_of(SPEC["modules"], shells=[2, 4]), 1)),
        "other_base": safetensors(tensors, metadata_of(SPEC | {"base_fingerprint": "cd" * 32}, 1)),
    }
    for name, epoch in {
        "negative": -1,
        "beyond": 2**31,
        "text": "1",
        "float": 1.0,
        "bool": True,
        "null": None,
    }.items():
        cases[f"epoch_{name}"] = safetensors(tensors, metadata_of(SPEC, epoch))
    return {f"bad_{name}": data for name, data in cases.items()}


def adapter_cases() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "success": name in GOOD,
            "bytes": base64.b64encode(data).decode(),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        for name, data in (good_cases() | bad_cases()).items()
    ]


def _repadded(data: bytes) -> bytes:
    """The same tensors under a header of eight more spaces: valid safetensors, another digest."""
    length = struct.unpack("<Q", data[:8])[0]
    return struct.pack("<Q", length + 8) + data[8 : 8 + length] + b" " * 8 + data[8 + length :]


def basis_cases() -> list[dict[str, Any]]:
    cases = [
        (20261123, Q, 4, 9),
        (20261123, "model.layers.27.mlp.down_proj", 16, 1536),
        (0, UP, 1, 1),
        (2**63, UP, 3, 4096),
    ]
    return [
        {
            "side": side,
            "seed": seed,
            "module": module,
            "rank": rank,
            "length": length,
            "sha256": hashlib.sha256(float32(first_factor(side, seed, module, rank, length))).hexdigest(),
        }
        for side in DOMAINS
        for seed, module, rank, length in cases
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
