"""The whole loop in one process: train, judge, install, report, on real agents with the small base."""

import hashlib
import json
import os
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.aggregate import ServerState, advance
from mimo_fed.config import PrivacyConfig, RoundConfig, ServerConfig, TrainConfig
from mimo_fed.errors import ConfigError, PeerProtocolError
from mimo_fed.events import EventLog, read_events
from mimo_fed.round import envelope
from mimo_fed.round.coordinate import Coordination
from mimo_fed.round.outcome import Outcome
from mimo_fed.round.records import Plan
from mimo_fed_client.agent import Agent, stock_handler
from mimo_fed_client.chat import chat, find_device
from mimo_fed_client.status import read_report, report_lines, status, status_lines
from tests.simulators.agents import AgentFleet, World, world
from tests.simulators.fleet import MemoryStore

TRAIN = TrainConfig(num_steps=3, num_personal_steps=3, batch_size=2, seq_len=64, learning_rate=5e-3)
CONFIG = RoundConfig(n_min=3, deadline_s=120, train=TRAIN, privacy=PrivacyConfig(clip_norm=4.0))
RANKS = {"watch": 4, "phone": 8, "car": 16, "tablet": 16}


def run_round(here: World, fleet: AgentFleet, store: MemoryStore, plan: Plan) -> Outcome:
    coordination = Coordination(
        fleet,
        store,
        key=here.key,
        anchors=here.anchors,
        spec=here.spec,
        entropy=os.urandom,
        now_s=time.time,
        events=EventLog(None),
    )
    return coordination.run(plan)


def plan(kind: str, sequence: int, digest: str) -> Plan:
    config = RoundConfig(**{**CONFIG.__dict__, "kind": kind})
    return Plan(
        round_id=f"{kind}-{sequence}", sequence=sequence, config=config, base_digest=digest, min_devices=4
    )


def test_train_judge_install_report_and_chat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with world(tmp_path) as here, ExitStack() as stack:
        zero = GlobalAdapter.zero(here.spec)
        here.publish(zero.to_safetensors(), "release-0")
        agents = {n: stack.enter_context(Agent(here.settings(n, rank))) for n, rank in RANKS.items()}
        fleet = AgentFleet(agents, here.anchors)
        assert [agent.look() for agent in agents.values()] == ["committed"] * 4

        store = MemoryStore()
        trained = run_round(here, fleet, store, plan("train", 1, zero.digest()))
        assert set(trained.means) == {"r1-4", "r5-8"}
        before, after = trained.losses
        assert after < before
        assert all(a.model.installed_digest == zero.digest() for a in agents.values())

        moved = advance(
            zero, "B", trained.means, state=ServerState.empty("B"), config=ServerConfig(), next_phase="A"
        )
        candidate = moved.adapter.to_safetensors()
        info = here.publish(candidate, "train-1", promote=False, epoch=1)
        judged = run_round(here, fleet, MemoryStore(), plan("evaluate", 2, info.digest))
        assert judged.losses[1] < judged.losses[0]
        assert judged.losses[0] == pytest.approx(before, abs=0.05)

        here.registry.promote(info.number, "stable")
        notice = json.dumps({"release": info.number, "last": True}).encode()
        for agent in agents.values():
            said = json.loads(envelope.unwrap(agent.handle("installed", notice)))
            assert said["state"] == "committed"
            assert said["release"] == info.number
            assert agent.model.installed_digest == hashlib.sha256(candidate).hexdigest()

        settings = agents["car"].settings
        report = read_report(settings)
        assert set(report) == {"name", "release", "bpb", "lambda", "bytes_up", "bytes_down", "seconds"}
        assert report["release"] == info.number
        assert report["bpb"]["global"] < report["bpb"]["base"]
        assert report["bpb"]["personal"] <= report["bpb"]["global"]
        assert report["bytes_down"] > len(candidate)
        assert set(report["seconds"]) == {"train", "protect", "network", "verify", "swap"}
        assert all(value > 0 for value in report["seconds"].values())
        assert report_lines(report)

        found = status(settings)
        assert found["release"] == info.number
        assert found["test_only"]
        assert found["pid"] is not None
        assert any("TEST ONLY" in line for line in status_lines(found))

        chat(
            find_device(tmp_path, "car"),
            message="What is it?",
            as_json=True,
            max_new_tokens=4,
            console=Console(stderr=True),
        )
        answer = json.loads(capsys.readouterr().out)
        assert {"device", "release", "lambda", "message", "base", "personal"} == set(answer)
        with pytest.raises(ConfigError, match="no device of that name: none") as caught:
            find_device(tmp_path, "none")
        assert "phone" in caught.value.hint


