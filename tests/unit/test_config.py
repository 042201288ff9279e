"""Round settings and schedules: one digest a value, nothing unknown, phases in turn."""

import json
from dataclasses import replace
from typing import Any

import pytest

from mimo_fed.config import (
    AdapterConfig,
    Phase,
    PrivacyConfig,
    RoundConfig,
    ScheduleConfig,
    SecureSumConfig,
    ServerConfig,
    TrainConfig,
    from_dict,
)
from mimo_fed.errors import ConfigError

CONFIGS = [
    RoundConfig(),
    RoundConfig(kind="evaluate"),
    RoundConfig(cohort="it"),
    RoundConfig(server=ServerConfig(optimizer="fedadam")),
    RoundConfig(secure_sum=SecureSumConfig(committee="helper")),
    RoundConfig(train=TrainConfig(phase="M")),
    RoundConfig(train=TrainConfig(normalise_steps=True)),
    RoundConfig(adapter=AdapterConfig(shells=(2, 16))),
    RoundConfig(privacy=PrivacyConfig(clip_norm=2.0)),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_json_round_trip(config: RoundConfig) -> None:
    again = RoundConfig.from_json(config.to_json())
    assert again == config
    assert again.digest() == config.digest()


def test_every_setting_moves_the_digest() -> None:
    assert len({config.digest() for config in CONFIGS}) == len(CONFIGS)


@pytest.mark.parametrize("table", [None, "train", "adapter", "privacy", "secure_sum", "server"])
def test_an_unknown_setting_is_refused_by_its_name(table: str | None) -> None:
    raw = json.loads(RoundConfig().to_json())
    (raw if table is None else raw[table])["basis_epoch"] = 0
    with pytest.raises(ConfigError, match="basis_epoch"):
        RoundConfig.from_json(json.dumps(raw).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"null", b"[]", b'{"train": 3}', b"[" * 200_000])
def test_bytes_that_are_no_settings_are_refused(data: bytes) -> None:
    with pytest.raises(ConfigError):
        RoundConfig.from_json(data)


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("train", "phase", "C"),
        ("train", "phase", ["B"]),
        ("train", "num_steps", "4"),
        ("train", "num_steps", 1.5),
        ("train", "num_steps", True),
        ("train", "num_steps", 10**400),
        ("train", "batch_size", None),
        ("train", "normalise_steps", 1),
        ("train", "learning_rate", float("nan")),
        ("train", "learning_rate", "fast"),
        ("privacy", "clip_norm", float("inf")),
        ("privacy", "clip_norm", 10**400),
        ("secure_sum", "suite", "rot13"),
        ("secure_sum", "num_groups", 5.0),
        ("adapter", "shells", [4, "8"]),
        ("adapter", "shells", 4),
        ("server", "optimizer", {}),
        (None, "kind", "guess"),
        (None, "cohort", 3),
        (None, "n_min", "16"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_name(table: str | None, key: str, value: object) -> None:
    raw = json.loads(RoundConfig().to_json())
    (raw if table is None else raw[table])[key] = value
    with pytest.raises(ConfigError, match=key if table is None else rf"{table}\.{key}"):
        RoundConfig.from_json(json.dumps(raw).encode())


def test_a_whole_number_is_a_number_too() -> None:
    assert from_dict(PrivacyConfig, {"clip_norm": 2}) == PrivacyConfig(clip_norm=2)


@pytest.mark.parametrize(
    ("cycle", "phases"),
    [("BAMMMMMM", "BAMMMMMMBAMM"), ("BA", "BABABABABABA"), ("B", "BBBBBBBBBBBB"), ("M", "MMMMMMMMMMMM")],
)
def test_a_schedule_goes_through_its_phases_over_and_over(cycle: str, phases: str) -> None:
    schedule = ScheduleConfig(cycle=cycle)
    assert "".join(schedule.phase(index) for index in range(12)) == phases


def test_ab_is_one_phase_and_not_two() -> None:
    assert {ScheduleConfig(cycle="AB").phase(index) for index in range(4)} == {"AB"}


@pytest.mark.parametrize("cycle", ["", "C", "ABC", "b", "B A", "BM2"])
def test_a_cycle_of_other_phases_is_refused(cycle: str) -> None:
    with pytest.raises(ConfigError, match="cycle"):
        ScheduleConfig(cycle=cycle)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["a_rate", "m_rate"])
def test_a_rate_that_trains_nothing_is_refused(name: str, rate: float) -> None:
    rates: dict[str, Any] = {name: rate}
    with pytest.raises(ConfigError, match="rates"):
        ScheduleConfig(**rates)


@pytest.mark.parametrize(("phase", "rate"), [("B", 1.0), ("A", 3.0), ("M", 5.0), ("AB", 1.0)])
def test_each_phase_has_its_rate(phase: Phase, rate: float) -> None:
    assert ScheduleConfig(a_rate=3.0, m_rate=5.0).rate(phase) == rate


def test_a_round_takes_phase_and_learning_rate_from_the_schedule_and_leaves_the_rest() -> None:
    config = RoundConfig(n_min=3, train=TrainConfig(learning_rate=0.5, num_steps=7))
    schedule = ScheduleConfig(cycle="BAM", a_rate=2.0, m_rate=8.0)
    rounds = [schedule.round(config, index).train for index in range(3)]
    assert [(train.phase, train.learning_rate) for train in rounds] == [("B", 0.5), ("A", 1.0), ("M", 4.0)]
    assert schedule.round(config, 3) == config
    third = schedule.round(config, 2)
    assert replace(third, train=replace(third.train, phase="B", learning_rate=0.5)) == config


def test_a_schedule_is_read_from_a_table() -> None:
    assert from_dict(ScheduleConfig, {"cycle": "BA"}) == ScheduleConfig(cycle="BA")
    for bad in ({"cycle": "X"}, {"cycle": 3}, {"m_rate": "fast"}, {"phases": "BA"}):
        with pytest.raises(ConfigError):
            from_dict(ScheduleConfig, bad)
