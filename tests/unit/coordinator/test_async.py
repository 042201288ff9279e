"""Rounds that end when others have gone on, and devices that are not needed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.aggregate import staleness_scale
from mimo_fed.config import ScheduleConfig
from mimo_fed.errors import RoundAborted
from mimo_fed.round.cohort import Pace
from mimo_fed_server.coordinator import MAX_ABORTED, CoordinatorProcess
from tests.simulators.fleet import SPEC
from tests.unit.coordinator.test_coordinator import Site, site  # noqa: F401


def norm_of_step(site: Site, releases: int, **change: object) -> float:  # noqa: F811
    """How far the adapter moved in a round during which others published so many releases."""
    site.settings = replace(site.settings, rounds=1, schedule=ScheduleConfig(cycle="B"), **change)  # type: ignore[arg-type]
    published: list[np.ndarray] = []

    def meanwhile(stage: str, device: str) -> bool:
        if stage == "open" and len(published) < releases:
            head = site.registry.latest("dev")
            assert head is not None
            adapter = GlobalAdapter.from_safetensors(site.registry.download(head), SPEC)
            values = {name: value + np.float32(0.5) for name, value in adapter.values("B").items()}
            publish(site, adapter.with_values("B", values).to_safetensors(), f"other-{len(published)}")
            published.append(next(iter(values.values())))
        return False

    site.fleet.lost = meanwhile
    site.run()
    record = site.registry.rounds()[0]
    assert record["staleness"] == releases
    number = record["release"]
    info = next(r for r in site.registry.releases() if r["number"] == number)
    head = site.registry.latest("dev")
    assert head is not None
    assert head.digest == info["digest"]
    moved = GlobalAdapter.from_safetensors(site.registry.download(head), SPEC).values("B")
    return float(np.sqrt(sum(np.square(f - 0.5 * releases).sum() for f in moved.values())))


def publish(site: Site, data: bytes, round_id: str) -> None:  # noqa: F811
    site.registry.publish(
        data,
        channel="dev",
        base_fingerprint=SPEC.base_fingerprint,
        basis_epoch=0,
        spec_digest=SPEC.digest(),
        round_id=round_id,
        quorum_digest="",
    )


def test_a_stale_mean_moves_what_is_there_by_now_and_moves_it_less(site: Site) -> None:  # noqa: F811
    judged = site.fleet.devices
    for device in judged.values():
        device.fetch = None  # the round's base is no longer the newest
        device.fetch_base = lambda digest: GlobalAdapter.zero(SPEC).to_safetensors()  # type: ignore[method-assign]
    moved = norm_of_step(site, 2)
    trained = [d.trained[0] for d in judged.values()]
    assert trained
    fresh = moved / staleness_scale(2)
    whole = float(np.sqrt(sum(np.square(b).sum() for t in trained for b in t.delta.values()))) / len(trained)
    assert 0.5 * whole < fresh < 2.5 * whole


def test_a_mean_of_another_basis_is_of_no_use(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    latest = site.registry.latest("dev")
    assert latest is not None
    monkeypatch.setattr(
        "mimo_fed_server.client.RegistryClient.latest", lambda *_: replace(latest, basis_epoch=1)
    )
    with pytest.raises(RoundAborted, match="another basis"):
        site.run()
    assert len(site.events("round.aborted")) == MAX_ABORTED["train"], "each time another round was tried"


def test_devices_that_are_not_needed_are_told_when_to_come_back(site: Site) -> None:  # noqa: F811
    site.settings = replace(
        site.settings,
        rounds=1,
        round=replace(site.settings.round, n_max=5),
        pace=Pace(min_s=10.0, max_s=100.0),
    )
    told: dict[str, float] = {}
    for name, contributor in site.fleet.contributors.items():
        contributor._rest = lambda seconds, name=name: told.__setitem__(name, seconds)  # type: ignore[misc]
    site.run()
    record = site.registry.rounds()[0]
    assert len(record["cohort"]) == 5
    assert set(told) == set(site.fleet.devices) - set(record["cohort"])
    assert all(10 <= seconds <= 100 for seconds in told.values())
    assert site.events("devices.rest")[0]["num"] == 3


def test_who_was_asked_is_kept_for_the_next_draw(site: Site) -> None:  # noqa: F811
    site.settings = replace(site.settings, round=replace(site.settings.round, n_max=5))
    site.run()
    process = CoordinatorProcess(lambda identify: site.fleet, site.settings)
    known = process._rounds.known_devices()
    process.close()
    asked = [set(r["cohort"]) for r in site.registry.rounds()]
    assert len(asked) == 4
    for device_id, candidate in known.items():
        assert candidate.num_rounds == sum(device_id in cohort for cohort in asked)
        assert candidate.num_contributed == candidate.num_rounds
    assert json.dumps(sorted(known)) == json.dumps(sorted(set().union(*asked)))
