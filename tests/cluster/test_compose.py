"""`docker-compose.yml`, really run: rounds from private text to a served release, and who can reach what.

Tests run in this order: the containers are looked at while the coordinator works, the rounds afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed_client.updater import Updater
from tests.cluster.fleet import DEVICES, HOME, ROUNDS, SERVERS, Fleet, brought_up, image_bytes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

CONNECT = "import socket; socket.create_connection(({host!r}, {port}), 3); print('reached')"
REFUSED = """
import socket
try:
    socket.create_connection(({host!r}, {port}), 3)
    print('reached')
except OSError as error:
    print('closed', type(error).__name__)
"""
POST = """
import http.client, ssl
connection = http.client.HTTPSConnection('gate', 8093, context=ssl.create_default_context(cafile='ca.pem'))
connection.request('POST', '{path}', b'')
print(connection.getresponse().status)
"""
STATUS = "cat /proc/[0-9]*/status; echo MOUNTS; cat /proc/mounts"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    with brought_up(request.session, tmp_path_factory.mktemp("fleet")) as made:
        yield made


@pytest.fixture(scope="module")
def events(fleet: Fleet) -> list[dict[str, Any]]:
    return fleet.finish()


def test_no_process_is_root_or_can_become_it_and_root_file_systems_are_read_only(fleet: Fleet) -> None:
    for service in (*SERVERS, *DEVICES, "postgres"):
        status, _, mounts = fleet.execute(service, "sh", "-c", STATUS).partition("MOUNTS\n")
        fields = [line.split() for line in status.splitlines()]
        users = {user for line in fields if line[:1] == ["Uid:"] for user in line[1:]}
        assert users, service
        assert "0" not in users, (service, users)
        assert {line[1] for line in fields if line[:1] == ["NoNewPrivs:"]} == {"1"}, service
        for name in ("CapPrm:", "CapEff:", "CapBnd:"):
            assert {int(line[1], 16) for line in fields if line[:1] == [name]} == {0}, (service, name)
        options = next(mount.split()[3] for mount in mounts.splitlines() if mount.split()[1] == "/")
        assert "ro" in options.split(","), (service, options)


def test_a_device_reaches_registry_and_gate_alone(fleet: Fleet) -> None:
    assert fleet.python("device-1", CONNECT.format(host="registry", port=8090)) == "reached"
    assert fleet.python("device-1", CONNECT.format(host="gate", port=8093)) == "reached"
    for service, port in (("postgres", 5432), ("superlink", 8092)):
        networks = fleet.inspect(service)["NetworkSettings"]["Networks"].values()
        (address,) = [network["IPAddress"] for network in networks]
        assert fleet.python("registry", CONNECT.format(host=address, port=port)) == "reached"
        for host in (service, address):
            assert fleet.python("device-1", REFUSED.format(host=host, port=port)).startswith("closed"), host
    assert fleet.networks("coordinator") == {"backend"}
    for device in DEVICES:
        assert fleet.networks(device) == {"fleet"}


def test_the_gate_passes_on_no_order_to_run_something(fleet: Fleet) -> None:
    assert fleet.python("device-1", POST.format(path="/v1/fleet/pull-messages")) != "404"
    for path in ("/v1/control/start-run", "/v1/runtime/acquire-task", "/v1/fleet/../control/start-run"):
        assert fleet.python("device-1", POST.format(path=path)) == "404", path


def test_each_service_has_its_own_volume_and_published_ports_are_this_machines(fleet: Fleet) -> None:
    for service in (*DEVICES, *SERVERS):
        found = fleet.inspect(service)
        mounts = [(m["Type"], m.get("Name", "").removeprefix("mimofed-test_")) for m in found["Mounts"]]
        assert [m for m in mounts if m[0] != "tmpfs"] == [("volume", service)], service
        published = [p for ports in found["NetworkSettings"]["Ports"].values() for p in ports or ()]
        assert {p["HostIp"] for p in published} <= {"127.0.0.1"}, service
    texts = {fleet.execute(device, "sha256sum", f"{HOME}/corpus.jsonl").split()[0] for device in DEVICES}
    assert len(texts) == len(DEVICES)


def test_servers_hold_no_torch(fleet: Fleet) -> None:
    find = "from importlib.util import find_spec as f; print([n for n in ('torch', 'transformers') if f(n)])"
    for service in ("registry", "superlink", "gate", "authority"):
        assert fleet.python(service, find) == "[]"
    assert fleet.python("device-1", find) == "['torch', 'transformers']"


def test_rounds_are_trained_judged_and_installed(fleet: Fleet, events: list[dict[str, Any]]) -> None:
    opened = [event for event in events if event["kind"] == "round.opened"]
    assert [event["round_kind"] for event in opened] == ["train", "evaluate"] * ROUNDS
    for event in opened:
        assert event["survivors"] == list(DEVICES)
        assert event["test_only"] is True
    answers = [(e["device"], e["state"]) for e in events if e["kind"] == "device.installed"]
    assert sorted(device for device, _ in answers) == sorted(DEVICES * ROUNDS)
    assert {state for _, state in answers} <= {"committed", "unchanged", "rolled_back"}, answers
    assert fleet.inspect("device-1")["RestartCount"] == 0


def test_records_are_in_postgresql(fleet: Fleet, events: list[dict[str, Any]]) -> None:
    query = 'select record from "round" order by created_at'
    password = 'PGPASSWORD="$(cat /run/database/password)"'
    psql = f"{password} psql -h 127.0.0.1 -U mimo_fed -d registry -Atc '{query}'"
    records = [json.loads(line) for line in fleet.execute("postgres", "sh", "-c", psql).splitlines()]
    assert [record["kind"] for record in records] == ["train", "evaluate"] * ROUNDS
    train = records[0]
    assert train["release"] == 1
    assert train["n_min"] == len(train["survivors"]) == 3
    opened = {s["name"]: s["num_devices"] for s in train["sums"] if s["opened"]}
    assert opened == {"r1-4": 3, "r5-8": 3, "statistics": 3}
    digests = {event["quorum_digest"] for event in events if event["kind"] == "round.opened"}
    assert {record["quorum_digest"] for record in records} == digests


def test_the_release_is_signed_and_served(fleet: Fleet, events: list[dict[str, Any]], tmp_path: Path) -> None:
    url = f"http://{fleet.address('registry', 8090)}"
    root = fleet.fetch("device-2", f"{HOME}/root.json").read_bytes()
    promoted = [event for event in events if event["kind"] == "release.promoted"]
    updater = Updater(tmp_path, url, root)
    try:
        updater.refresh()
        latest, stable = updater.latest("dev"), updater.latest("stable")
        assert latest is not None
        assert stable is not None
        assert latest.number == ROUNDS
        assert stable.number == max(e["number"] for e in [*promoted, {"number": 0}])
        adapter = updater.fetch(latest)
    finally:
        updater.close()
    spec = AdapterSpec.from_json(fleet.fetch("coordinator", f"{HOME}/spec.json").read_bytes())
    trained = GlobalAdapter.from_safetensors(adapter, spec)
    assert trained.digest() == latest.digest
    assert any(lora_b.any() for lora_b, _ in trained.lora().values())


def test_what_it_took(fleet: Fleet, events: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {name: image_bytes(name) / 1e6 for name in ("mimo-fed-server", "mimo-fed-client")}
    assert sizes["mimo-fed-server"] < 600
    assert sizes["mimo-fed-client"] < 2000
    began, ended = (next(e["at"] for e in events if e["kind"] == kind) for kind in ("run.submitted", "done"))
    with capsys.disabled():
        print()
        print("seconds:", {what: round(seconds) for what, seconds in fleet.seconds.items()})
        print(f"minutes from the coordinator's start to its end: {(ended - began) / 60:.1f}")
        print("image MB:", {name: round(size) for name, size in sizes.items()})
