"""The bytes of an adapter: there and back, one digest a value, and nothing else is read."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import numpy as safetensors_numpy

from mimo_fed.adapter import FACTORS, AdapterSpec, GlobalAdapter, basis, left_basis
from mimo_fed.adapter.weights import MAX_EPOCH
from mimo_fed.config import Phase
from mimo_fed.errors import AdapterError, DigestMismatch, SpecMismatch
from tests.unit.adapter.test_spec import Q, make
from tests.unit.adapter.test_weights import SPEC, filled, moved

SIDES = ("left", "core", "right")
LEFT, CORE, RIGHT = (f"{Q.name}.{side}" for side in SIDES)
Tensors = dict[str, NDArray[Any]]


def parts(data: bytes) -> tuple[Tensors, dict[str, str]]:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return safetensors_numpy.load(data), header["__metadata__"]


def sides_in(data: bytes) -> set[str]:
    return {name.rpartition(".")[2] for name in parts(data)[0]}


@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize("phase", FACTORS)
def test_bytes_round_trip(phase: Phase, canonical: bool) -> None:
    zero = GlobalAdapter.zero(SPEC)
    adapter = moved(zero.canonical() if canonical else zero, phase)
    data = adapter.to_safetensors()
    again = GlobalAdapter.from_safetensors(data, SPEC)
    assert again.epoch == adapter.epoch
    assert again.to_safetensors() == data
    assert again.digest() == adapter.digest() == hashlib.sha256(data).hexdigest()
    for side in SIDES:
        for module in SPEC.modules:
            np.testing.assert_array_equal(
                getattr(again, side)[module.name], getattr(adapter, side)[module.name]
            )


def test_every_value_has_a_digest_of_its_own() -> None:
    adapter = filled().canonical()
    others = [
        adapter,
        replace(adapter, epoch=2),
        filled(),
        GlobalAdapter.zero(SPEC),
        filled(make(seed=1)).canonical(),
    ]
    for side in SIDES:
        factors = getattr(adapter, side)
        nudged = factors[Q.name].copy()
        nudged[3, 3] = np.nextafter(nudged[3, 3], np.float32(9))
        others.append(replace(adapter, **{side: factors | {Q.name: nudged}}))
    assert len({other.digest() for other in others}) == len(others)


def test_bytes_do_not_depend_on_the_order_or_layout_of_the_factors() -> None:
    adapter = filled().canonical()
    shuffled: dict[str, Any] = {
        side: {n: np.asfortranarray(f) for n, f in reversed(list(getattr(adapter, side).items()))}
        for side in SIDES
    }
    assert replace(adapter, **shuffled).to_safetensors() == adapter.to_safetensors()


def test_a_factor_is_shipped_once_it_is_no_longer_the_seeds() -> None:
    zero = GlobalAdapter.zero(SPEC)
    in_first_epoch: dict[Phase, set[str]] = {"B": {"left", "core"}, "A": {"core", "right"}, "M": {"core"}}
    for phase, sides in in_first_epoch.items():
        assert sides_in(moved(zero, phase).to_safetensors()) == sides
    assert sides_in(zero.canonical().to_safetensors()) == set(SIDES)
    assert sides_in(replace(moved(zero, "M"), epoch=7).to_safetensors()) == {"core"}


def test_where_one_module_moved_those_of_all_are_shipped() -> None:
    zero = GlobalAdapter.zero(SPEC)
    adapter = replace(zero, left=zero.left | {Q.name: -zero.left[Q.name]})
    data = adapter.to_safetensors()
    assert sides_in(data) == {"left", "core"}
    assert GlobalAdapter.from_safetensors(data, SPEC).digest() == adapter.digest() != zero.digest()


def test_release_0_holds_no_more_than_cores() -> None:
    data = GlobalAdapter.zero(SPEC).to_safetensors()
    assert len(data) < 2 * 16 * 16 * 4 + 800
    again = GlobalAdapter.from_safetensors(data, SPEC)
    np.testing.assert_array_equal(again.left[Q.name], left_basis(SPEC)[Q.name])
    np.testing.assert_array_equal(again.right[Q.name], basis(SPEC)[Q.name])


def test_releases_of_phase_m_differ_in_their_cores_alone() -> None:
    start = filled().canonical()
    one, other = start.to_safetensors(), moved(start, "M").to_safetensors()
    assert len(one) == len(other)
    tensors, later = parts(one)[0], parts(other)[0]
    assert {n for n in tensors if not np.array_equal(tensors[n], later[n])} == {
        f"{m.name}.core" for m in SPEC.modules
    }


def test_the_tensors_are_named_and_shaped_as_written() -> None:
    tensors, metadata = parts(filled().canonical().to_safetensors())
    assert len(tensors) == 3 * len(SPEC.modules)
    assert (tensors[LEFT].shape, tensors[CORE].shape, tensors[RIGHT].shape) == ((24, 16), (16, 16), (16, 33))
    said = json.loads(metadata["mimo_fed"])
    assert said == {"base_fingerprint": "ab" * 32, "basis_epoch": 1, "spec_digest": SPEC.digest()}


def test_every_truncation_is_refused() -> None:
    data = filled().to_safetensors()
    for length in (0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1):
        with pytest.raises(DigestMismatch):
            GlobalAdapter.from_safetensors(data[:length], SPEC)
    with pytest.raises(AdapterError):
        GlobalAdapter.from_safetensors(data + b"\0", SPEC)


@pytest.mark.parametrize("other", [make(seed=1), make((Q,)), make(shells=(8, 16)), make(targets="x")])
def test_another_spec_is_refused(other: AdapterSpec) -> None:
    with pytest.raises(SpecMismatch, match="another base or shape"):
        GlobalAdapter.from_safetensors(filled(other).to_safetensors(), SPEC)


def test_another_base_is_refused() -> None:
    other = AdapterSpec(base_fingerprint="cd" * 32, modules=SPEC.modules, config=SPEC.config)
    with pytest.raises(SpecMismatch, match="another base or shape"):
        GlobalAdapter.from_safetensors(filled(other).to_safetensors(), SPEC)


SPOILT: dict[str, Tensors] = {
    "half": {CORE: np.zeros((16, 16), np.float16)},
    "double": {CORE: np.zeros((16, 16))},
    "integers": {CORE: np.zeros((16, 16), np.int32)},
    "narrow": {LEFT: np.zeros((24, 8), np.float32)},
    "flat": {LEFT: np.zeros(24 * 16, np.float32)},
    "turned": {RIGHT: np.zeros((33, 16), np.float32)},
    "nan": {CORE: np.full((16, 16), np.nan, np.float32)},
    "infinite": {RIGHT: np.full((16, 33), -np.inf, np.float32)},
    "extra module": {"lm_head.core": np.zeros((16, 16), np.float32)},
    "extra side": {f"{Q.name}.lora_A": np.zeros((16, 33), np.float32)},
    "no side": {Q.name: np.zeros((16, 16), np.float32)},
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_spoiled_tensors_are_refused(spoil: Tensors) -> None:
    tensors, metadata = parts(filled().canonical().to_safetensors())
    with pytest.raises(SpecMismatch):
        GlobalAdapter.from_safetensors(safetensors_numpy.save(tensors | spoil, metadata=metadata), SPEC)


@pytest.mark.parametrize("name", [LEFT, CORE, RIGHT])
def test_a_missing_tensor_is_refused(name: str) -> None:
    tensors, metadata = parts(filled().canonical().to_safetensors())
    del tensors[name]
    with pytest.raises(SpecMismatch):
        GlobalAdapter.from_safetensors(safetensors_numpy.save(tensors, metadata=metadata), SPEC)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_factor_of_the_seed_must_not_be_shipped(side: str) -> None:
    zero = GlobalAdapter.zero(SPEC)
    tensors, metadata = parts(zero.to_safetensors())
    shipped = {f"{module}.{side}": factor for module, factor in getattr(zero, side).items()}
    with pytest.raises(SpecMismatch, match="canonical"):
        GlobalAdapter.from_safetensors(safetensors_numpy.save(tensors | shipped, metadata=metadata), SPEC)


@pytest.mark.parametrize("note", [None, "[", "3", "{}", "[" * 200_000, "[]", "null"])
def test_missing_or_broken_metadata_is_refused(note: str | None) -> None:
    tensors, _ = parts(filled().to_safetensors())
    metadata = {"mimo_fed": note} if note is not None else None
    with pytest.raises(SpecMismatch, match="what it was made for"):
        GlobalAdapter.from_safetensors(safetensors_numpy.save(tensors, metadata=metadata), SPEC)


@pytest.mark.parametrize("epoch", [True, 1.0, "1", None, [1], -1, MAX_EPOCH + 1])
def test_an_epoch_that_is_none_is_refused(epoch: object) -> None:
    tensors, metadata = parts(filled().canonical().to_safetensors())
    note = json.loads(metadata["mimo_fed"]) | {"basis_epoch": epoch}
    text = json.dumps(note, sort_keys=True, separators=(",", ":"))
    with pytest.raises(SpecMismatch, match="epoch"):
        GlobalAdapter.from_safetensors(safetensors_numpy.save(tensors, metadata={"mimo_fed": text}), SPEC)


@pytest.mark.parametrize("epoch", [0, 1, MAX_EPOCH])
def test_the_epoch_is_kept(epoch: int) -> None:
    data = replace(filled(), epoch=epoch).to_safetensors()
    assert GlobalAdapter.from_safetensors(data, SPEC).epoch == epoch


def test_metadata_beyond_ours_is_refused_so_that_an_adapter_has_one_digest() -> None:
    tensors, metadata = parts(filled().to_safetensors())
    spaced = {"mimo_fed": metadata["mimo_fed"].replace(",", ", ")}
    more = {"mimo_fed": json.dumps(json.loads(metadata["mimo_fed"]) | {"note": "x"}, separators=(",", ":"))}
    for other in (metadata | {"note": "hello"}, spaced, more):
        with pytest.raises(SpecMismatch, match="canonical"):
            GlobalAdapter.from_safetensors(safetensors_numpy.save(tensors, metadata=other), SPEC)
