"""Rounds that train other factors than B, devices of few steps, and rounds of cohorts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mimo_fed.config import Phase, TrainConfig
from mimo_fed.errors import LocalProtocolError, RoundAborted
from mimo_fed.privacy import clip
from mimo_fed.round.device import TrainedUpdate
from mimo_fed.round.layout import Layout, ShellMean
from mimo_fed.round.prepare import to_vectors
from mimo_fed.round.records import Plan
from tests.simulators.fleet import SPEC, MemoryFleet, MemoryStore
from tests.unit.round.test_round import (
    CONFIG,
    PLAN,
    assert_means,
    expected_means,
    manifest_of,
    refusal,
    run,
)

SHELL = SPEC.shells[0]


def plan_of(**train: object) -> Plan:
    config = replace(CONFIG, train=replace(CONFIG.train, **train))  # type: ignore[arg-type]
    return replace(PLAN, config=config)


@pytest.mark.parametrize("phase", ["B", "A", "M", "AB"])
def test_every_phase_gives_the_weighted_mean_of_every_shell(phase: Phase, tmp_path: Path) -> None:
    fleet, plan = MemoryFleet(tmp_path), plan_of(phase=phase)
    outcome = run(fleet, MemoryStore(), plan, tmp_path)
    assert_means(outcome, expected_means(fleet, set(fleet.devices), plan.config), plan.config)
    assert {n: m.size for n, m in outcome.means.items()} == {s.name: SPEC.dim(s, phase) for s in SPEC.shells}


def test_devices_of_few_steps_do_not_pull_the_mean_towards_nothing(tmp_path: Path) -> None:
    plan = plan_of(normalise_steps=True, num_steps=8)
    fleet = MemoryFleet(tmp_path)
    for i, device in enumerate(fleet.devices.values()):
        device.num_steps = 2 + i % 3
    outcome = run(fleet, MemoryStore(), plan, tmp_path)
    for shell in SPEC.shells:
        total, weight, weighted_steps = np.zeros(SPEC.dim(shell, "B")), 0, 0
        for device in fleet.devices.values():
            if shell in SPEC.shells_of(device.rank):
                update = device.trained[-1]
                vectors, _, _ = clip(to_vectors(SPEC, plan.config.train, update, device.rank), 0.5)
                total += update.weight * vectors[shell.name].astype(np.float64)
                weight += update.weight
                weighted_steps += update.weight * update.num_steps
        expected = total / weight * (weighted_steps / weight / 8)
        np.testing.assert_allclose(outcome.means[shell.name], expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("num_steps", [0, 5])
def test_an_update_of_no_step_or_too_many_is_not_sent(num_steps: int) -> None:
    update = TrainedUpdate(delta={}, weight=1, num_steps=num_steps, loss_before=1.0, loss_after=1.0)
    with pytest.raises(LocalProtocolError, match=f"took {num_steps} of 4 steps"):
        to_vectors(SPEC, TrainConfig(num_steps=4), update, 4)


@pytest.mark.parametrize("weighted_steps", [0, 6])
def test_steps_that_no_honest_devices_took_are_implausible(weighted_steps: int) -> None:
    config = replace(CONFIG, train=TrainConfig(num_steps=2))
    encoding = Layout(spec=SPEC, config=config, round_id="r", n_max=8).encoding(SHELL)
    lied = encoding.encode(np.zeros(encoding.vector.dim, np.float32), 2, 2).astype(np.float64)
    at = encoding.vector.length
    lied[at:] = encoding.weight.encode({"weight": 2.0, "weighted_steps": float(weighted_steps)})
    with pytest.raises(RoundAborted, match="weighted steps"):
        encoding.decode(lied, 1, 16)


def test_what_a_shell_says_is_read_back() -> None:
    encoding = Layout(spec=SPEC, config=CONFIG, round_id="r", n_max=8).encoding(SHELL)
    update_D = np.full(encoding.vector.dim, 0.01, np.float32)
    read = encoding.decode(_centred(encoding.encode(update_D, 3, 2)), 1, 16)
    assert isinstance(read, ShellMean)
    assert (read.weight, round(read.weighted_steps)) == (3, 6)
    np.testing.assert_allclose(read.mean, update_D, atol=1e-6)


def _centred(written: np.ndarray) -> np.ndarray:
    values = written.astype(np.int64)
    return np.where(values > 2147352577 // 2, values - 2147352577, values).astype(np.float64)


def test_a_round_of_a_cohort_is_declined_by_the_others(tmp_path: Path) -> None:
    cohorts = {f"device-{i + 1}": "it" if i % 2 else "fr" for i in range(8)}
    fleet = MemoryFleet(tmp_path, lost=lambda stage, device: stage == "hello" and cohorts[device] == "fr")
    for name, device in fleet.devices.items():
        device.cohort = cohorts[name]
    plan, store = replace(PLAN, config=replace(CONFIG, cohort="it")), MemoryStore()
    outcome = run(fleet, store, plan, tmp_path)
    assert outcome.result.survivors == ("device-2", "device-4", "device-6", "device-8")
    fleet.devices["device-1"].cohort = "it"
    fleet.devices["device-2"].cohort = "fr"
    other = manifest_of(fleet, replace(plan, round_id="train-2-aa", sequence=2), tmp_path)
    assert refusal(fleet, other, "device-2") == "round trains the adapter of another cohort: it"
    assert len(fleet.devices["device-2"].trained) == 1
