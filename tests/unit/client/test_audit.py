"""Anybody checks a round's evidence, from the pinned root alone; every lie about it is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mimo_fed.cli import build_app
from mimo_fed.errors import ConfigError, ReleaseError, TransportError, VerificationError
from mimo_fed.release import ReleaseInfo
from mimo_fed.secagg import SigningKey
from mimo_fed.secagg.evidence import encode_evidence
from mimo_fed.secagg.manifest import make_manifest
from mimo_fed.secagg.messages import Ballot, ballot_digest, encode_quorum, vote_body
from mimo_fed_client import download
from mimo_fed_client.audit import Finding, Source, verify_file, verify_release
from mimo_fed_client.audit_lines import NOT_SHOWN, lines, to_json
from mimo_fed_server.client import RegistryClient
from mimo_fed_server.registry import service
from mimo_fed_server.registry.service import Registry
from tests.simulators.mirror import Lie, mirroring
from tests.simulators.registry_server import registry_server
from tests.unit.registry.test_http import evidence_of
from tests.unit.secagg.rig import Rig

ZERO, FIRST = b"release 0", b"release 1"
SUMS = {"shell-4": 40, "statistics": 8}


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _round(base: bytes, round_id: str, n_min: int = 3) -> Rig:
    """A round of four devices, over but for its result; all have the same keys."""
    rig = Rig(4, SUMS, base_digest=_sha(base), round_id=round_id, n_min=n_min)
    rig.gather(rig.random_inputs(1))
    rig.check_shares()
    rig.vote()
    rig.open()
    return rig


@pytest.fixture(scope="module")
def rig() -> Rig:
    return _round(ZERO, "round-1")


def evidence_by(rig: Rig, ballot: bytes, keys: dict[str, SigningKey], num_votes: int = 4) -> bytes:
    """Evidence of this ballot, with votes under these keys."""
    signed, on = rig.signed, ballot_digest(ballot)
    votes = {
        index: keys[signed.member_id(index)].sign("vote", vote_body(signed.mh, index, on))
        for index in range(num_votes)
    }
    return encode_evidence(signed, ballot, encode_quorum(signed.mh, on, votes))


def certificate_in(evidence: bytes, rig: Rig) -> bytes:
    start = len(encode_evidence(rig.signed, rig.coordinator.ballot(), b"")) - 4
    return evidence[start + 4 :]


class World:
    """A registry over HTTP that holds release 0 and the release of one round."""

    def __init__(self, home: Path, url: str, rig: Rig) -> None:
        self.home, self.url, self.rig = home, url, rig
        self.client = RegistryClient(url, (home / "admin-token").read_text())
        self.source = Source(url=url, root=(home / "root.json").read_bytes())

    def publish(self, adapter: bytes, round_id: str, evidence: bytes = b"", votes: str = "") -> ReleaseInfo:
        return self.client.publish(
            adapter,
            channel="dev",
            base_fingerprint="a" * 64,
            basis_epoch=0,
            spec_digest="b" * 64,
            round_id=round_id,
            quorum_digest=votes,
            evidence=evidence,
        )

    def verify(
        self, number: int | None = None, channel: str = "dev", evidence: bytes | None = None
    ) -> Finding:
        with self.source.open() as updater:
            return verify_release(updater, channel, number, evidence)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, rig: Rig) -> Path:
    home = tmp_path_factory.mktemp("template")
    result = rig.coordinator.result()
    with registry_server(home, anchors=rig.anchors.to_json()) as url:
        world = World(home, url, rig)
        world.publish(ZERO, "release-0")
        world.publish(FIRST, "round-1", result.evidence, result.quorum_digest)
        world.client.close()
    return home


@pytest.fixture
def world(template: Path, tmp_path: Path, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0.005)
    home = tmp_path / "registry"
    shutil.copytree(template, home)
    (home / "database-url").write_text(f"sqlite:///{home / 'registry.db'}")
    with registry_server(home) as url:
        world = World(home, url, rig)
        yield world
        world.client.close()


def test_a_round_is_verified_from_the_pinned_root(world: World) -> None:
    finding = world.verify()
    assert finding.info == world.client.latest("dev")
    assert finding.base is not None
    assert finding.base.number == 0
    assert finding.audit.opened == {"shell-4": 4, "statistics": 4}
    assert finding.audit == world.verify(1).audit
    assert finding.test_only


def test_what_is_shown_and_what_is_not_is_said(world: World) -> None:
    finding = world.verify()
    said = "\n".join(lines(finding))
    for part in (
        "release 1 of channel dev, round round-1",
        "4 of the 4 members of the committee, mode all; 3 were needed",
        "shell-4     4 devices, n_min 3",
        "unless more than 1 of the members",
        "TEST ONLY: n_min is 3, below 16",
        "revoked since the round does not count any more",
        *NOT_SHOWN,
    ):
        assert part in said
    found = json.loads(json.dumps(to_json(finding)))
    assert found["opened"][0] == {"name": "shell-4", "num_devices": 4, "n_min": 3}
    assert (found["release"], found["base_release"], found["test_only"]) == (1, 0, True)


def test_large_sums_are_not_called_test_only(world: World) -> None:
    audit = replace(world.verify().audit, n_min={"shell-4": 16, "statistics": 16})
    finding = Finding(audit=audit)
    assert not finding.test_only
    assert "TEST ONLY" not in "\n".join(lines(finding))


def test_a_promoted_release_keeps_its_evidence(world: World) -> None:
    world.client.promote(1, "stable")
    finding = world.verify(channel="stable")
    assert finding.info is not None
    assert finding.info.channel == "stable"
    assert finding.base is not None
    assert finding.base.number == 0
    world.publish(b"later", "by-hand")
    assert world.verify(1, "stable") == finding


def test_release_zero_has_no_round(world: World) -> None:
    with pytest.raises(ReleaseError, match="no round made the release") as refused:
        world.verify(0)
    assert "zero adapter" in refused.value.hint


def test_a_release_that_is_not_listed_is_said_so(world: World) -> None:
    with pytest.raises(ReleaseError, match="does not list the release: 7") as refused:
        world.verify(7)
    assert "--file" in refused.value.hint
    with pytest.raises(ReleaseError, match="channel has no release: stable"):
        world.verify(channel="stable")


def test_a_release_without_evidence_is_refused(world: World) -> None:
    world.publish(b"by hand", "round-2")
    with pytest.raises(VerificationError, match="no evidence of a round was published with the release: 2"):
        world.verify()


def test_evidence_of_another_round_is_refused(world: World) -> None:
    result = world.rig.coordinator.result()
    world.publish(b"other", "round-2", result.evidence, result.quorum_digest)
    with pytest.raises(VerificationError, match="another round, round-2: round-1"):
        world.verify()


def test_votes_that_the_record_does_not_name_are_refused(world: World) -> None:
    rig = world.rig
    fewer = evidence_by(rig, rig.coordinator.ballot(), rig.keys, num_votes=3)
    with pytest.raises(VerificationError, match="signed with another quorum certificate"):
        world.verify(1, evidence=fewer)


def _too_few_survivors(rig: Rig) -> bytes:
    ballot = Ballot.decode(rig.coordinator.ballot(), rig.signed)
    small = replace(ballot, survivors=ballot.survivors[:2])
    return evidence_by(rig, small.encode(rig.signed.mh), rig.keys)


def _forged_votes(rig: Rig) -> bytes:
    forger = dict.fromkeys(rig.keys, SigningKey.generate(rig.entropy))
    return evidence_by(rig, rig.coordinator.ballot(), forger)


def _too_few_votes(rig: Rig) -> bytes:
    return evidence_by(rig, rig.coordinator.ballot(), rig.keys, num_votes=2)


def _votes_for_another_ballot(rig: Rig) -> bytes:
    ballot = rig.coordinator.ballot()
    other = replace(Ballot.decode(ballot, rig.signed), opened=1).encode(rig.signed.mh)
    voted = certificate_in(evidence_by(rig, other, rig.keys), rig)
    return encode_evidence(rig.signed, ballot, voted)


def _another_coordinator(rig: Rig) -> bytes:
    m1 = make_manifest(SigningKey.generate(rig.entropy), rig.manifest)
    return encode_evidence(replace(rig.signed, encoded=m1), rig.coordinator.ballot(), b"")


def _nothing_in_it(_: Rig) -> bytes:
    return evidence_of("nobody")[0]


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (_too_few_survivors, "not within 3 and 4: 2"),
        (_forged_votes, "signature"),
        (_too_few_votes, "too few votes, 3: 2"),
        (_votes_for_another_ballot, "votes are for another ballot"),
        (_another_coordinator, "signature"),
        (_nothing_in_it, "cut short"),
    ],
)
def test_a_coordinator_that_publishes_false_evidence_is_found_out(
    world: World, lie: Callable[[Rig], bytes], said: str
) -> None:
    evidence = lie(world.rig)
    votes = _published_votes(world, evidence)
    info = world.publish(b"false", "round-1", evidence, votes)
    with pytest.raises(VerificationError, match=said) as refused:
        world.verify()
    assert f"evidence of release {info.number} does not hold" in refused.value.message


def _published_votes(world: World, evidence: bytes) -> str:
    registry = Registry(world.home)
    try:
        return registry.keep_evidence(evidence)[1]
    finally:
        registry.close()


MIRROR_LIES: dict[str, Lie] = {
    "another round's": lambda request, truth: request.answer(evidence_of("another")[0]),
    "truncated": lambda request, truth: request.answer(truth[:-100]),
    "one bit": lambda request, truth: request.answer(truth[:50] + bytes([truth[50] ^ 1]) + truth[51:]),
    "another's, as long": lambda request, truth: request.answer(bytes(len(truth))),
    "endless": lambda request, truth: request.endless(),
}


@pytest.mark.parametrize("name", list(MIRROR_LIES))
def test_a_mirror_that_serves_other_evidence_is_refused(world: World, name: str) -> None:
    with mirroring(world.home / "tuf") as mirror:
        world.source = replace(world.source, url=mirror.url)
        assert world.verify().base is not None
        mirror.lies["round.evidence"] = MIRROR_LIES[name]
        with pytest.raises(VerificationError):
            world.verify()


def test_a_mirror_that_has_no_evidence_is_a_transport_error(world: World) -> None:
    with mirroring(world.home / "tuf") as mirror:
        world.source = replace(world.source, url=mirror.url)
        mirror.lies["round.evidence"] = lambda request, _: request.answer(b"", status=404)
        with pytest.raises(TransportError):
            world.verify()


def test_a_mirror_with_an_older_view_is_refused_below_the_floor(world: World) -> None:
    world.source = replace(world.source, floor={"dev": 5})
    with pytest.raises(VerificationError, match="goes back from release 5 to 1"):
        world.verify()


def test_a_certificate_revoked_since_does_not_count(world: World) -> None:
    rig = world.rig
    serial = rig.certificates["device-02"].serial
    registry = Registry(world.home)
    registry.repository.set_anchors(replace(rig.anchors, revoked=frozenset({serial})).to_json())
    registry.close()
    with pytest.raises(VerificationError, match="certificate is revoked: device-02") as refused:
        world.verify()
    assert "revoked since the round does not count" in refused.value.hint


def test_a_round_that_worked_on_no_release_is_refused(world: World) -> None:
    candidate = b"release 2"
    result = _round(candidate, "round-2").coordinator.result()  # as an evaluate round of the release itself
    world.publish(candidate, "round-2", result.evidence, result.quorum_digest)
    with pytest.raises(VerificationError, match="worked on no release listed before 2"):
        world.verify()


def test_a_late_round_is_traced_to_the_release_it_began_from(world: World) -> None:
    result = _round(ZERO, "round-2").coordinator.result()
    world.publish(b"release 2", "round-2", result.evidence, result.quorum_digest)
    finding = world.verify()
    assert finding.base is not None
    assert finding.base.number == 0
    assert "release 0, with others since, up to 1" in "\n".join(lines(finding))


def test_a_base_that_is_not_listed_any_more_is_said_not_to_be_checked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LISTED", 1)
    result = _round(FIRST, "round-2").coordinator.result()
    world.publish(b"release 2", "round-2", result.evidence, result.quorum_digest)
    finding = world.verify()
    assert finding.base is None
    assert "not checked, since the release before this one is not listed" in "\n".join(lines(finding))
    assert to_json(finding)["base_release"] is None


def test_a_file_is_checked_alone_or_against_a_release(world: World) -> None:
    evidence = world.rig.coordinator.result().evidence
    with world.source.open() as updater:
        finding = verify_file(updater, evidence)
        with pytest.raises(VerificationError, match="evidence of the file does not hold"):
            verify_file(updater, evidence[:-1])
    assert (finding.info, finding.base) == (None, None)
    assert "a file, compared with no release" in "\n".join(lines(finding))
    assert world.verify(1, evidence=evidence) == world.verify(1)


def _run(*words: str | Path) -> str:
    result = CliRunner().invoke(build_app(), ["round", "verify", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    return result.output


def _agent(world: World, folder: Path) -> Path:
    folder.mkdir()
    (folder / "agent.toml").write_text(
        f'device_id = "phone"\nhome = "state"\ncorpus = "c"\nsuperlink = "127.0.0.1:1"\n'
        f'registry_url = "{world.url}"\nroot_file = "{world.home / "root.json"}"\n'
    )
    return folder


def test_the_command_takes_a_device_or_a_registry_and_its_root(world: World, tmp_path: Path) -> None:
    source = ("--registry", world.url, "--root", world.home / "root.json")
    home = _agent(world, tmp_path / "phone")
    said = _run("latest", *source)
    assert "The evidence holds: release 1 of channel dev" in said
    assert "TEST ONLY" in said
    assert "release 1 of channel dev" in _run("1", "--home", home)
    assert sorted(p.name for p in home.iterdir()) == ["agent.toml"]
    (tmp_path / "copy").write_bytes(world.rig.coordinator.result().evidence)
    assert "a file, compared with no release" in _run("--home", home, "--file", tmp_path / "copy")
    assert "release 1 of" in _run("1", "--home", home, "--file", tmp_path / "copy")


def test_a_devices_floor_counts(world: World, tmp_path: Path) -> None:
    home = _agent(world, tmp_path / "phone")
    (home / "state" / "updater").mkdir(parents=True)
    (home / "state" / "updater" / "floor.json").write_text('{"dev": 9}')
    with pytest.raises(VerificationError, match="goes back from release 9"):
        _run("latest", "--home", home)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("latest",), "what to trust is not said"),
        (("latest", "--registry", "http://127.0.0.1:1"), "what to trust is not said"),
        (("latest", "--home", "x", "--registry", "http://127.0.0.1:1"), "said twice"),
        (("newest", "--home", "x"), "not the number of a release: 'newest'"),
        (("²", "--home", "x"), "not the number"),
        ((), "neither a release nor a file"),
        (("--home", "x", "--file", "/nowhere/file"), "cannot be read .*: /nowhere/file"),
        (("latest", "--home", "/nowhere"), "settings cannot be read"),
    ],
)
def test_a_question_that_is_none_is_said_so(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _run(*words)


def test_help_has_examples() -> None:
    assert "Examples" in _run("--help")
    assert "verify" in CliRunner().invoke(build_app(), ["round", "--help"]).output


def test_a_refusal_ends_the_command_with_1(world: World) -> None:
    command = [sys.executable, "-m", "mimo_fed.cli", "round", "verify"]
    source = ["--registry", world.url, "--root", str(world.home / "root.json"), "--json"]
    done = subprocess.run([*command, "latest", *source], capture_output=True, check=True)
    assert json.loads(done.stdout)["release"] == 1
    assert b"TEST ONLY" in done.stderr
    world.publish(b"by hand", "round-2")
    done = subprocess.run([*command, "latest", *source], capture_output=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "release.verification"
