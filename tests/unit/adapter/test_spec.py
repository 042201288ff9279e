import json
from collections.abc import Callable
from typing import Any

import pytest

from mimo_fed.adapter import AdapterSpec, Module, Shell
from mimo_fed.config import AdapterConfig
from mimo_fed.errors import SpecMismatch

Q = Module("model.layers.0.self_attn.q_proj", 24, 33)
UP = Module("model.layers.0.mlp.up_proj", 40, 576)


def make(modules: tuple[Module, ...] = (Q, UP), **config: Any) -> AdapterSpec:
    return AdapterSpec(base_fingerprint="ab" * 32, modules=modules, config=AdapterConfig(**config))


def test_shells_are_named_as_people_count_columns() -> None:
    assert make().shells == (Shell("r1-4", 0, 4), Shell("r5-8", 4, 8), Shell("r9-16", 8, 16))


def test_a_device_fills_the_shells_up_to_its_rank() -> None:
    spec = make()
    assert [shell.name for shell in spec.shells_of(8)] == ["r1-4", "r5-8"]
    assert [spec.dim(shell) for shell in spec.shells] == [4 * 64, 4 * 64, 8 * 64]


@pytest.mark.parametrize("rank", [0, 3, 5, 17])
def test_a_rank_between_shells_is_refused(rank: int) -> None:
    with pytest.raises(SpecMismatch, match=str(rank)):
        make().shells_of(rank)


@pytest.mark.parametrize("shells", [(), (0, 16), (4, 4, 16), (8, 4, 16), (4, 8), (-1, 16)])
def test_shells_must_ascend_to_the_rank(shells: tuple[int, ...]) -> None:
    with pytest.raises(SpecMismatch):
        make(shells=shells)


@pytest.mark.parametrize("modules", [(), (Q, Q), (Q, Module("x", 0, 4)), (Module("x", 4, 0),)])
def test_modules_must_be_distinct_and_have_a_size(modules: tuple[Module, ...]) -> None:
    with pytest.raises(SpecMismatch):
        make(modules)


def test_json_round_trip_keeps_the_digest() -> None:
    spec = make(rank=8, shells=(2, 8), seed=7)
    again = AdapterSpec.from_json(spec.to_json())
    assert again == spec
    assert again.digest() == spec.digest()


def test_every_field_moves_the_digest() -> None:
    other = AdapterSpec(base_fingerprint="cd" * 32, modules=(Q, UP), config=AdapterConfig())
    specs = [
        make(),
        other,
        make((UP, Q)),
        make((Q,)),
        make(seed=1),
        make(basis_epoch=1),
        make(shells=(8, 16)),
    ]
    assert len({spec.digest() for spec in specs}) == len(specs)


def _without(field: str) -> Callable[[dict[str, Any]], object]:
    return lambda raw: {k: v for k, v in raw.items() if k != field}


@pytest.mark.parametrize(
    "spoil",
    [
        _without("modules"),
        _without("config"),
        lambda raw: raw | {"extra": 1},
        lambda raw: raw | {"modules": [["a", 1]]},
        lambda raw: raw | {"modules": [["a", "1", 2]]},
        lambda raw: raw | {"modules": 3},
        lambda raw: raw | {"config": raw["config"] | {"unknown": 1}},
        lambda raw: raw | {"config": raw["config"] | {"shells": [4, 8]}},
        lambda raw: [raw],
    ],
)
def test_a_spoiled_spec_is_refused(spoil: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(SpecMismatch):
        AdapterSpec.from_json(json.dumps(spoil(json.loads(make().to_json()))).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"null"])
def test_bytes_that_are_no_spec_are_refused(data: bytes) -> None:
    with pytest.raises(SpecMismatch):
        AdapterSpec.from_json(data)
