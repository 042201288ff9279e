"""Rounds with other committees, random groups, and a number at which they open."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mimo_fed.config import SecureSumConfig
from mimo_fed.errors import PeerProtocolError, RoundAborted
from mimo_fed.events import EventLog
from mimo_fed.round import envelope
from mimo_fed.round.cohort import Candidate, write_rest
from mimo_fed.round.coordinate import Coordination
from mimo_fed.round.device import Policy
from mimo_fed.round.membership import prekey_request
from mimo_fed.round.outcome import Outcome
from mimo_fed.round.records import Plan
from mimo_fed.secagg import CLASSIC, make_manifest, verify_evidence, verify_manifest
from tests.simulators.fleet import NOW_S, SPEC, Killed, MemoryFleet, MemoryStore, SimulatedDevice, Stream
from tests.unit.round.test_round import CONFIG, PLAN, expected_means, manifest_of, run


def plan_of(secure: SecureSumConfig, **config: object) -> Plan:
    return replace(PLAN, config=replace(CONFIG, secure_sum=secure, **config))


HELPER = SecureSumConfig(suite="classic", committee="helper")
SAMPLED = SecureSumConfig(suite="classic", committee="sampled")
ENDLESS = SecureSumConfig(suite="classic", num_groups=1 << 50)


def assert_close(outcome: Outcome, expected: dict[str, np.ndarray]) -> None:
    assert set(outcome.means) == set(expected)
    for name, mean_D in outcome.means.items():
        assert np.linalg.norm(mean_D - expected[name]) < 0.05 * np.linalg.norm(expected[name])


def test_helpers_open_the_sums_of_devices_that_have_all_gone(tmp_path: Path) -> None:
    def lost(stage: str, device: str) -> bool:
        return device.startswith("device") and stage not in {"hello", "contribute"}

    fleet = MemoryFleet(tmp_path, helpers=5, lost=lost)
    outcome = run(fleet, MemoryStore(), plan_of(HELPER), tmp_path)
    assert outcome.cohort == tuple(sorted(fleet.devices))
    assert outcome.dropouts == ()
    assert_close(outcome, expected_means(fleet, set(fleet.devices)))
    audit = verify_evidence(outcome.result.evidence, fleet.anchors)
    assert (audit.mode, audit.num_members, audit.opened["statistics"]) == ("helper", 5, 8)
    assert {d for stage, d in fleet.asked if stage == "contribute"} == set(fleet.devices)


def test_a_helper_may_be_lost_after_the_shares(tmp_path: Path) -> None:
    fleet = MemoryFleet(tmp_path, helpers=5, lost=lambda s, d: d == "helper-2" and s in {"ballot", "open"})
    assert run(fleet, MemoryStore(), plan_of(HELPER), tmp_path).dropouts == ()


@pytest.mark.parametrize("stage", ["hello", "prekey"])
def test_a_helper_that_is_away_delays_the_round(tmp_path: Path, stage: str) -> None:
    clock = itertools.count(NOW_S, 5.0)
    fleet = MemoryFleet(
        tmp_path, helpers=3, lost=lambda s, d: (s, d) == (stage, "helper-1"), now_s=lambda: next(clock)
    )
    with pytest.raises(RoundAborted, match="helper organisations to begin with 3: 2"):
        run(fleet, MemoryStore(), plan_of(HELPER), tmp_path)
    assert not any(device.trained for device in fleet.devices.values())


def test_no_device_trains_before_enough_helpers_took_their_places(tmp_path: Path) -> None:
    fleet = MemoryFleet(tmp_path, helpers=3, lost=lambda stage, d: (stage, d) == ("join", "helper-1"))
    with pytest.raises(RoundAborted, match="too few members took their places, 3 must: 2"):
        run(fleet, MemoryStore(), plan_of(HELPER), tmp_path)
    assert not any(device.trained for device in fleet.devices.values())


def test_a_device_that_trusts_no_helpers_refuses(tmp_path: Path) -> None:
    policy = Policy(n_min_floor=3, suites=("classic",), committees=("all", "sampled"))
    fleet = MemoryFleet(tmp_path, helpers=3, policy=policy)
    store = MemoryStore()
    with pytest.raises(RoundAborted):
        run(fleet, store, plan_of(HELPER), tmp_path)
    signed = next(r.data for r in store.kept if r.stage == "manifest")
    with pytest.raises(PeerProtocolError, match="does not trust a committee of mode: helper"):
        envelope.unwrap(fleet.contributors["device-1"].handle("contribute", signed))


def test_a_killed_coordinator_takes_a_helper_round_up_again(tmp_path: Path) -> None:
    for kill_after in (3, 6, 9, 12):
        fleet, store = MemoryFleet(tmp_path, helpers=3), MemoryStore(kill_after=kill_after)
        with pytest.raises(Killed):
            run(fleet, store, plan_of(HELPER), tmp_path)
        assert_close(run(fleet, store, plan_of(HELPER), tmp_path), expected_means(fleet, set(fleet.devices)))
        assert all(len(device.trained) == 1 for device in fleet.devices.values())


def test_a_sampled_committee_opens_for_more_devices_than_it_has_members(tmp_path: Path) -> None:
    ranks = (4, 8, 16) * 24
    fleet = MemoryFleet(tmp_path, ranks=ranks, population=len(ranks))
    outcome = run(fleet, MemoryStore(), plan_of(SAMPLED, n_max=72), tmp_path)
    assert len(outcome.manifest.members) == 64
    assert outcome.result.sums["statistics"].num_devices == 72
    assert_close(outcome, expected_means(fleet, set(fleet.devices)))


def test_an_asynchronous_round_opens_at_its_number_with_devices_that_came_later(tmp_path: Path) -> None:
    clock = itertools.count(NOW_S, 1.0)
    came = {f"device-{i}": NOW_S + 40 * i for i in range(1, 9)}
    now = [NOW_S]

    def tick() -> float:
        now[0] = next(clock)
        return now[0]

    fleet = MemoryFleet(
        tmp_path,
        ranks=(4,) * 8,
        helpers=3,
        lost=lambda stage, d: stage == "hello" and came.get(d, 0) > now[0],
        now_s=tick,
    )
    plan = plan_of(HELPER, open_at=6, n_max=7, deadline_s=7200.0)
    outcome = run(fleet, MemoryStore(), plan, tmp_path)
    assert len(outcome.result.survivors) >= 6
    assert outcome.result.sums["statistics"].num_devices < 8
    assert_close(outcome, expected_means(fleet, set(outcome.result.survivors)))


GROUPS = SecureSumConfig(suite="classic", num_groups=5, robust="trimmed")


def test_a_group_that_one_device_has_poisoned_does_not_move_a_robust_mean(tmp_path: Path) -> None:
    ranks = (4,) * 20

    def poisoned(rule: str) -> np.ndarray:
        fleet = MemoryFleet(tmp_path, ranks=ranks)
        for name, device in fleet.devices.items():
            device.name = "like the others" if name != "device-1" or rule == "clean" else "another"
            device.weight = 4 if name == "device-1" else 1
            train = partial(SimulatedDevice.train, device)
            device.train = lambda base, config, _, train=train: train(base, config, "in every round alike")  # type: ignore[method-assign,misc]
        plan = plan_of(replace(GROUPS, robust="mean" if rule == "clean" else rule))
        outcome = run(fleet, MemoryStore(), plan, tmp_path)
        assert outcome.result.sums["r1-4.g3"].num_devices == 4
        return outcome.means["r1-4"]

    clean = poisoned("clean")
    error = {rule: np.linalg.norm(poisoned(rule) - clean) for rule in ("mean", "trimmed", "median")}
    assert error["trimmed"] < 0.1 * error["mean"]
    assert error["median"] < 0.1 * error["mean"]


def test_a_shell_of_too_few_open_groups_stays_where_it_is(tmp_path: Path) -> None:
    ranks = (4,) * 12 + (16,) * 8
    outcome = run(MemoryFleet(tmp_path, ranks=ranks), MemoryStore(), plan_of(GROUPS), tmp_path)
    assert set(outcome.means) == {"r1-4"}
    assert "r9-16" in outcome.closed or any(name.startswith("r9-16.") for name in outcome.closed)


def test_a_total_that_no_honest_devices_could_give_closes_its_shell(tmp_path: Path) -> None:
    """A device that seals past its own clip: within what the ring holds, beyond what the clip norm allows."""
    fleet = MemoryFleet(tmp_path)

    def louder(round_id: str, inputs: object) -> None:
        inputs["r1-4"][:-64] = 132_000_000  # type: ignore[index]

    fleet.contributors["device-1"]._tap = louder
    outcome = run(fleet, MemoryStore(), PLAN, tmp_path)
    assert "SumImplausible: mean is longer" in outcome.closed["r1-4"]
    assert set(outcome.means) == {"r5-8", "r9-16"}


def test_a_fair_draw_asks_those_who_waited(tmp_path: Path) -> None:
    fleet = MemoryFleet(tmp_path)
    asked = {d: Candidate(device_id=d, last_round=1, num_rounds=3) for d in list(fleet.devices)[:4]}
    plan = replace(PLAN, sequence=10, known=asked, min_devices=3, config=replace(CONFIG, n_max=4, n_min=3))
    counts = dict.fromkeys(fleet.devices, 0)
    for i in range(6):
        fleet = MemoryFleet(tmp_path)
        coordination = Coordination(
            fleet,
            MemoryStore(),
            key=fleet.key,
            anchors=fleet.anchors,
            spec=SPEC,
            entropy=Stream(f"draw-{i}"),
            now_s=fleet.now_s,
            events=EventLog(None),
        )
        for device_id in coordination.run(plan).cohort:
            counts[device_id] += 1
    before, waited = sum(counts[d] for d in asked), sum(counts[d] for d in counts if d not in asked)
    assert before + waited == 24
    assert waited > before


def test_a_device_told_to_rest_rests(tmp_path: Path) -> None:
    fleet, told = MemoryFleet(tmp_path), []
    one = fleet.contributors["device-1"]
    one._rest = told.append
    envelope.unwrap(one.handle("later", write_rest(90.0, "enough devices")))
    assert told == [90.0]
    for bad in (b"", b'{"seconds": -1, "reason": ""}', b'{"seconds": 1e9, "reason": ""}', b"[]"):
        with pytest.raises(PeerProtocolError):
            envelope.unwrap(one.handle("later", bad))
    assert told == [90.0]


def test_a_prekey_in_an_unknown_suite_is_refused_in_words(tmp_path: Path) -> None:
    one = MemoryFleet(tmp_path).contributors["device-1"]
    with pytest.raises(PeerProtocolError, match="unknown suite: 'mimo-fed/9 rot13'"):
        envelope.unwrap(one.handle("prekey", prekey_request("mimo-fed/9 rot13", "train-1")))
    assert envelope.unwrap(one.handle("prekey", prekey_request(CLASSIC, "train-1")))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"application": replace(CONFIG, secure_sum=HELPER).to_json()}, "contradicts its own settings"),
        ({"application": replace(CONFIG, n_min=4).to_json()}, "do not follow from its settings"),
        ({"application": replace(CONFIG, n_max=7).to_json()}, "do not follow from its settings"),
        ({"word_bits": 24}, "contradicts its own settings"),
        ({"kind": "evaluate"}, "contradicts its own settings"),
        ({"application": replace(CONFIG, secure_sum=ENDLESS).to_json()}, "do not follow from its settings"),
    ],
)
def test_settings_that_contradict_the_manifest_are_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    fleet = MemoryFleet(tmp_path)
    honest = verify_manifest(manifest_of(fleet, PLAN, tmp_path), fleet.anchors, int(NOW_S)).manifest
    forged = make_manifest(fleet.key, replace(honest, **change))
    with pytest.raises(PeerProtocolError, match=words):
        envelope.unwrap(fleet.contributors["device-1"].handle("contribute", forged))
    assert not fleet.devices["device-1"].trained
