"""Whole rounds in one process: the real drivers and the real encryption, on simulated devices."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.config import PrivacyConfig, RoundConfig, TrainConfig
from mimo_fed.errors import InstallError, PeerProtocolError, RoundAborted
from mimo_fed.events import EventLog, read_events
from mimo_fed.privacy import clip
from mimo_fed.round import envelope
from mimo_fed.round.coordinate import Coordination
from mimo_fed.round.device import Policy
from mimo_fed.round.layout import Layout
from mimo_fed.round.membership import MAX_PREKEYS, prekey_request
from mimo_fed.round.outcome import Outcome
from mimo_fed.round.prepare import to_vectors
from mimo_fed.round.records import Plan
from mimo_fed.secagg import HYBRID, Coordinator, issue_certificate, verify_manifest
from mimo_fed.secagg.messages import Ballot
from tests.simulators.fleet import NOW_S, SPEC, Killed, MemoryFleet, MemoryJournal, MemoryStore, Stream

CONFIG = RoundConfig(n_min=3, privacy=PrivacyConfig(weight_max=4, clip_norm=0.5))
BASE = hashlib.sha256(GlobalAdapter.zero(SPEC).to_safetensors()).hexdigest()
PLAN = Plan(round_id="train-1-aa", sequence=1, config=CONFIG, base_digest=BASE, min_devices=3)


def run(fleet: MemoryFleet, store: MemoryStore, plan: Plan, folder: Path) -> Outcome:
    coordination = Coordination(
        fleet,
        store,
        key=fleet.key,
        anchors=fleet.anchors,
        spec=SPEC,
        entropy=Stream("cohort"),
        now_s=fleet.now_s,
        events=EventLog(folder / "coordinator.jsonl"),
    )
    return coordination.run(plan)


def expected_means(
    fleet: MemoryFleet, devices: set[str], config: RoundConfig = CONFIG
) -> dict[str, np.ndarray]:
    """The weighted mean of what the devices trained, per shell, without any encryption."""
    sums: dict[str, np.ndarray] = {}
    weights: dict[str, int] = {}
    for name, device in fleet.devices.items():
        if name not in devices:
            continue
        update = device.trained[-1]
        shells, _, _ = clip(to_vectors(SPEC, config.train, update, device.rank), config.privacy.clip_norm)
        for shell, vector in shells.items():
            sums[shell] = sums.get(shell, 0.0) + update.weight * vector.astype(np.float64)
            weights[shell] = weights.get(shell, 0) + update.weight
    return {shell: total / weights[shell] for shell, total in sums.items()}


def assert_means(outcome: Outcome, expected: dict[str, np.ndarray], config: RoundConfig = CONFIG) -> None:
    assert set(outcome.means) == set(expected)
    layout = Layout(
        spec=SPEC, config=config, round_id=outcome.manifest.round_id, n_max=outcome.manifest.n_max
    )
    for shell in SPEC.shells:
        weight = outcome.weights[shell.name]
        std = (
            layout.encoding(shell).vector.tolerance(outcome.result.sums[shell.name].num_devices, 16) / weight
        )
        error = np.abs(outcome.means[shell.name] - expected[shell.name])
        assert error.max() < 6 * std
        assert np.abs(expected[shell.name]).max() > 6 * std


def test_round_gives_the_weighted_mean_of_every_shell(tmp_path: Path) -> None:
    fleet = MemoryFleet(tmp_path)
    outcome = run(fleet, MemoryStore(), PLAN, tmp_path)
    assert_means(outcome, expected_means(fleet, set(fleet.devices)))
    assert {n: s.num_devices for n, s in outcome.result.sums.items()} == {
        "r1-4": 8,
        "r5-8": 6,
        "r9-16": 4,
        "statistics": 8,
    }
    assert outcome.losses == pytest.approx((3.0, 2.5), abs=0.02)
    assert round(outcome.statistics["improved"]) == 8
    assert outcome.dropouts == ()


def test_two_of_eight_may_vanish_after_contributing(tmp_path: Path) -> None:
    gone = {"device-2", "device-7"}
    fleet = MemoryFleet(
        tmp_path, lost=lambda stage, d: d in gone and stage not in {"hello", "prekey", "contribute"}
    )
    outcome = run(fleet, MemoryStore(), PLAN, tmp_path)
    assert_means(outcome, expected_means(fleet, set(fleet.devices)))
    assert outcome.dropouts == ()


def test_one_more_is_an_abort_and_the_next_round_goes_through(tmp_path: Path) -> None:
    gone = {"device-2", "device-5", "device-7"}
    fleet = MemoryFleet(
        tmp_path, lost=lambda stage, d: d in gone and stage not in {"hello", "prekey", "contribute"}
    )
    with pytest.raises(RoundAborted):
        run(fleet, MemoryStore(), PLAN, tmp_path)
    gone.clear()
    outcome = run(fleet, MemoryStore(), replace(PLAN, round_id="train-2-aa", sequence=2), tmp_path)
    assert_means(outcome, expected_means(fleet, set(fleet.devices)))


def test_device_that_never_contributes_is_a_dropout(tmp_path: Path) -> None:
    fleet = MemoryFleet(tmp_path, lost=lambda stage, d: d == "device-8" and stage == "contribute")
    outcome = run(fleet, MemoryStore(), PLAN, tmp_path)
    assert outcome.dropouts == ("device-8",)
    assert_means(outcome, expected_means(fleet, set(fleet.devices) - {"device-8"}))


def test_thin_shell_stays_closed_and_the_others_open(tmp_path: Path) -> None:
    fleet = MemoryFleet(tmp_path, ranks=(4, 4, 8, 8, 8, 8, 16, 16))
    outcome = run(fleet, MemoryStore(), PLAN, tmp_path)
    assert set(outcome.means) == {"r1-4", "r5-8"}
    assert set(outcome.result.closed) == {"r9-16"}


def test_evaluate_round_opens_the_statistics_alone(tmp_path: Path) -> None:
    fleet = MemoryFleet(tmp_path)
    plan = replace(PLAN, round_id="evaluate-1-aa", config=replace(CONFIG, kind="evaluate"))
    outcome = run(fleet, MemoryStore(), plan, tmp_path)
    assert set(outcome.result.sums) == {"statistics"}
    assert outcome.losses == pytest.approx((3.0, 2.75), abs=0.02)


def test_killed_coordinator_goes_on_at_every_stage(tmp_path: Path) -> None:
    whole = run(MemoryFleet(tmp_path), MemoryStore(), PLAN, tmp_path)
    reached, kill_after = set(), 1
    while True:
        fleet, store = MemoryFleet(tmp_path), MemoryStore(kill_after=kill_after)
        try:
            run(fleet, store, PLAN, tmp_path)
        except Killed:
            reached.add(store.kept[-1].stage)
        else:
            break
        outcome = run(fleet, store, PLAN, tmp_path)
        assert outcome.result.quorum_digest
        for name, mean in whole.means.items():
            np.testing.assert_array_equal(outcome.means[name], mean)
        assert all(len(device.trained) == 1 for device in fleet.devices.values())
        kill_after += 1 if kill_after < 3 else 5
    assert {"cohort", "manifest", "complaint", "vote", "opening"} <= reached


def capture(fleet: MemoryFleet, folder: Path) -> bytes:
    """The manifest of a round that device-1 has contributed to."""
    store = MemoryStore()
    run(fleet, store, PLAN, folder)
    return stored_manifest(store)


def stored_manifest(store: MemoryStore) -> bytes:
    return next(record.data for record in store.kept if record.stage == "manifest")


def test_same_manifest_again_gives_the_stored_bytes(tmp_path: Path) -> None:
    fleet = MemoryFleet(tmp_path)
    manifest = capture(fleet, tmp_path)
    first = fleet.contributors["device-1"].handle("contribute", manifest)
    assert first == fleet.contributors["device-1"].handle("contribute", manifest)
    assert len(fleet.devices["device-1"].trained) == 1


def refusal(fleet: MemoryFleet, manifest: bytes, device: str = "device-1") -> str:
    with pytest.raises(PeerProtocolError) as caught:
        envelope.unwrap(fleet.contributors[device].handle("contribute", manifest))
    return caught.value.message


def manifest_of(fleet: MemoryFleet, plan: Plan, folder: Path) -> bytes:
    store = MemoryStore(kill_after=2)
    with pytest.raises(Killed):
        run(fleet, store, plan, folder)
    return stored_manifest(store)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: replace(p, round_id="train-1-bb"), "not newer"),
        (lambda p: replace(p, round_id="train-0-bb", sequence=0), "not newer"),
    ],
)
def test_second_manifest_of_a_sequence_is_refused(
    tmp_path: Path, change: Callable[[Plan], Plan], words: str
) -> None:
    fleet = MemoryFleet(tmp_path)
    capture(fleet, tmp_path)
    assert words in refusal(fleet, manifest_of(fleet, change(PLAN), tmp_path))
    assert len(fleet.devices["device-1"].trained) == 1


def test_policy_of_the_owner_wins(tmp_path: Path) -> None:
    strict = MemoryFleet(tmp_path, policy=Policy(n_min_floor=4))
    assert "4" in refusal(strict, manifest_of(strict, PLAN, tmp_path))
    tight = MemoryFleet(tmp_path, policy=Policy(n_min_floor=3, clip_norm_max=0.25))
    assert "clip" in refusal(tight, manifest_of(tight, PLAN, tmp_path))
    assert not tight.devices["device-1"].trained


@pytest.mark.parametrize("train", [{"num_steps": 513}, {"seq_len": 1 << 20}, {"num_personal_steps": -1}])
def test_a_device_does_not_train_for_longer_than_its_owner_allows(
    train: dict[str, int], tmp_path: Path
) -> None:
    fleet = MemoryFleet(tmp_path, policy=Policy(n_min_floor=3, tokens_max=512 * 2 * 128))
    plan = replace(PLAN, config=replace(CONFIG, train=TrainConfig(**train)))  # type: ignore[arg-type]
    assert "tokens" in refusal(fleet, manifest_of(fleet, plan, tmp_path))
    assert not fleet.devices["device-1"].trained


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"batch_size": 0}, "or of none"),
        ({"seq_len": 0}, "or of none"),
        ({"num_steps": 1, "num_personal_steps": 0, "batch_size": 1, "seq_len": 5000}, "sequences are over"),
        ({"personal_rank": 1 << 30}, "personal rank"),
        ({"personal_rank": 0}, "personal rank"),
    ],
)
def test_a_device_refuses_training_that_its_memory_could_not_hold(
    train: dict[str, int], words: str, tmp_path: Path
) -> None:
    fleet = MemoryFleet(tmp_path)
    plan = replace(PLAN, config=replace(CONFIG, train=TrainConfig(**train)))  # type: ignore[arg-type]
    assert words in refusal(fleet, manifest_of(fleet, plan, tmp_path))
    assert not fleet.devices["device-1"].trained


def test_refusal_of_one_device_costs_the_others_nothing(tmp_path: Path) -> None:
    fleet = MemoryFleet(tmp_path)
    fleet.devices["device-3"].train = lambda *_: (_ for _ in ()).throw(PeerProtocolError("no"))  # type: ignore[method-assign]
    outcome = run(fleet, MemoryStore(), PLAN, tmp_path)
    assert outcome.dropouts == ("device-3",)
    kinds = [e["kind"] for _, e in read_events(tmp_path / "coordinator.jsonl")]
    assert "refusal" in kinds


def test_own_manifest_that_is_void_by_now_is_an_abort(tmp_path: Path) -> None:
    """Another error would end the process, and its successor would take up the same round for ever."""
    fleet, store = MemoryFleet(tmp_path), MemoryStore(kill_after=2)
    with pytest.raises(Killed):
        run(fleet, store, PLAN, tmp_path)
    late = Coordination(
        fleet,
        store,
        key=fleet.key,
        anchors=fleet.anchors,
        spec=SPEC,
        entropy=Stream("cohort"),
        now_s=lambda: NOW_S + CONFIG.deadline_s + 1,
        events=EventLog(None),
    )
    with pytest.raises(RoundAborted, match="past its deadline"):
        late.run(PLAN)
    revoked = replace(fleet.anchors, revoked=frozenset({1}))
    fleet.anchors = revoked
    with pytest.raises(RoundAborted, match="revoked"):
        run(fleet, store, PLAN, tmp_path)


def test_two_devices_of_one_key_cost_the_others_nothing(tmp_path: Path) -> None:
    fleet = MemoryFleet(tmp_path)
    twin, other = fleet.contributors["device-2"], fleet.contributors["device-1"]
    twin._membership.key = other._membership.key
    twin._membership.certificate = issue_certificate(
        fleet.authority,
        device_id="device-2",
        public_key=other._membership.key.public_key,
        serial=99,
        not_before_s=int(NOW_S) - 10,
        not_after_s=int(NOW_S) + 86_400,
    )
    outcome = run(fleet, MemoryStore(), PLAN, tmp_path)
    assert [m.device_id for m in outcome.manifest.members] == [f"device-{i}" for i in (1, 3, 4, 5, 6, 7, 8)]


class FullJournal(MemoryJournal):
    """The disk is full when the contribution is to be stored."""

    full = True

    def put(self, key: str, value: bytes) -> None:
        if self.full and key.endswith("/m2"):
            raise InstallError("no space")
        super().put(key, value)


def session_of(fleet: MemoryFleet, store: MemoryStore, without: str = "") -> tuple[bytes, Coordinator]:
    """The hash of a round's manifest and a session with its contributions, closed."""
    signed = verify_manifest(stored_manifest(store), fleet.anchors, int(NOW_S))
    session = Coordinator(signed, fleet.anchors, MemoryStore().spool)
    for name, data in store.spool.files.items():
        if name != f"{without}.m2":
            session.add(data)
    session.close()
    return signed.mh, session


