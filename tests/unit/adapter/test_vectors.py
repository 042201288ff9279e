"""Our bytes against those of a second implementation: tests/vectors/make_adapter.py."""

import base64
import hashlib
import json
from typing import Any

import numpy as np
import pytest

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, Module, basis
from mimo_fed.config import AdapterConfig
from mimo_fed.errors import AdapterError
from tests.vectors import make_adapter

VECTORS: dict[str, Any] = json.loads(make_adapter.PATH.read_text())
SPEC = AdapterSpec.from_json(json.dumps(VECTORS["spec"]).encode())


def test_the_stored_vectors_are_what_their_generator_writes() -> None:
    assert make_adapter.PATH.read_text() == make_adapter.text()


@pytest.mark.parametrize("case", VECTORS["basis"], ids=lambda case: f"{case['rank']}x{case['inp']}")
def test_basis(case: dict[str, Any]) -> None:
    spec = AdapterSpec(
        base_fingerprint="",
        modules=(Module(case["module"], 1, case["inp"]),),
        config=AdapterConfig(rank=case["rank"], shells=(case["rank"],), seed=case["seed"]),
    )
    factor = basis(spec)[case["module"]].astype("<f4")
    assert hashlib.sha256(factor.tobytes()).hexdigest() == case["sha256"]


def test_spec_digest() -> None:
    assert SPEC.digest() == VECTORS["spec_digest"]


@pytest.mark.parametrize("case", VECTORS["adapters"], ids=lambda case: case["name"])
def test_adapter(case: dict[str, Any]) -> None:
    data = base64.b64decode(case["bytes"])
    if not case["success"]:
        with pytest.raises(AdapterError):
            GlobalAdapter.from_safetensors(data, SPEC)
        return
    adapter = GlobalAdapter.from_safetensors(data, SPEC)
    assert adapter.digest() == case["sha256"]
    counted = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(adapter.factors["model.layers.0.mlp.up_proj"], (counted - 3) / 8)
