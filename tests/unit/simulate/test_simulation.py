"""Whole simulations on the nano base: real training, the real drivers, with encryption and without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mimo_fed.adapter import delta_to_shells
from mimo_fed.config import ScheduleConfig, SecureSumConfig, ServerConfig
from mimo_fed.data import DemoDevice
from mimo_fed.errors import ConfigError
from mimo_fed.model import Base
from mimo_fed.privacy import clip
from mimo_fed.round.layout import Layout
from mimo_fed.simulate.rounds import Played, Rounds
from mimo_fed.simulate.school import School, Turn
from mimo_fed.simulate.settings import SimulateSettings
from mimo_fed.simulate.simulation import Simulation
from tests.unit.simulate.conftest import ROUND, device_of

Make = Callable[..., list[DemoDevice]]
PLAIN = SimulateSettings(rounds=2, round=ROUND, encryption=False, held_out_bytes=64)


def without_time(history: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in history]


def play(base: Base, devices: list[DemoDevice], settings: SimulateSettings) -> tuple[Played, School, Turn]:
    """The first round alone, and what its devices trained."""
    simulation = Simulation(base, devices, settings)
    school = School(simulation.stack, simulation.devices, settings)
    adapter = simulation.adapter
    turn = Turn(
        sequence=2,
        config=settings.config_of("", 0, len(devices)),
        adapter=adapter,
        shared=adapter,
        cohorts={},
    )
    played = Rounds(school, settings).play(turn, frozenset(school.devices), {})
    return played, school, turn


def weighted_means(school: School, turn: Turn, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What the devices' updates average to, from the same training done again."""
    school.begin(turn)
    school.expect(names)
    sums: dict[str, np.ndarray] = {}
    weights: dict[str, int] = {}
    for name in names:
        update = school.update(name)
        shells = delta_to_shells(turn.spec, turn.config.train.phase, update.delta, school.rank(name))
        vectors, _, _ = clip(shells, turn.config.privacy.clip_norm)
        for shell, vector in vectors.items():
            sums[shell] = sums.get(shell, 0.0) + update.weight * vector.astype(np.float64)
            weights[shell] = weights.get(shell, 0) + update.weight
    return {shell: total / weights[shell] for shell, total in sums.items()}


def test_without_encryption_the_mean_is_that_of_the_devices(nano: Base, devices: Make) -> None:
    played, school, turn = play(nano, devices(), PLAIN)
    expected = weighted_means(school, turn, played.outcome.result.survivors)
    assert set(played.outcome.means) == set(expected) == {"r1-4", "r5-8"}
    weights = [school.devices[name].rank for name in played.outcome.result.survivors]
    assert set(weights) == {4, 8}
    for shell, mean_D in played.outcome.means.items():
        error = np.linalg.norm(mean_D - expected[shell]) / np.linalg.norm(expected[shell])
        assert error < 1e-6


@pytest.mark.parametrize("committee", ["all", "helper"])
def test_encryption_changes_the_mean_by_no_more_than_the_encoding_says(
    nano: Base, devices: Make, committee: str
) -> None:
    secure = SecureSumConfig(suite="classic", committee=committee)  # type: ignore[arg-type]
    settings = replace(PLAIN, round=replace(ROUND, secure_sum=secure), dropout=0.15)
    plain, _, turn = play(nano, devices(), settings)
    sealed, _, _ = play(nano, devices(), replace(settings, encryption=True))
    assert plain.outcome.cohort == sealed.outcome.cohort
    assert plain.outcome.dropouts == sealed.outcome.dropouts != ()
    assert plain.outcome.result.survivors == sealed.outcome.result.survivors
    assert plain.outcome.weights == sealed.outcome.weights
    assert sealed.outcome.losses == pytest.approx(plain.outcome.losses, abs=1e-3)
    manifest = sealed.outcome.manifest
    layout = Layout(spec=turn.spec, config=turn.config, round_id=manifest.round_id, n_max=manifest.n_max)
    for name, mean_D in sealed.outcome.means.items():
        encoding, weight = layout.encoding(turn.spec.shell(name)), sealed.outcome.weights[name]
        size = sealed.outcome.result.sums[name].num_devices
        std = encoding.vector.tolerance(size, layout.word_bits) / weight
        error = mean_D - plain.outcome.means[name]
        assert 0.5 * std < error.std() < 1.5 * std
        assert np.abs(error).max() < 6 * std < np.abs(mean_D).max()


