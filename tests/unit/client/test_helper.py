"""A helper organisation's place on committees: what it opens, what it refuses, and what its auditors read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mimo_fed.config import SecureSumConfig
from mimo_fed.errors import ConfigError, PeerProtocolError, RoundAborted
from mimo_fed.events import EventLog
from mimo_fed.round import envelope
from mimo_fed.round.membership import prekey_request
from mimo_fed.round.records import Plan
from mimo_fed.secagg import CLASSIC, HYBRID
from mimo_fed.secagg.messages import Ballot
from mimo_fed_client.helper_log import RoundLog, read_log, rounds_of
from mimo_fed_client.helper_member import HelperMember
from mimo_fed_client.helper_settings import HelperPolicy, load_helper_settings
from mimo_fed_client.journal import FileJournal
from tests.simulators.fleet import NOW_S, MemoryFleet, MemoryStore, Stream
from tests.unit.round.test_round import CONFIG, PLAN, run

HELPED = replace(PLAN, config=replace(CONFIG, secure_sum=SecureSumConfig(committee="helper")))


class Site:
    """A fleet of simulated devices whose helpers are real, with journals and logs on disk."""

    def __init__(self, folder: Path, **policy: object) -> None:
        self.folder, self.fleet = folder, MemoryFleet(folder, helpers=3)
        self.policy = HelperPolicy(n_min_floor=3, **policy)  # type: ignore[arg-type]
        self.identities = {
            name: (helper.key, helper.certificate) for name, helper in self.fleet.helpers.items()
        }
        for name in self.identities:
            self.start(name)

    def start(self, name: str) -> HelperMember:
        """A process of its own: it knows what its journal and its log hold."""
        key, certificate = self.identities[name]
        helper = HelperMember(
            FileJournal(self.folder / name / "journal", bytes(32)),
            RoundLog(self.log(name)),
            key=key,
            certificate=certificate,
            anchors=lambda: self.fleet.anchors,
            policy=self.policy,
            entropy=Stream(name),
            now_s=self.fleet.now_s,
            events=self.fleet_events(name),
        )
        self.fleet.helpers[name] = helper  # type: ignore[assignment]
        return helper

    def fleet_events(self, name: str) -> EventLog:
        return EventLog(self.folder / f"{name}.jsonl")

    def log(self, name: str) -> Path:
        (self.folder / name).mkdir(exist_ok=True)
        return self.folder / name / "rounds.jsonl"

    def round(self, plan: Plan = HELPED) -> MemoryStore:
        store = MemoryStore()
        run(self.fleet, store, plan, self.folder)
        return store


def refused(helper: HelperMember, stage: str, payload: bytes) -> str:
    with pytest.raises(PeerProtocolError) as caught:
        envelope.unwrap(helper.handle(stage, payload))
    return caught.value.message


def test_auditors_read_what_was_opened_and_no_device(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.round()
    (told,) = rounds_of(read_log(site.log("helper-1")))
    assert told["round_id"] == HELPED.round_id
    assert told["sums"] == {"r1-4": 8, "r5-8": 6, "r9-16": 4, "statistics": 8}
    assert told["joined_at"]
    assert told["voted_at"]
    assert told["opened_at"]
    assert "device-" not in site.log("helper-1").read_text()


def test_started_again_it_gives_the_same_vote_and_no_other(tmp_path: Path) -> None:
    site = Site(tmp_path)
    store = site.round()
    ballot = next(r.data for r in store.kept if r.stage == "ballot")
    vote = next(r.data for r in store.kept if (r.stage, r.device_id) == ("vote", "helper-1"))
    mh = bytes.fromhex(read_log(site.log("helper-1"))[0]["mh"])
    again = site.start("helper-1")
    assert envelope.unwrap(again.handle("ballot", mh + ballot)) == vote
    signed = again._known(mh)
    smaller = Ballot.decode(ballot, signed)
    other = replace(smaller, survivors=smaller.survivors[1:]).encode(signed.mh)
    assert "voted for another one" in refused(again, "ballot", mh + other)
    lines = read_log(site.log("helper-1"))
    assert [line["kind"] for line in lines] == ["joined", "voted", "opened"]


def test_it_answers_a_committees_stages_and_no_others(tmp_path: Path) -> None:
    helper = Site(tmp_path).start("helper-1")
    for stage in ("contribute", "installed", "later", "run", ""):
        assert "unknown stage" in refused(helper, stage, b"payload")
    for stage in ("shares", "ballot", "open"):
        assert "no part in that round" in refused(helper, stage, bytes(64))


def test_a_round_without_helpers_is_none_of_its_business(tmp_path: Path) -> None:
    site = Site(tmp_path)
    store = MemoryStore()
    run(site.fleet, store, PLAN, tmp_path)
    signed = next(r.data for r in store.kept if r.stage == "manifest")
    assert "does not trust a committee of mode: all" in refused(site.start("helper-1"), "join", signed)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"time_left_min_s": 7000.0, "time_left_max_s": 8000.0}, "time is not within"),
        ({"time_left_min_s": 1.0, "time_left_max_s": 10.0}, "time is not within"),
    ],
)
def test_a_round_in_a_hurry_or_without_end_is_refused(
    tmp_path: Path, policy: dict[str, float], words: str
) -> None:
    site = Site(tmp_path, **policy)
    with pytest.raises(RoundAborted, match="took their places, 3 must: 0"):
        site.round()
    assert words in (tmp_path / "coordinator.jsonl").read_text()


def test_rounds_too_close_to_each_other_are_refused(tmp_path: Path) -> None:
    site = Site(tmp_path, interval_s=3600.0)
    site.round()
    later = replace(HELPED, round_id="train-2-aa", sequence=2)
    with pytest.raises(RoundAborted, match="took their places"):
        site.round(later)
    site.fleet.now_s = lambda: NOW_S + 3700.0
    assert "every 3600 s at most" in (tmp_path / "coordinator.jsonl").read_text()


def test_an_owners_floor_and_suite_count(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.policy = HelperPolicy(n_min_floor=4)
    strict = site.start("helper-1")
    assert "does not take part in the suite" in refused(strict, "prekey", prekey_request(CLASSIC, "train-9"))
    assert envelope.unwrap(strict.handle("prekey", prekey_request(HYBRID, "train-9")))
    with pytest.raises(RoundAborted):
        site.round()
    assert "fewer than 4: 3" in (tmp_path / "coordinator.jsonl").read_text()


def test_it_gives_no_prekey_while_it_is_not_pinned(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.fleet.anchors = replace(site.fleet.anchors, helpers=frozenset())
    helper = site.start("helper-1")
    assert "not pinned" in refused(helper, "prekey", prekey_request(HYBRID, "train-9"))


def test_a_torn_line_is_cut_off_and_a_damaged_one_is_not_repaired(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    log = RoundLog(path)
    log.add("joined", "ab", at_s=1.0, round_kind="train")
    log.add("joined", "ab", at_s=2.0, round_kind="train")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"at": 3, "kind"')
    assert [line["at"] for line in read_log(path)] == [1.0]
    assert RoundLog(path).has("joined", "ab")
    assert path.read_bytes() == whole
    path.write_bytes(b'{"at": "x"}\n' + whole)
    with pytest.raises(ConfigError, match="damaged at line 1"):
        RoundLog(path)


SETTINGS = 'helper_id = "h1"\nhome = "h"\nsuperlink = "x:1"\nregistry_url = "http://x"\nroot_file = "root"\n'


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("model = 1\n", "model"),
        ("[policy]\nn_min_floor = 1\n", "n_min_floor"),
        ("[policy]\nsuites = []\n", "suites"),
        ('[policy]\nsuites = ["rot13"]\n', "suites"),
        ("[policy]\ntime_left_min_s = 9.0\ntime_left_max_s = 8.0\n", "time_left_min_s"),
    ],
)
def test_settings_that_are_wrong_are_said_so(tmp_path: Path, more: str, words: str) -> None:
    file = tmp_path / "helper.toml"
    file.write_text(SETTINGS)
    assert not load_helper_settings(file).policy.test_only
    file.write_text(SETTINGS + more)
    with pytest.raises(ConfigError, match=words):
        load_helper_settings(file)


def test_the_commands_make_a_key_once_and_say_what_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mimo_fed_client.helper_cli import helper_init, helper_status

    file = tmp_path / "helper.toml"
    file.write_text(SETTINGS)
    helper_init(file, as_json=True)
    helper_init(file, as_json=True)
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first == second
    assert len(bytes.fromhex(first["public_key"])) == 32
    helper_status(file)
    text = capsys.readouterr().out
    assert "does not run, not enrolled, never saw the registry" in text
    assert first["public_key"] in text