def test_member_whose_contribution_was_not_stored_has_one_life(tmp_path: Path) -> None:
    """Its state must outlive a second try at contributing: a fresh member would vote again."""
    fleet, store = MemoryFleet(tmp_path), MemoryStore()
    one = fleet.contributors["device-1"]
    one._membership.journal = full = FullJournal()
    assert run(fleet, store, PLAN, tmp_path).dropouts == ("device-1",)
    mh, session = session_of(fleet, store)
    envelope.unwrap(one.handle("shares", mh + session.share_request("device-1")))
    full.full = False
    envelope.unwrap(one.handle("contribute", stored_manifest(store)))
    _, fewer = session_of(fleet, store, without="device-2")
    with pytest.raises(PeerProtocolError, match="another set"):
        envelope.unwrap(one.handle("shares", mh + fewer.share_request("device-1")))


class SlowJournal(MemoryJournal):
    """Two who read a member's state at once are held until both have read it."""

    def __init__(self, values: dict[str, bytes]) -> None:
        super().__init__()
        self.values, self.both = values, threading.Barrier(2)

    def get(self, key: str) -> bytes | None:
        value = super().get(key)
        if key.endswith("/member"):
            with suppress(threading.BrokenBarrierError):
                self.both.wait(0.5)
        return value


def test_two_ballots_at_once_get_one_vote(tmp_path: Path) -> None:
    fleet, store = MemoryFleet(tmp_path, lost=lambda stage, d: stage == "ballot"), MemoryStore()
    with pytest.raises(RoundAborted, match="votes"):
        run(fleet, store, PLAN, tmp_path)
    one = fleet.contributors["device-1"]
    one._membership.journal = SlowJournal(one._membership.journal.values)  # type: ignore[attr-defined]
    signed = verify_manifest(stored_manifest(store), fleet.anchors, int(NOW_S))
    first = next(r.data for r in store.kept if r.stage == "ballot")
    honest = Ballot.decode(first, signed)
    second = replace(honest, survivors=honest.survivors[1:]).encode(signed.mh)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda ballot: one.handle("ballot", signed.mh + ballot), (first, second)))
    assert sorted(answer[:1] for answer in answers) == [b"\x00", b"\x01"]


def test_prekeys_that_nobody_uses_do_not_pile_up(tmp_path: Path) -> None:
    fleet = MemoryFleet(tmp_path)
    one = fleet.contributors["device-1"]
    for i in range(5 * MAX_PREKEYS):
        envelope.unwrap(one.handle("prekey", prekey_request(HYBRID, f"train-0-{i}")))
    assert len(one._membership.journal.keys("prekey/")) <= 3 * MAX_PREKEYS
    assert run(fleet, MemoryStore(), PLAN, tmp_path).dropouts == ()
