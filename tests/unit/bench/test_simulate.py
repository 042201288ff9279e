from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from mimo_fed.bench.clock import Samples
from mimo_fed.bench.progress import Bar
from mimo_fed.bench.simulate import Settings, figures, goals, make_jobs, run
from mimo_fed.config import TrainConfig


def settings(**changes: Any) -> Settings:
    given: dict[str, Any] = {
        "base": "mimo-nano",
        "devices": (2, 3),
        "train": TrainConfig(batch_size=1, seq_len=8, num_steps=2),
        "repeat": 1,
        "tokens_per_pass": 16,
    }
    return Settings(**(given | changes))


def test_rates_are_steps_over_seconds_and_speedups_their_ratios() -> None:
    samples = {
        "batched 2": Samples(parts={"all": [0.5, 9.0, 0.1]}),
        "batched 3": Samples(parts={"all": [0.25]}),
        "warm": Samples(parts={"all": [4.0]}),
        "fresh": Samples(parts={"all": [8.0]}),
    }
    found = figures(samples, settings())
    assert found["steps_per_s"]["batched"] == {"2": 8, "3": 24}
    assert found["steps_per_s"]["sequential"] == {"2": 4, "3": 4}
    assert found["steps_per_s"]["fresh"] == 0.5
    assert found["speedup"] == {"2": 2, "3": 6}
    assert found["speedup_fresh"] == {"2": 16, "3": 48}
    del samples["fresh"]
    assert "speedup_fresh" not in figures(samples, settings())


def test_goals_are_those_of_the_base() -> None:
    warm, fresh = goals("mimo-nano", 64)
    assert warm.judge({"speedup": {"64": 3.9}})["met"] is False
    assert warm.judge({"speedup": {"64": 4.0}})["met"] is True
    assert fresh.judge({})["met"] is None
    assert [goal.text for goal in goals("mimo-smol", 8)] == [">= 1.3"]
    assert goals("a/folder", 8) == []


def test_devices_differ_and_are_the_same_in_every_run() -> None:
    jobs = make_jobs(4, 3)
    assert len({job.texts for job in map(_frozen, jobs)}) == len({job.seed for job in jobs}) == 4
    assert [job.rank for job in jobs] == [4, 8, 16, 4]
    assert [job.texts for job in jobs] == [job.texts for job in make_jobs(4, 3)]


def _frozen(job: Any) -> Any:
    from dataclasses import replace

    return replace(job, texts=tuple(job.texts))


@pytest.mark.parametrize("fresh", [True, False])
def test_a_run_measures_every_way(fresh: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("MIMO_FED_CACHE", str(tmp_path))
    with Bar(Console(quiet=True)) as bar:
        document = run(settings(fresh=fresh), bar)
    assert set(document["speedup"]) == {"2", "3"}
    assert min(document["steps_per_s"]["batched"].values()) > 0
    assert ("fresh" in document["steps_per_s"]) is fresh
    assert document["sampled"] == ({"sequential": 8, "fresh": 2} if fresh else {"sequential": 8})
    assert [goal["met"] is None for goal in document["goals"]] == [False, not fresh]
