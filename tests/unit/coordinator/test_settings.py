"""Settings of the coordinator with which no round could begin or open are refused before any does."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimo_fed.errors import ConfigError
from mimo_fed.secagg import Anchors
from mimo_fed_server.settings import load_settings

BASE = (
    'home = "h"\nkey_file = "k"\nanchors_file = "{anchors}"\nspec_file = "s"\nregistry_url = "http://x"\n'
    'registry_token_file = "t"\nsuperlink = "x:1"\n'
)


def load(folder: Path, text: str, *, helpers: int = 0, population: int = 0) -> object:
    anchors = Anchors(
        bytes(32),
        bytes([1] * 32),
        helpers=frozenset(bytes([9 + i] * 32) for i in range(helpers)),
        population=population,
    )
    (folder / "anchors.json").write_bytes(anchors.to_json())
    (folder / "coordinator.toml").write_text(BASE.format(anchors=folder / "anchors.json") + text)
    return load_settings(folder / "coordinator.toml")


@pytest.mark.parametrize(
    ("text", "extra"),
    [
        ("", {}),
        ('[round.secure_sum]\ncommittee = "helper"\n', {"helpers": 3}),
        ('[round]\nn_max = 1000\n[round.secure_sum]\ncommittee = "sampled"\n', {"population": 900}),
        (
            "min_devices = 90\n[round]\nn_max = 100\n[round.secure_sum]\n"
            'committee = "helper"\nnum_groups = 5\nrobust = "median"\n',
            {"helpers": 5},
        ),
        ("[pace]\nmin_s = 1.0\nmax_s = 10.0\n", {}),
    ],
)
def test_settings_of_every_kind_of_round_are_taken(tmp_path: Path, text: str, extra: dict[str, int]) -> None:
    assert load(tmp_path, text, **extra)


@pytest.mark.parametrize(
    ("text", "extra", "words"),
    [
        ("[round]\nn_max = 65\n", {}, "no round could have these"),
        ('[round.secure_sum]\nsuite = "rot13"\n', {}, "suite is not known: 'rot13'"),
        ('[round.secure_sum]\ncommittee = "helper"\n', {"helpers": 4}, "pins: 4"),
        ('[round.secure_sum]\ncommittee = "helper"\n', {}, "pins: 0"),
        ('[round.secure_sum]\ncommittee = "sampled"\n', {"population": 10}, "counts: 10"),
        ('[round.secure_sum]\nrobust = "median"\n', {}, "there are none: median"),
        ("[round.secure_sum]\nnum_groups = 4\n", {}, "random groups are 5 to"),
        ("[round.secure_sum]\nnum_groups = 5\n", {}, "5 groups of 16 need 80 devices"),
        ("[pace]\nmin_s = 9.0\nmax_s = 10.0\n", {}, "at most half of the longest"),
        ("[pace]\nfast = 1\n", {}, "unknown setting: fast"),
    ],
)
def test_settings_that_could_not_work_are_refused(
    tmp_path: Path, text: str, extra: dict[str, int], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, text, **extra)
