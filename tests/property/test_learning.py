"""From trained deltas to the next adapter: what a sum says is what its contributors said."""

import math
from typing import Literal, NamedTuple

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimo_fed.adapter import (
    AdapterSpec,
    GlobalAdapter,
    Module,
    Part,
    delta_to_shells,
    prefix,
    shells_mask,
    shells_to_delta,
)
from mimo_fed.aggregate import ServerState, advance, fed_nova_scale
from mimo_fed.config import AdapterConfig, Phase, PrivacyConfig, RoundConfig, ServerConfig, TrainConfig
from mimo_fed.privacy import MODULUS, clip, flatten
from mimo_fed.round.layout import Layout

F64 = NDArray[np.float64]
Delta = dict[str, NDArray[np.float32]]
Linear = Literal["B", "A", "M"]
SEEDS = st.integers(0, 2**32 - 1)
LINEAR: tuple[Linear, ...] = ("B", "A", "M")
PHASES: tuple[Phase, ...] = (*LINEAR, "AB")
NUM_STEPS = 8


class Trained(NamedTuple):
    """What one device did."""

    rank: int
    weight: int
    num_steps: int
    delta: Delta


@st.composite
def specs(draw: st.DrawFn) -> AdapterSpec:
    """Small adapters: one to three modules, one to three shells."""
    shells = tuple(sorted(draw(st.sets(st.integers(1, 12), min_size=1, max_size=3))))
    side = st.integers(max(4, shells[-1]), shells[-1] + 40)
    sizes = draw(st.lists(st.tuples(side, side), min_size=1, max_size=3))
    return AdapterSpec(
        base_fingerprint="ab" * 32,
        modules=tuple(Module(f"model.layers.{i}.x", out, inp) for i, (out, inp) in enumerate(sizes)),
        config=AdapterConfig(rank=shells[-1], shells=shells, seed=draw(st.integers(0, 2**40))),
    )


def random_adapter(spec: AdapterSpec, rng: np.random.Generator) -> GlobalAdapter:
    """An adapter on no particular basis, every X of which has entries of size 1 or so."""
    rank = spec.config.rank

    def side(rows: int, cols: int) -> NDArray[np.float32]:
        return (rng.normal(size=(rows, cols)) / math.sqrt(rank)).astype(np.float32)

    return GlobalAdapter(
        spec=spec,
        epoch=0,
        left={m.name: side(m.out, rank) for m in spec.modules},
        core={m.name: side(rank, rank) for m in spec.modules},
        right={m.name: side(rank, m.inp) for m in spec.modules},
    )


def random_delta(spec: AdapterSpec, phase: Phase, rank: int, rng: np.random.Generator) -> Delta:
    """A delta about as large as X, whose parts differ threefold in size."""
    return {
        part.name: (
            rng.normal(size=prefix(part, np.empty((part.rows, part.cols)), rank).shape)
            * 10 ** rng.uniform(-0.5, 0)
        ).astype(np.float32)
        for part in spec.parts(phase)
    }


@st.composite
def fleets(draw: st.DrawFn, spec: AdapterSpec, phase: Phase, num_min: int = 1) -> list[Trained]:
    """Devices of mixed ranks, weights and step counts."""
    rng = np.random.default_rng(draw(SEEDS))
    kinds = st.tuples(st.sampled_from(spec.config.shells), st.integers(1, 16), st.integers(1, NUM_STEPS))
    drawn = draw(st.lists(kinds, min_size=num_min, max_size=6))
    return [Trained(r, weight, steps, random_delta(spec, phase, r, rng)) for r, weight, steps in drawn]


def means_of(spec: AdapterSpec, phase: Phase, fleet: list[Trained]) -> dict[str, F64]:
    """What the coordinator opens, in plain floats."""
    sums: dict[str, F64] = {}
    for rank, weight, _, delta in fleet:
        for name, vector_D in delta_to_shells(spec, phase, delta, rank).items():
            sums[name] = sums.get(name, np.zeros(vector_D.size)) + weight * vector_D.astype(np.float64)
    held = {s.name: sum(d.weight for d in fleet if d.rank >= s.high) for s in spec.shells}
    return {name: total / held[name] for name, total in sums.items()}