def test_without_encryption_no_committee_bounds_the_number_of_devices(nano: Base) -> None:
    train = replace(ROUND.train, num_steps=1, seq_len=8)
    settings = replace(PLAIN, round=replace(ROUND, train=train), held_out_bytes=0)
    many = [replace(device_of(0, "it"), name=f"device-{number}") for number in range(70)]
    played, _, _ = play(nano, many, settings)
    assert len(played.outcome.result.survivors) == 70


def test_two_rounds_lower_the_loss_and_follow_the_schedule(nano: Base, devices: Make) -> None:
    settings = replace(PLAIN, rounds=3, schedule=ScheduleConfig(cycle="BAM", m_rate=2.0))
    simulation = Simulation(nano, devices(), settings)
    simulation.run()
    assert [entry["phase"] for entry in simulation.history] == ["B", "A", "M"]
    before = [entry["loss_before"] for entry in simulation.history]
    assert before[2] < before[1] < before[0]
    assert simulation.adapter.epoch == 3
    floats = [entry["floats_up"] for entry in simulation.history]
    assert floats[2] < floats[1] / 4
    assert simulation.personals == {}


ADAM = ServerConfig(optimizer="fedadam", learning_rate=0.05)
EVERYTHING = replace(
    PLAIN,
    round=replace(ROUND, server=ADAM),
    schedule=ScheduleConfig(cycle="BM"),
    cohorts=("fr", "it"),
    choose_every=1,
    personal_steps=1,
    dropout=0.1,
    clip_target=0.5,
)
SEALED = replace(PLAIN, encryption=True, dropout=0.1, personal_steps=1)


@pytest.mark.parametrize("settings", [EVERYTHING, SEALED], ids=["everything", "sealed"])
def test_a_run_that_was_cut_short_goes_on_bit_for_bit(
    nano: Base, devices: Make, tmp_path: Path, settings: SimulateSettings
) -> None:
    whole = Simulation(nano, devices(), settings)
    whole.run()
    cut = Simulation(nano, devices(), settings, folder=tmp_path, progress=Cut())
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    again = Simulation(nano, devices(), settings, folder=tmp_path)
    assert len(again.history) == 1 + len(settings.cohorts)
    again.run()
    assert without_time(again.history) == without_time(whole.history)
    assert again.adapter.digest() == whole.adapter.digest()
    assert {n: a.digest() for n, a in again.cohorts.items()} == {
        n: a.digest() for n, a in whole.cohorts.items()
    }
    assert again.choices == whole.choices
    assert set(again.personals) == set(whole.personals) != set()
    for name, personal in whole.personals.items():
        assert again.personals[name].scale == personal.scale
        for module, factors in personal.factors.items():
            for one, other in zip(again.personals[name].factors[module], factors, strict=True):
                np.testing.assert_array_equal(one, other)
    done = Simulation(nano, devices(), settings, folder=tmp_path)
    done.run()
    assert done.history == again.history


class Cut:
    """The process is killed when the second round has begun."""

    def began(self, cohort: str, index: int, rounds: int, devices: int) -> None:
        if index == 1:
            raise KeyboardInterrupt

    def ended(self, entry: dict[str, object], rounds: int) -> None:
        pass


def test_other_settings_in_the_same_folder_are_refused(nano: Base, devices: Make, tmp_path: Path) -> None:
    settings = replace(PLAIN, rounds=1)
    Simulation(nano, devices(), settings, folder=tmp_path).run()
    other = replace(settings, seed=1)
    with pytest.raises(ConfigError, match="other settings"):
        Simulation(nano, devices(), other, folder=tmp_path)
    with pytest.raises(ConfigError, match="other settings"):
        Simulation(nano, devices(("it",) * 8), settings, folder=tmp_path)
    fresh = Simulation(nano, devices(), other, folder=tmp_path, fresh=True)
    assert fresh.history == []
    fresh.run()
    assert Simulation(nano, devices(), other, folder=tmp_path).adapter.digest() == fresh.adapter.digest()


