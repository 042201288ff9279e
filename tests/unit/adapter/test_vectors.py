"""Our bytes against those of a second implementation: tests/vectors/make_adapter.py."""

import base64
import hashlib
import json
from typing import Any

import numpy as np
import pytest

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, Module, basis, left_basis
from mimo_fed.config import AdapterConfig
from mimo_fed.errors import AdapterError
from tests.vectors import make_adapter

VECTORS: dict[str, Any] = json.loads(make_adapter.PATH.read_text())
SPEC = AdapterSpec.from_json(json.dumps(VECTORS["spec"]).encode())


def cases(success: bool) -> list[dict[str, Any]]:
    return [case for case in VECTORS["adapters"] if case["success"] is success]


def name(case: dict[str, Any]) -> str:
    return str(case["name"])


def test_the_stored_vectors_are_what_their_generator_writes() -> None:
    assert make_adapter.PATH.read_text() == make_adapter.text()


@pytest.mark.parametrize("case", VECTORS["basis"], ids=lambda c: f"{c['side']}-{c['rank']}x{c['length']}")
def test_first_factors(case: dict[str, Any]) -> None:
    length, rank = case["length"], case["rank"]
    out, inp = (length, rank) if case["side"] == "left" else (rank, length)
    spec = AdapterSpec(
        base_fingerprint="",
        modules=(Module(case["module"], out, inp),),
        config=AdapterConfig(rank=rank, shells=(rank,), seed=case["seed"]),
    )
    factor = (left_basis if case["side"] == "left" else basis)(spec)[case["module"]].astype("<f4")
    assert hashlib.sha256(factor.tobytes()).hexdigest() == case["sha256"]


def test_spec_digest() -> None:
    assert SPEC.digest() == VECTORS["spec_digest"]


@pytest.mark.parametrize("case", cases(success=True), ids=name)
def test_a_good_adapter_is_read_and_written_alike(case: dict[str, Any]) -> None:
    data = base64.b64decode(case["bytes"])
    adapter = GlobalAdapter.from_safetensors(data, SPEC)
    assert adapter.to_safetensors() == data
    assert adapter.digest() == case["sha256"]
    epoch, counted = make_adapter.GOOD[case["name"]]
    assert adapter.epoch == epoch
    zero = GlobalAdapter.zero(SPEC)
    for side in ("left", "core", "right"):
        for module, factor in getattr(adapter, side).items():
            first = getattr(zero, side)[module]
            numbers = (np.arange(first.size).reshape(first.shape) - 3) / 8
            np.testing.assert_array_equal(factor, numbers if side in counted else first)


@pytest.mark.parametrize("case", cases(success=False), ids=name)
def test_a_bad_adapter_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(AdapterError):
        GlobalAdapter.from_safetensors(base64.b64decode(case["bytes"]), SPEC)


def test_there_are_both_kinds() -> None:
    assert (len(cases(success=True)), len(cases(success=False))) == (6, 28)
