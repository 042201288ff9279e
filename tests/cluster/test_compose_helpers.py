"""The Compose file with its profile of helper organisations: one cycle, opened by three of them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster.fleet import DEVICES, HOME, Fleet, brought_up

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

HELPERS = ("helper-1", "helper-2", "helper-3")
NO_TORCH = "import importlib.util as u; print(u.find_spec('torch') is None)"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    variables = {"COMMITTEE": "helper", "COMPOSE_PROFILES": "helpers", "ROUNDS": "1"}
    with brought_up(request.session, tmp_path_factory.mktemp("helped"), **variables) as made:
        yield made


def test_helpers_open_what_devices_sent_and_tell_their_auditors(fleet: Fleet) -> None:
    for helper in HELPERS:
        assert fleet.networks(helper) == {"fleet"}
        assert fleet.execute(helper, "id", "-u") == "10001"
        assert fleet.python(helper, NO_TORCH) == "True"
    events = fleet.finish()
    opened = [event for event in events if event["kind"] == "round.opened"]
    assert [(e["round_kind"], e["mode"], e["votes"]) for e in opened] == [
        ("train", "helper", 3),
        ("evaluate", "helper", 3),
    ]
    assert all(sorted(e["survivors"]) == sorted(DEVICES) for e in opened)
    for helper in HELPERS:
        settings = f"{HOME}/helper.toml"
        told = json.loads(
            fleet.execute(helper, "mimo-fed", "helper", "status", "--json", "--config", settings)
        )
        assert told["pinned"]
        assert [r["round_id"] for r in told["rounds"] if r["opened_at"]] == [e["round_id"] for e in opened]
    print({name: round(seconds) for name, seconds in fleet.seconds.items()})