def product(adapter: GlobalAdapter, module: str) -> F64:
    """Return dW of a module."""
    left, core, right = (
        getattr(adapter, side)[module].astype(np.float64) for side in ("left", "core", "right")
    )
    dw: F64 = left @ core @ right
    return dw


def entry_by_entry(part: Part, start: NDArray[np.float32], fleet: list[Trained]) -> F64:
    """The weighted mean of what the devices that hold an entry trained it to; written without shells."""
    mean = start.astype(np.float64)
    for row, col in np.ndindex(part.rows, part.cols):
        needed = {"B": col, "A": row, "M": max(row, col)}[part.factor]
        holders = [d for d in fleet if d.rank > needed]
        if holders:
            trained = [float(start[row, col]) + float(d.delta[part.name][row, col]) for d in holders]
            mean[row, col] = np.average(trained, weights=[d.weight for d in holders])
    return mean


def wanted_product(adapter: GlobalAdapter, phase: Linear, module: str, mean: F64) -> F64:
    """Return dW with the mean for X."""
    left, right = adapter.left[module].astype(np.float64), adapter.right[module].astype(np.float64)
    if phase == "B":
        dw: F64 = mean @ right
    else:
        dw = left @ mean if phase == "A" else left @ mean @ right
    return dw


def fedit_wanted(adapter: GlobalAdapter, module: str, fleet: list[Trained]) -> F64:
    """The mean of the products that FedIT's devices hold: column by column, over those who hold it."""
    b = adapter.values("AB")[f"{module}.B"].astype(np.float64)
    a = adapter.values("AB")[f"{module}.A"].astype(np.float64)
    dw = b @ a
    for j in range(b.shape[1]):
        holders = [d for d in fleet if d.rank > j]
        if not holders:
            continue
        trained = [
            np.outer(b[:, j] + d.delta[f"{module}.B"][:, j], a[j] + d.delta[f"{module}.A"][j])
            for d in holders
        ]
        dw += np.average(trained, axis=0, weights=[d.weight for d in holders]) - np.outer(b[:, j], a[j])
    return dw


def relative(got: F64, wanted: F64, start: F64) -> float:
    """Return the error of a dW, relative to itself or to how far it should have moved, the larger of the two.

    Devices that pull opposite ways move it by next to nothing, where float32 cannot say the rest.
    """
    size = max(np.linalg.norm(wanted), np.linalg.norm(wanted - start))
    return float(np.linalg.norm(got - wanted) / size)


def take_step(
    adapter: GlobalAdapter, phase: Phase, means: dict[str, F64], next_phase: Phase | None = None
) -> GlobalAdapter:
    return advance(
        adapter,
        phase,
        means,
        state=ServerState.empty(phase),
        config=ServerConfig(),
        next_phase=next_phase or phase,
    ).adapter


