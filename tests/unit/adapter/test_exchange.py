"""The two files of a PEFT LoRA, there and back."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import numpy as safetensors_numpy

from mimo_fed.adapter import FACTORS, GlobalAdapter, from_peft, to_peft
from mimo_fed.config import Phase
from mimo_fed.errors import DigestMismatch, SpecMismatch
from tests.unit.adapter.test_spec import Q
from tests.unit.adapter.test_weights import (
    SPEC,
    assert_canonical,
    assert_same_change,
    change,
    filled,
    moved,
)

A = f"base_model.model.{Q.name}.lora_A.weight"
B = f"base_model.model.{Q.name}.lora_B.weight"


@pytest.mark.parametrize("phase", FACTORS)
def test_there_and_back_is_the_same_change_of_the_weights(phase: Phase) -> None:
    adapter = moved(filled().canonical(), phase)
    again = from_peft(to_peft(adapter)[0], SPEC)
    assert_same_change(again, adapter)
    assert_canonical(again)
    assert again.epoch == 1


def test_the_tensors_are_named_and_multiplied_as_peft_does() -> None:
    adapter = moved(filled().canonical(), "M")
    tensors = safetensors_numpy.load(to_peft(adapter)[0])
    assert len(tensors) == 2 * len(SPEC.modules)
    assert (tensors[A].shape, tensors[B].shape) == ((16, 33), (24, 16))
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(tensors[B].astype(float) @ tensors[A], change(adapter, Q.name), atol=1e-5)


def test_equal_adapters_give_equal_files() -> None:
    one, other = (
        filled().canonical(),
        GlobalAdapter.from_safetensors(filled().canonical().to_safetensors(), SPEC),
    )
    assert to_peft(one) == to_peft(other)


def test_the_config_scales_by_one_at_any_rank_and_names_no_base() -> None:
    _, config = to_peft(GlobalAdapter.zero(SPEC))
    assert config["lora_alpha"] == config["r"] == 16
    assert config["use_rslora"] is False
    assert config["base_model_name_or_path"] is None
    assert config["target_modules"] == SPEC.config.targets


def test_a_lora_in_half_precision_can_be_read() -> None:
    adapter = filled()
    tensors = safetensors_numpy.load(to_peft(adapter)[0])
    data = safetensors_numpy.save({name: tensor.astype(np.float16) for name, tensor in tensors.items()})
    again = change(from_peft(data, SPEC), Q.name)
    expected = change(adapter, Q.name)
    assert np.linalg.norm(again - expected) < 1e-3 * np.linalg.norm(expected)


SPOILT: dict[str, dict[str, NDArray[Any]]] = {
    "integers": {B: np.zeros((24, 16), np.int64)},
    "narrow": {B: np.zeros((24, 8), np.float32)},
    "other rank": {A: np.zeros((8, 33), np.float32), B: np.zeros((24, 8), np.float32)},
    "nan": {A: np.full((16, 33), np.nan, np.float32)},
    "beyond float32": {A: np.full((16, 33), 1e300)},
    "more": {"base_model.model.lm_head.lora_A.weight": np.zeros((16, 33), np.float32)},
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_lora_of_another_shape_is_refused(spoil: dict[str, NDArray[Any]]) -> None:
    tensors = safetensors_numpy.load(to_peft(filled())[0])
    with pytest.raises(SpecMismatch):
        from_peft(safetensors_numpy.save(tensors | spoil), SPEC)


def test_a_lora_without_a_module_is_refused() -> None:
    tensors = safetensors_numpy.load(to_peft(filled())[0])
    del tensors[B]
    with pytest.raises(SpecMismatch, match="lora_B"):
        from_peft(safetensors_numpy.save(tensors), SPEC)


def test_a_type_that_numpy_lacks_is_named() -> None:
    header = b'{"a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}'
    with pytest.raises(SpecMismatch, match="BF16"):
        from_peft(len(header).to_bytes(8, "little") + header + bytes(4), SPEC)


def test_a_file_that_is_cut_off_is_refused() -> None:
    data = to_peft(filled())[0]
    for length in (0, 7, 100, len(data) - 1):
        with pytest.raises(DigestMismatch):
            from_peft(data[:length], SPEC)
