import json
from collections.abc import Callable
from typing import Any

import pytest

from mimo_fed.adapter import FACTORS, AdapterSpec, Module, Part, Shell
from mimo_fed.config import AdapterConfig, Phase
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


def test_a_phase_trains_one_factor_of_every_module_and_ab_both() -> None:
    spec = make()
    assert spec.parts("B") == (
        Part(f"{Q.name}.B", Q.name, "B", 24, 16),
        Part(f"{UP.name}.B", UP.name, "B", 40, 16),
    )
    assert spec.parts("A") == (
        Part(f"{Q.name}.A", Q.name, "A", 16, 33),
        Part(f"{UP.name}.A", UP.name, "A", 16, 576),
    )
    assert spec.parts("M") == (
        Part(f"{Q.name}.M", Q.name, "M", 16, 16),
        Part(f"{UP.name}.M", UP.name, "M", 16, 16),
    )
    assert spec.parts("AB") == spec.parts("B") + spec.parts("A")


def test_no_other_phase_is_known() -> None:
    other: Any = "C"
    with pytest.raises(SpecMismatch, match="'C'"):
        make().parts(other)


OUT, INP = 24 + 40, 33 + 576


@pytest.mark.parametrize(
    ("phase", "dims"),
    [
        ("B", [4 * OUT, 4 * OUT, 8 * OUT]),
        ("A", [4 * INP, 4 * INP, 8 * INP]),
        ("M", [2 * 16, 2 * (64 - 16), 2 * (256 - 64)]),
        ("AB", [4 * (OUT + INP), 4 * (OUT + INP), 8 * (OUT + INP)]),
    ],
)
def test_the_shells_of_a_phase_hold_all_that_it_trains(phase: Phase, dims: list[int]) -> None:
    spec = make()
    assert [spec.dim(shell, phase) for shell in spec.shells] == dims
    assert sum(dims) == sum(part.rows * part.cols for part in spec.parts(phase))


def test_an_upload_of_phase_m_is_small_at_the_size_of_mimo_7b() -> None:
    shapes = {"q": (4096, 4096), "k": (1024, 4096), "v": (1024, 4096), "o": (4096, 4096)}
    shapes |= {"gate": (11008, 4096), "up": (11008, 4096), "down": (4096, 11008)}
    modules = tuple(
        Module(f"model.layers.{layer}.{name}_proj", *shape)
        for layer in range(36)
        for name, shape in shapes.items()
    )
    spec = make(modules)
    total = {phase: sum(spec.dim(shell, phase) for shell in spec.shells) for phase in FACTORS}
    assert total == {"B": 20_938_752, "A": 20_496_384, "M": 64_512, "AB": 41_435_136}


@pytest.mark.parametrize("rank", [0, 3, 5, 17])
def test_a_rank_between_shells_is_refused(rank: int) -> None:
    with pytest.raises(SpecMismatch, match=str(rank)):
        make().shells_of(rank)


@pytest.mark.parametrize("shells", [(), (0, 16), (4, 4, 16), (8, 4, 16), (4, 8), (-1, 16)])
def test_shells_must_ascend_to_the_rank(shells: tuple[int, ...]) -> None:
    with pytest.raises(SpecMismatch):
        make(shells=shells)


@pytest.mark.parametrize("modules", [(), (Q, Q), (Q, Module("x", 15, 99)), (Module("x", 16, 0),)])
def test_modules_must_be_distinct_and_no_smaller_than_the_rank(modules: tuple[Module, ...]) -> None:
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
        make(rank=8, shells=(4, 8)),
        make(targets="x"),
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
        lambda raw: raw | {"modules": [["a", 15, 99]]},
        lambda raw: raw | {"config": raw["config"] | {"basis_epoch": 0}},
        lambda raw: raw | {"config": raw["config"] | {"shells": [4, 8]}},
        lambda raw: [raw],
    ],
)
def test_a_spoiled_spec_is_refused(spoil: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(SpecMismatch):
        AdapterSpec.from_json(json.dumps(spoil(json.loads(make().to_json()))).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"null", b"[" * 200_000])
def test_bytes_that_are_no_spec_are_refused(data: bytes) -> None:
    with pytest.raises(SpecMismatch):
        AdapterSpec.from_json(data)
