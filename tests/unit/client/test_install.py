"""Releases on real agents with the small base: what is installed, what is refused, what a kill leaves."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.errors import ConfigError, InstallError, TransportError
from mimo_fed.events import read_events
from mimo_fed_client.agent import Agent
from mimo_fed_client.slots import Slots
from tests.simulators.agents import World, world


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as made:
        made.publish(GlobalAdapter.zero(made.spec).to_safetensors(), "release-0")
        yield made


def adapter(here: World, fill: Callable[[np.ndarray], np.ndarray]) -> bytes:
    zero = GlobalAdapter.zero(here.spec)
    values = {name: fill(value) for name, value in zero.values("B").items()}
    return zero.with_values("B", values).to_safetensors()


def noise(size: float, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    random = np.random.default_rng(seed)
    return lambda factor: random.normal(0, size, factor.shape).astype(np.float32)


def kinds(agent: Agent) -> list[str]:
    path = agent.settings.home / "events.jsonl"
    return [event["kind"] for _, event in read_events(path) if event["kind"] != "progress"]


def test_good_releases_serve_and_bad_ones_are_rolled_back_for_good(shared: World) -> None:
    with Agent(shared.settings("phone")) as agent:
        assert agent.installer.release == -1
        first = agent.installer.check()
        assert first.state == "committed"
        assert {"download", "verify", "stage", "trial", "commit"} <= set(first.seconds)
        assert agent.installer.check().state == "unchanged"
        zero = agent.installer.release

        good = shared.publish(adapter(shared, noise(1e-4, 1)), "good")
        assert agent.installer.check().state == "committed"
        assert agent.installer.release == good.number
        assert agent.model.installed_digest == good.digest

        costly = shared.publish(adapter(shared, noise(5.0, 2)), "costly")
        assert agent.installer.check().state == "rolled_back"
        assert agent.installer.is_bad(costly.number)
        assert agent.installer.release == good.number != zero
        assert agent.model.installed_digest == good.digest
        assert agent.installer.check().state == "unchanged"

        whole = adapter(shared, noise(1e-4, 9))
        broken = shared.publish(whole[:-4] + np.float32(np.nan).tobytes(), "broken")
        assert agent.installer.check().state == "rolled_back"
        assert agent.installer.is_bad(broken.number)
        said = kinds(agent)
        assert said.count("release.committed") == said.count("release.rolled_back") == 2
    with Agent(shared.settings("phone")) as again:
        assert again.installer.release == good.number
        assert again.model.installed_digest == good.digest
        assert again.installer.check().state == "unchanged"


def test_release_for_another_shape_never_reaches_a_slot(shared: World) -> None:
    settings = shared.settings("car")
    with Agent(settings) as agent:
        spec = shared.spec
        info = shared.registry.publish(
            b"not an adapter",
            channel="dev",
            base_fingerprint=spec.base_fingerprint,
            basis_epoch=0,
            spec_digest=spec.digest(),
            round_id="rubbish",
            quorum_digest="",
        )
        shared.registry.promote(info.number, "stable")
        assert agent.installer.check().state == "rolled_back"
        assert agent.installer.is_bad(info.number)
        assert Slots(settings.home / "slots").current() is None
        assert "release.trial" not in kinds(agent)


def test_an_adapter_of_another_basis_epoch_than_was_signed_is_rolled_back(shared: World) -> None:
    with Agent(shared.settings("tablet")) as agent:
        later = GlobalAdapter.zero(shared.spec).canonical().to_safetensors()
        info = shared.publish(later, "later")
        assert agent.installer.check().state == "rolled_back"
        assert agent.installer.is_bad(info.number)
        events = read_events(agent.settings.home / "events.jsonl")
        reasons = [event["reason"] for _, event in events if event["kind"] == "release.rolled_back"]
        assert reasons == ["of basis epoch 1, signed as of 0"]


def test_killed_in_trial_it_is_tried_again_and_then_never(shared: World) -> None:
    info = shared.publish(adapter(shared, noise(1e-4, 3)), "slow")
    settings = shared.settings("fridge")
    state = settings.home / "install.json"

    def die_in_trial(*_: object) -> str:
        raise KeyboardInterrupt

    for tries in (1, 2):
        with Agent(settings) as agent:
            agent.installer._trial = die_in_trial  # type: ignore[method-assign]
            with pytest.raises(KeyboardInterrupt):
                agent.installer.check()
        assert json.loads(state.read_text()) == {"state": "TRIAL", "release": info.number, "tries": tries}
    with Agent(settings) as agent:
        assert agent.installer.is_bad(info.number)
        assert agent.installer.check().state == "unchanged"
        assert agent.installer.release == -1


def test_disk_that_is_full_for_a_moment_makes_no_release_bad(shared: World) -> None:
    info = shared.publish(adapter(shared, noise(1e-4, 7)), "good-but-no-room")
    with Agent(shared.settings("watch")) as agent:
        store, full = agent.installer._store, ["COMMIT"]

        def no_room(state: str) -> None:
            if state in full:
                full.remove(state)
                raise InstallError("no space")
            store(state)

        agent.installer._machine._moved = no_room
        with pytest.raises(InstallError):
            agent.installer.check()
        assert not agent.installer.is_bad(info.number)
        assert agent.installer.check().state == "committed"
        assert agent.installer.release == info.number


@pytest.mark.parametrize("moved", [False, True])
def test_killed_in_commit_it_serves_at_the_next_start(shared: World, moved: bool) -> None:
    info = shared.publish(adapter(shared, noise(1e-4, 4 + moved)), f"commit-{moved}")
    settings = shared.settings(f"tablet-{moved}")
    with Agent(settings) as agent:
        slots = agent.installer._slots
        commit = slots.commit

        def die(number: int) -> None:
            if moved:
                commit(number)
            raise KeyboardInterrupt

        slots.commit = die  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            agent.installer.check()
    with Agent(settings) as agent:
        assert agent.installer.release == info.number
        assert agent.model.installed_digest == info.digest


def test_registry_away_keeps_keys_and_service(tmp_path: Path) -> None:
    with world(tmp_path) as here:
        here.publish(GlobalAdapter.zero(here.spec).to_safetensors(), "release-0")
        settings = here.settings("watch")
        with Agent(settings) as agent:
            assert agent.look() == "committed"
            anchors = agent.releases.anchors()
    with Agent(settings) as agent:
        assert agent.installer.release == 0
        assert agent.look() == "failed"
        assert agent.releases.anchors() == anchors
        with pytest.raises(TransportError):
            agent.releases.base("ab" * 32)
        assert "look.failed" in kinds(agent)


@pytest.mark.parametrize("both", [False, True])
def test_damaged_slots_heal_by_themselves(shared: World, both: bool) -> None:
    settings = shared.settings(f"damaged-{both}")
    with Agent(settings) as agent:
        agent.installer.check()
        info = shared.publish(adapter(shared, noise(1e-4, 6 + both)), f"heal-{both}")
        agent.installer.check()
    folder = settings.home / "slots"
    names = "ab" if both else (folder / "serving").read_text()
    for name in names:
        (folder / f"{name}.safetensors").write_bytes(b"torn")
    with Agent(settings) as agent:
        assert agent.installer.release != info.number
        assert "slot.damaged" in kinds(agent)
        assert agent.installer.check().state == "committed"
        assert agent.installer.release == info.number
    with Agent(settings) as agent:
        assert agent.installer.release == info.number


def test_one_agent_a_home(shared: World) -> None:
    settings = shared.settings("sofa")
    with Agent(settings), pytest.raises(ConfigError, match="another agent"):
        Agent(settings)
