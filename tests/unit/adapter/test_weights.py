import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import numpy as safetensors_numpy

from mimo_fed.adapter import AdapterSpec, GlobalAdapter, basis
from mimo_fed.errors import AdapterError, DigestMismatch, SpecMismatch
from tests.unit.adapter.test_spec import Q, make

SPEC = make()
A = f"base_model.model.{Q.name}.lora_A.weight"
B = f"base_model.model.{Q.name}.lora_B.weight"


def filled(spec: AdapterSpec = SPEC) -> GlobalAdapter:
    rng = np.random.default_rng(3)
    rank = spec.config.rank
    return GlobalAdapter(
        spec=spec,
        factors={m.name: rng.normal(size=(m.out, rank)).astype(np.float32) for m in spec.modules},
    )


def parts(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return safetensors_numpy.load(data), header["__metadata__"]


def test_bytes_round_trip() -> None:
    adapter = filled()
    again = GlobalAdapter.from_safetensors(adapter.to_safetensors(), SPEC)
    assert again.digest() == adapter.digest()
    for name, factor in adapter.factors.items():
        np.testing.assert_array_equal(again.factors[name], factor)


def test_bytes_do_not_depend_on_the_order_or_layout_of_the_factors() -> None:
    adapter = filled()
    shuffled = {name: np.asfortranarray(adapter.factors[name]) for name in reversed(list(adapter.factors))}
    assert GlobalAdapter(spec=SPEC, factors=shuffled).to_safetensors() == adapter.to_safetensors()


def test_the_tensors_are_named_and_shaped_as_peft_does() -> None:
    tensors, metadata = parts(filled().to_safetensors())
    assert len(tensors) == 2 * len(SPEC.modules)
    assert (tensors[A].shape, tensors[B].shape) == ((16, 33), (24, 16))
    said = json.loads(metadata["mimo_fed"])
    assert said == {"base_fingerprint": "ab" * 32, "basis_epoch": 0, "spec_digest": SPEC.digest()}


def test_zero_changes_nothing() -> None:
    assert not any(factor.any() for factor in GlobalAdapter.zero(SPEC).factors.values())


def test_peft_config_scales_by_one_at_any_rank() -> None:
    config = GlobalAdapter.zero(SPEC).peft_config()
    assert config["lora_alpha"] == config["r"] == 16
    assert config["use_rslora"] is False


def test_every_truncation_is_refused() -> None:
    data = filled().to_safetensors()
    for length in (0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1):
        with pytest.raises(DigestMismatch):
            GlobalAdapter.from_safetensors(data[:length], SPEC)
    with pytest.raises(AdapterError):
        GlobalAdapter.from_safetensors(data + b"\0", SPEC)


@pytest.mark.parametrize("other", [make(seed=1), make(basis_epoch=1), make((Q,)), make(shells=(8, 16))])
def test_another_spec_is_refused(other: AdapterSpec) -> None:
    with pytest.raises(SpecMismatch, match=r"spec digest|basis epoch"):
        GlobalAdapter.from_safetensors(filled(other).to_safetensors(), SPEC)


def test_another_base_is_refused() -> None:
    other = AdapterSpec(base_fingerprint="cd" * 32, modules=SPEC.modules, config=SPEC.config)
    with pytest.raises(SpecMismatch, match="base fingerprint"):
        GlobalAdapter.from_safetensors(filled(other).to_safetensors(), SPEC)


def _flip_one_sign(tensors: dict[str, NDArray[Any]]) -> None:
    tensors[A] = tensors[A].copy()
    tensors[A][5, 7] *= -1


def _half(tensors: dict[str, NDArray[Any]]) -> None:
    tensors[B] = tensors[B].astype(np.float16)


def _narrow(tensors: dict[str, NDArray[Any]]) -> None:
    tensors[B] = np.ascontiguousarray(tensors[B][:, :8])


def _nan(tensors: dict[str, NDArray[Any]]) -> None:
    tensors[B] = np.full_like(tensors[B], np.nan)


def _infinite(tensors: dict[str, NDArray[Any]]) -> None:
    tensors[B] = np.full_like(tensors[B], np.inf)


def _missing(tensors: dict[str, NDArray[Any]]) -> None:
    del tensors[A]


def _extra(tensors: dict[str, NDArray[Any]]) -> None:
    tensors["base_model.model.lm_head.weight"] = np.zeros((2, 2), np.float32)


def _double_basis(tensors: dict[str, NDArray[Any]]) -> None:
    tensors[A] = tensors[A].astype(np.float64)


@pytest.mark.parametrize(
    "spoil", [_flip_one_sign, _half, _narrow, _nan, _infinite, _missing, _extra, _double_basis]
)
def test_spoiled_tensors_are_refused(spoil: Any) -> None:
    tensors, metadata = parts(filled().to_safetensors())
    spoil(tensors)
    with pytest.raises(SpecMismatch):
        GlobalAdapter.from_safetensors(safetensors_numpy.save(tensors, metadata=metadata), SPEC)


@pytest.mark.parametrize("metadata", [None, {}, {"mimo_fed": "["}, {"mimo_fed": "3"}, {"mimo_fed": "{}"}])
def test_missing_or_broken_metadata_is_refused(metadata: dict[str, str] | None) -> None:
    tensors, _ = parts(filled().to_safetensors())
    with pytest.raises(SpecMismatch):
        GlobalAdapter.from_safetensors(safetensors_numpy.save(tensors, metadata=metadata), SPEC)


def test_metadata_beyond_ours_is_refused_so_that_an_adapter_has_one_digest() -> None:
    tensors, metadata = parts(filled().to_safetensors())
    data = safetensors_numpy.save(tensors, metadata=metadata | {"note": "hello"})
    with pytest.raises(SpecMismatch, match="canonical"):
        GlobalAdapter.from_safetensors(data, SPEC)


def test_factors_are_checked_when_an_adapter_is_made() -> None:
    good = filled().factors
    for bad in ({}, good | {"x": good[Q.name]}, good | {Q.name: good[Q.name].astype(np.float64)}):
        with pytest.raises(SpecMismatch):
            GlobalAdapter(spec=SPEC, factors=bad)


def test_lora_a_is_the_basis() -> None:
    tensors, _ = parts(filled().to_safetensors())
    np.testing.assert_array_equal(tensors[A], basis(SPEC)[Q.name])