def test_a_cohort_with_too_few_devices_stays_where_it_is(nano: Base, devices: Make) -> None:
    settings = replace(PLAIN, rounds=1, cohorts=("de", "fr", "it"))
    simulation = Simulation(nano, devices(), settings)
    simulation.run()
    by_cohort = {str(entry["cohort"]): entry for entry in simulation.history}
    assert "1" in str(by_cohort["de"]["aborted"])
    assert by_cohort["fr"]["survivors"] == 3
    assert by_cohort["it"]["survivors"] == 4
    cores = {name: max(abs(x).max() for x in a.core.values()) for name, a in simulation.cohorts.items()}
    assert cores["de"] == 0 < cores["fr"]


def test_personal_adapters_lower_the_loss_on_the_text_that_lambda_is_picked_on(
    nano: Base, devices: Make
) -> None:
    settings = replace(PLAIN, rounds=1, personal_steps=1, refresh_steps=8)
    simulation = Simulation(nano, devices(), settings)
    simulation.run()
    assert set(simulation.personals) == set(simulation.devices)
    texts = [d.corpus.validation for d in simulation.devices.values()]
    none = [None] * len(texts)
    alone = simulation.stack.losses(texts, simulation.adapter, none, none)
    own = simulation.stack.losses(texts, simulation.adapter, none, list(simulation.personals.values()))
    assert all(mine.nats <= shared.nats + 1e-3 for mine, shared in zip(own, alone, strict=True))
    assert sum(mine.nats for mine in own) < 0.98 * sum(shared.nats for shared in alone)


def test_devices_of_few_steps_pull_as_much_with_fed_nova(nano: Base, devices: Make) -> None:
    slow = replace(PLAIN, rounds=1, step_shares=(("watch", 0.5),))
    _, school, turn = play(nano, devices(), slow)
    school.begin(turn)
    school.expect(tuple(school.devices))
    steps = {name: school.update(name).num_steps for name in school.devices}
    assert {steps[name] for name, d in school.devices.items() if d.device_class == "watch"} == {1}
    assert {steps[name] for name, d in school.devices.items() if d.device_class == "phone"} == {2}
    train = replace(ROUND.train, normalise_steps=True)
    nova = replace(slow, round=replace(ROUND, train=train))
    assert set(play(nano, devices(), nova)[0].outcome.means) == {"r1-4", "r5-8"}


def test_a_sketch_of_two_sums_gives_the_mean_of_the_products(nano: Base) -> None:
    """Three devices of rank 4 fit in a sketch of width 16, and their mean has rank 12; 8 of it are kept."""
    small = [device_of(i, "it", rank=4) for i in range(3)]
    unclipped = replace(ROUND, privacy=replace(ROUND.privacy, clip_norm=50.0))
    settings = replace(PLAIN, rounds=1, method="sketch", schedule=ScheduleConfig(cycle="AB"), round=unclipped)
    simulation = Simulation(nano, small, settings)
    start = simulation.adapter
    simulation.run()
    assert simulation.history[0]["survivors"] == 3
    school = School(simulation.stack, simulation.devices, settings)
    config = settings.config_of("", 0, 3)
    school.begin(Turn(sequence=2, config=config, adapter=start, shared=start, cohorts={}))
    taught = school.teach_products(tuple(school.devices)).values()
    total = sum(update.weight for _, update in taught)
    for module, (left, right) in simulation.adapter.lora().items():
        products = [u.weight / total * (p[module][0] @ p[module][1]).astype(np.float64) for p, u in taught]
        u, s, vt = np.linalg.svd(np.sum(products, axis=0))
        best = (u[:, :8] * s[:8]) @ vt[:8]
        assert np.linalg.norm(left @ right - best) < 1e-4 * np.linalg.norm(best)
        assert s[12] < 1e-5 * s[0] < s[11]


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 64"):
        SimulateSettings(devices_per_round=65)
    SimulateSettings(devices_per_round=65, encryption=False)
    with pytest.raises(ConfigError, match="both factors"):
        SimulateSettings(method="sketch")
    with pytest.raises(ConfigError, match="vanish"):
        SimulateSettings(dropout=1.0)


def test_a_device_without_text_is_named_before_anything_is_trained(nano: Base, devices: Make) -> None:
    first, *others = devices()
    mute = replace(first, texts=tuple(text for text in first.texts if text.split != "train"))
    with pytest.raises(ConfigError, match=f"1 devices have no text to train on, the first: {first.name}"):
        Simulation(nano, [mute, *others], PLAIN)
    with pytest.raises(ConfigError, match="distinct names"):
        Simulation(nano, [first, first], PLAIN)