def test_started_again_it_gives_the_stored_answer_and_trains_nothing(tmp_path: Path) -> None:
    with world(tmp_path) as here:
        zero = GlobalAdapter.zero(here.spec)
        here.publish(zero.to_safetensors(), "release-0")
        store = MemoryStore()
        with ExitStack() as stack:
            agents = {n: stack.enter_context(Agent(here.settings(n, rank))) for n, rank in RANKS.items()}
            run_round(here, AgentFleet(agents, here.anchors), store, plan("train", 1, zero.digest()))
            answer = agents["phone"].handle(
                "contribute", next(r.data for r in store.kept if r.stage == "manifest")
            )
            assert envelope.unwrap(answer)
        settings = here.settings("phone")
        log = settings.home / "events.jsonl"
        trained = sum(event["kind"] == "train.done" for _, event in read_events(log))
        assert (settings.home / "personal.safetensors").exists()
        with Agent(settings) as again:
            assert again.model.personal_scale == 1.0
            assert (
                again.handle("contribute", next(r.data for r in store.kept if r.stage == "manifest"))
                == answer
            )
            assert again.usage.seconds["train"] > 0
            with pytest.raises(PeerProtocolError):
                envelope.unwrap(again.handle("installed", b"[]"))
        states = [event["state"] for _, event in read_events(log) if event["kind"] == "state"]
        assert [s for s in states if s in ("train", "seal", "upload")][:3] == ["train", "seal", "upload"]
        assert sum(event["kind"] == "train.done" for _, event in read_events(log)) == trained == 1


def test_error_that_is_not_ours_leaves_the_device_ready_for_the_next_round(tmp_path: Path) -> None:
    def fail(stage: str, payload: bytes) -> bytes:
        agent._device.machine.move("train")
        agent._device.machine.move("trained")
        raise MemoryError

    with world(tmp_path) as here, Agent(here.settings("phone")) as agent:
        agent._contributor.handle = fail  # type: ignore[method-assign]
        for _ in range(2):
            with pytest.raises(MemoryError):
                agent.handle("contribute", b"")
        assert agent._device.machine.state == "ELIGIBLE"


def test_stock_handler_needs_a_settings_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIMO_FED_AGENT", raising=False)
    with pytest.raises(ConfigError, match="not named"):
        stock_handler({})


def test_a_device_trains_as_much_as_it_can_afford(tmp_path: Path) -> None:
    limits = {
        "slow": "[training]\nmax_steps = 1\ncheckpointing = true\n",
        "tiny": "[training]\nforward_only = true\n",
    }
    with world(tmp_path) as here, ExitStack() as stack:
        here.publish(GlobalAdapter.zero(here.spec).to_safetensors(), "release-0")
        agents = {n: stack.enter_context(Agent(here.settings(n, 4, e))) for n, e in limits.items()}
        base = GlobalAdapter.zero(here.spec).to_safetensors()
        steps = {}
        for name, phase in (("slow", "B"), ("tiny", "M")):
            agents[name].look()
            config = replace(CONFIG, train=replace(TRAIN, phase=phase))  # type: ignore[arg-type]
            steps[name] = agents[name]._device.train(base, config, "round").num_steps
        assert steps == {"slow": 1, "tiny": 3}
        assert agents["slow"].model.personal_bytes() != agents["tiny"].model.personal_bytes()
        assert agents["tiny"].model.pick_lambda(["a"]) == 0.0
        agents["tiny"]._device.machine.move("failed")
        with pytest.raises(ConfigError, match="phase M alone"):
            agents["tiny"]._device.train(base, CONFIG, "another round")