def centred(total: NDArray[np.int64]) -> F64:
    residues = total % MODULUS
    return np.where(residues > MODULUS // 2, residues - MODULUS, residues).astype(np.float64)


@settings(max_examples=40, deadline=None)
@given(spec=specs(), phase=st.sampled_from(LINEAR), data=st.data(), seed=SEEDS)
def test_the_aggregate_is_the_weighted_mean_of_what_the_devices_with_a_shell_trained(
    spec: AdapterSpec, phase: Linear, data: st.DataObject, seed: int
) -> None:
    fleet = data.draw(fleets(spec, phase))
    adapter = random_adapter(spec, np.random.default_rng(seed))
    after = take_step(adapter, phase, means_of(spec, phase, fleet))
    for part in spec.parts(phase):
        mean = entry_by_entry(part, adapter.values(phase)[part.name], fleet)
        got, start = product(after, part.module), product(adapter, part.module)
        assert relative(got, wanted_product(adapter, phase, part.module, mean), start) < 1e-6


@settings(max_examples=25, deadline=None)
@given(spec=specs(), data=st.data(), seed=SEEDS)
def test_where_fedit_is_wrong_by_percents_a_phase_is_exact(
    spec: AdapterSpec, data: st.DataObject, seed: int
) -> None:
    """On one draw of ranks and weights: two factors averaged apart, and one factor at a time."""
    fleet = data.draw(fleets(spec, "AB", num_min=2))
    adapter = random_adapter(spec, np.random.default_rng(seed))
    after = take_step(adapter, "AB", means_of(spec, "AB", fleet))
    errors = {"fedit": 0.0, "B": 0.0, "A": 0.0}
    for module in (m.name for m in spec.modules):
        start = product(adapter, module)
        error = relative(product(after, module), fedit_wanted(adapter, module, fleet), start)
        errors["fedit"] = max(errors["fedit"], error)
        for phase in ("B", "A"):
            alone = [d._replace(delta=only(d.delta, phase)) for d in fleet]
            (part,) = (p for p in spec.parts(phase) if p.module == module)
            mean = entry_by_entry(part, adapter.values(phase)[part.name], alone)
            got = product(take_step(adapter, phase, means_of(spec, phase, alone)), module)
            error = relative(got, wanted_product(adapter, phase, module, mean), start)
            errors[phase] = max(errors[phase], error)
    event(f"FedIT is wrong by 1e{math.floor(math.log10(errors['fedit']))}")
    assert errors["fedit"] > 1e-2
    assert max(errors["B"], errors["A"]) < 1e-6


def only(delta: Delta, factor: str) -> Delta:
    return {name: values for name, values in delta.items() if name.endswith(f".{factor}")}


def test_fedit_s_error_on_one_draw_of_mixed_ranks() -> None:
    """The figure that stands beside ours: 24 devices of ranks 4, 8 and 16 on one module of 64 x 48."""
    spec = AdapterSpec(
        base_fingerprint="ab" * 32, modules=(Module("x", 64, 48),), config=AdapterConfig(shells=(4, 8, 16))
    )
    rng = np.random.default_rng(7)
    ranks, weights = rng.choice((4, 8, 16), 24).tolist(), rng.integers(1, 17, 24).tolist()
    fleet = [
        Trained(rank, weight, 1, random_delta(spec, "AB", rank, rng))
        for rank, weight in zip(ranks, weights, strict=True)
    ]
    adapter = random_adapter(spec, rng)
    fedit = relative(
        product(take_step(adapter, "AB", means_of(spec, "AB", fleet)), "x"),
        fedit_wanted(adapter, "x", fleet),
        product(adapter, "x"),
    )
    ours = 0.0
    for phase in LINEAR:
        alone = [d._replace(delta=random_delta(spec, phase, d.rank, rng)) for d in fleet]
        mean = entry_by_entry(spec.parts(phase)[0], adapter.values(phase)[f"x.{phase}"], alone)
        got = product(take_step(adapter, phase, means_of(spec, phase, alone)), "x")
        error = relative(got, wanted_product(adapter, phase, "x", mean), product(adapter, "x"))
        ours = max(ours, error)
    print(f"error of the mean, relative to the step: FedIT {fedit:.3g}, a phase at a time {ours:.2g}")
    assert fedit > 1e-2 > 1e-6 > ours


@settings(max_examples=25, deadline=None)
@given(spec=specs(), phase=st.sampled_from(LINEAR), data=st.data(), seed=SEEDS)
def test_the_next_phase_begins_with_the_same_dw(
    spec: AdapterSpec, phase: Linear, data: st.DataObject, seed: int
) -> None:
    fleet = data.draw(fleets(spec, phase))
    adapter = random_adapter(spec, np.random.default_rng(seed))
    means = means_of(spec, phase, fleet)
    other = data.draw(st.sampled_from([p for p in LINEAR if p != phase]))
    stayed, moved = take_step(adapter, phase, means), take_step(adapter, phase, means, other)
    assert moved.epoch == stayed.epoch + 1
    for module in (m.name for m in spec.modules):
        before, after = product(stayed, module), product(moved, module)
        assert np.linalg.norm(after - before) < 1e-6 * np.linalg.norm(before)


@settings(max_examples=15, deadline=None)
@given(spec=specs(), phase=st.sampled_from(PHASES), data=st.data(), seed=SEEDS, normalise=st.booleans())
def test_a_round_in_the_production_s_integers_lands_within_the_stated_tolerance(
    spec: AdapterSpec, phase: Phase, data: st.DataObject, seed: int, normalise: bool
) -> None:
    """Clip, encode, add modulo q, decode, step: against plain floats on the same clipped updates."""
    fleet = data.draw(fleets(spec, phase, num_min=2))
    layout = Layout(
        spec=spec,
        config=RoundConfig(
            train=TrainConfig(phase=phase, num_steps=NUM_STEPS, normalise_steps=normalise),
            adapter=spec.config,
            privacy=PrivacyConfig(clip_norm=1.0),
        ),
        round_id="round-1",
        n_max=len(fleet),
    )
    totals: dict[str, NDArray[np.int64]] = {}
    lost: dict[str, float] = {}
    sent: list[Trained] = []
    for rank, weight, steps, delta in fleet:
        factor = np.float32(NUM_STEPS / steps if normalise else 1.0)
        vectors = delta_to_shells(spec, phase, {n: d * factor for n, d in delta.items()}, rank)
        clipped, _, _ = clip(vectors, 1.0)
        for shell in spec.shells_of(rank):
            encoding = layout.encoding(shell)
            zero = np.zeros(encoding.length, np.int64)
            totals[shell.name] = totals.get(shell.name, zero) + encoding.encode(
                clipped[shell.name], weight, steps
            )
            flat = flatten(clipped[shell.name].astype(np.float64), encoding.vector.seed)
            beyond = np.maximum(np.abs(flat) - encoding.vector.c_inf, 0)
            lost[shell.name] = lost.get(shell.name, 0.0) + weight * float(np.linalg.norm(beyond))
        sent.append(Trained(rank, weight, steps, as_delta(spec, phase, clipped, rank)))
    wanted = means_of(spec, phase, sent)
    for shell in spec.shells:
        holders = [d for d in fleet if d.rank >= shell.high]
        if not holders:
            continue
        encoding = layout.encoding(shell)
        said = encoding.decode(centred(totals[shell.name]), len(holders), 32)
        assert said.weight == sum(d.weight for d in holders)
        taken = sum(d.weight * d.num_steps for d in holders)
        assert said.weighted_steps == pytest.approx(taken, rel=1e-5)
        rounding = encoding.vector.tolerance(len(holders), 32) * math.sqrt(encoding.vector.length)
        allowed = (lost[shell.name] + rounding) / said.weight + 1e-6
        assert np.linalg.norm(said.mean - wanted[shell.name]) <= allowed
        scale = fed_nova_scale(said.weighted_steps, said.weight, NUM_STEPS) if normalise else 1.0
        assert scale == pytest.approx(taken / said.weight / NUM_STEPS if normalise else 1.0, rel=1e-5)


def as_delta(spec: AdapterSpec, phase: Phase, shells: dict[str, NDArray[np.float32]], rank: int) -> Delta:
    """Put a device's clipped shells back into matrices of its prefix."""
    whole = shells_to_delta(spec, phase, shells)
    return {p.name: prefix(p, whole[p.name].astype(np.float32), rank) for p in spec.parts(phase)}


@settings(max_examples=30, deadline=None)
@given(spec=specs(), phase=st.sampled_from(PHASES), data=st.data(), seed=SEEDS)
def test_cutting_into_shells_loses_nothing(
    spec: AdapterSpec, phase: Phase, data: st.DataObject, seed: int
) -> None:
    rank = data.draw(st.sampled_from(spec.config.shells))
    delta = random_delta(spec, phase, rank, np.random.default_rng(seed))
    vectors = delta_to_shells(spec, phase, delta, rank)
    again = as_delta(spec, phase, vectors, rank)
    filled = shells_mask(spec, phase, vectors)
    for part in spec.parts(phase):
        np.testing.assert_array_equal(again[part.name], delta[part.name])
        assert filled[part.name].sum() == delta[part.name].size


@settings(max_examples=30, deadline=None)
@given(spec=specs(), seed=SEEDS)
def test_released_bytes_round_trip(spec: AdapterSpec, seed: int) -> None:
    adapter = random_adapter(spec, np.random.default_rng(seed))
    again = GlobalAdapter.from_safetensors(adapter.to_safetensors(), AdapterSpec.from_json(spec.to_json()))
    assert again.to_safetensors() == adapter.to_safetensors()
