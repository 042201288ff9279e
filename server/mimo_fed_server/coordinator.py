"""The coordination server's main loop: train, publish, judge, promote, tell the devices; again.

Each step is stored when it is done. A coordinator that is killed is started again by the supervisor and
goes on with the step, and inside a round with the stage, that it had reached.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mimo_fed.adapter import AdapterSpec
from mimo_fed.config import RoundConfig
from mimo_fed.errors import ConfigError, MimoFedError, RoundAborted
from mimo_fed.events import EventLog
from mimo_fed.round import envelope
from mimo_fed.round.cohort import Candidate, come_back_s, note_asked, note_contributed, write_rest
from mimo_fed.round.coordinate import Coordination
from mimo_fed.round.fleet import Fleet
from mimo_fed.round.outcome import Outcome
from mimo_fed.round.records import Plan
from mimo_fed.secagg import Anchors, Certificate, SigningKey, verify_hello
from mimo_fed_server.client import RegistryClient
from mimo_fed_server.learning import Learning
from mimo_fed_server.registry.files import write_atomically
from mimo_fed_server.rounds import RoundsDatabase, StoredRound
from mimo_fed_server.settings import CoordinatorSettings

LOCK_FILE = "coordinator.pid"
MAX_ABORTED = {"train": 5, "evaluate": 2}
"""after so many in a cycle the coordinator gives up; without a judgement a release is not promoted"""
NOTICE_S = 300.0
REST_S = 5.0
"""how long answers of devices that are told to rest are waited for"""

Identify = Callable[[bytes, bytes], Certificate]


def run(make_fleet: Callable[[Identify], Fleet], settings: CoordinatorSettings) -> None:
    """Run all rounds that are left.

    Args:
        make_fleet: given a check of hellos (nonce, answer -> certificate), returns the devices.
        settings: the coordinator's file.

    Raises:
        RoundAborted: a round was aborted `MAX_ABORTED` times.
        RegistryError: the registry refuses, or stays away.
    """
    with only_one(Path(settings.home)):
        coordinator = CoordinatorProcess(make_fleet, settings)
        try:
            coordinator.run()
        finally:
            coordinator.close()


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home's lock, with this process's id in it for the supervisor.

    Raises:
        ConfigError: another coordinator has it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / LOCK_FILE).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise ConfigError(
                f"another coordinator works in this folder, process {lock.read().strip()}: {home}"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


class CoordinatorProcess:
    """One life of the coordinator: its database, its key and the devices."""

    def __init__(self, make_fleet: Callable[[Identify], Fleet], settings: CoordinatorSettings) -> None:
        self._settings = settings
        home = Path(settings.home)
        self._rounds = RoundsDatabase(home)
        self._events = EventLog(home / "events.jsonl")
        self._key = SigningKey.from_bytes(bytes.fromhex(_read(settings.key_file).decode().strip()))
        self._anchors = Anchors.from_json(_read(settings.anchors_file))
        self._spec = AdapterSpec.from_json(_read(settings.spec_file))
        self._registry = RegistryClient(
            settings.registry_url, _read(settings.registry_token_file).decode().strip()
        )
        self._learning = Learning(settings, self._registry, self._spec)
        self._fleet = make_fleet(self._identify)

    def run(self) -> None:
        """Run cycle after cycle until as many as the settings ask for are done."""
        self._events.emit("coordinator.started", pid=os.getpid(), cycle=self._rounds.cycles_done())
        while (cycle := self._rounds.cycles_done()) < self._settings.rounds:
            self._cycle(cycle)
        self._events.emit("done", rounds=self._settings.rounds)

    def close(self) -> None:
        """Let files and connections go."""
        self._rounds.close()
        self._registry.close()

    def _cycle(self, cycle: int) -> None:
        """One train round and what follows from it; finished steps are not done again."""
        steps: tuple[tuple[str, Callable[[int, dict[str, Any]], Any]], ...] = (
            ("train", self._train),
            ("publish", self._publish),
            ("judge", self._judge),
            ("promote", self._promote),
            ("notify", self._notify),
        )
        for name, act in steps:
            done = self._rounds.steps(cycle)
            if name not in done:
                self._rounds.finish(cycle, name, act(cycle, done))

    def _train(self, cycle: int, _: dict[str, Any]) -> dict[str, Any]:
        last = self._rounds.steps(cycle - 1).get("train", {}).get("record")
        config = self._learning.config(cycle, last)
        while True:
            current = self._registry.latest("dev")
            if current is None:
                raise ConfigError(
                    "channel dev holds no release", hint="publish release 0, the zero adapter, first"
                )
            outcome, record = self._round(cycle, config, current.digest)
            try:
                advanced, said = self._learning.step(cycle, outcome)
            except RoundAborted as aborted:  # its mean is of no use any more: the next round
                self._abort(cycle, config.kind, record["round_id"], aborted)
            else:
                break
        adapter = advanced.adapter.to_safetensors()
        digest = hashlib.sha256(adapter).hexdigest()
        self._learning.keep(digest, advanced.state)
        write_atomically(self._result(digest), adapter)
        write_atomically(self._evidence(digest), outcome.result.evidence)
        return {"digest": digest, "record": record | said}

    def _publish(self, cycle: int, done: dict[str, Any]) -> dict[str, Any]:
        train = done["train"]
        path = self._result(train["digest"])
        record = train["record"]
        info = self._registry.publish(
            path.read_bytes(),
            channel="dev",
            base_fingerprint=self._spec.base_fingerprint,
            basis_epoch=record["basis_epoch"],
            spec_digest=self._spec.digest(),
            round_id=record["round_id"],
            quorum_digest=record["quorum_digest"],
            evidence=self._evidence(train["digest"]).read_bytes(),
        )
        record["release"] = info.number
        self._registry.put_round(record["round_id"], record)
        self._events.emit(
            "release.published", number=info.number, digest=info.digest, round_id=record["round_id"]
        )
        return {"number": info.number, "digest": info.digest}

    def _judge(self, cycle: int, done: dict[str, Any]) -> dict[str, Any]:
        """Let the devices compare the new release with what serves now; a thin answer is no approval."""
        config = replace(self._settings.round, kind="evaluate")
        try:
            _, record = self._round(cycle, config, done["publish"]["digest"])
        except RoundAborted as aborted:
            return {"better": False, "reason": f"inconclusive: {aborted.message}"}
        record["release"] = done["publish"]["number"]
        self._registry.put_round(record["round_id"], record)
        before, after = record["loss_before"], record["loss_after"]
        return {"better": after < before, "reason": f"loss {before:.4f} -> {after:.4f} nats per token"}

    def _promote(self, cycle: int, done: dict[str, Any]) -> dict[str, Any]:
        number, judged = done["publish"]["number"], done["judge"]
        if not judged["better"]:
            self._events.emit("release.kept_back", number=number, reason=judged["reason"])
            return {"promoted": False}
        info = self._registry.promote(number, "stable")
        self._events.emit("release.promoted", number=info.number, channel="stable", reason=judged["reason"])
        return {"promoted": True}

    def _notify(self, cycle: int, done: dict[str, Any]) -> dict[str, Any]:
        """Tell the devices to look; what each did is an event, a silent one looks by itself later."""
        request = json.dumps(
            {"release": done["publish"]["number"], "last": cycle + 1 == self._settings.rounds}
        )
        helpers = self._anchors.helpers
        there = self._fleet.discover(deadline_at_s=time.time() + 10)
        requests = {c.device_id: request.encode() for c in there if c.public_key not in helpers}
        states: dict[str, str] = {}
        asked = self._fleet.ask(
            "installed", requests, deadline_at_s=time.time() + NOTICE_S, stop=lambda: False
        )
        for answer in asked:
            try:
                said = json.loads(envelope.unwrap(answer.payload))
                state, release = str(said["state"]), int(said["release"])
            except (MimoFedError, ValueError, KeyError, TypeError) as error:
                state, release = f"failed: {str(error)[:200]}", -1
            states[answer.device_id] = state
            self._events.emit("device.installed", device=answer.device_id, state=state, release=release)
        digest = done["train"]["digest"]
        self._learning.forget_all_but(digest)
        for path in (self._result(digest), self._evidence(digest)):
            path.unlink(missing_ok=True)
        return states

    def _result(self, digest: str) -> Path:
        """Where a cycle's new adapter is until the cycle is over; the registry has it as well by then."""
        return self._rounds.home / f"{digest}.safetensors"

    def _evidence(self, digest: str) -> Path:
        """Where the evidence of that adapter's round is, as long."""
        return self._rounds.home / f"{digest}.evidence"

    def _round(self, cycle: int, config: RoundConfig, base_digest: str) -> tuple[Outcome, dict[str, Any]]:
        """Run a round, or go on with the stored one; after an abort, the next.

        It stays open until what follows from it is stored: whoever is killed before replays it.
        """
        while True:
            plan, started_at = self._rounds.open_round(cycle, config) or self._rounds.new_round(
                cycle, config, base_digest, time.time()
            )
            plan = replace(
                plan,
                min_devices=self._settings.min_devices,
                patience_s=self._settings.patience_s,
                known={d: c for d, c in self._rounds.known_devices().items() if _earlier(c, plan)},
            )
            try:
                outcome = self._coordination(plan).run(plan)
            except RoundAborted as aborted:
                self._abort(cycle, config.kind, plan.round_id, aborted)
                continue
            self._note(plan, outcome)
            self._send_away(plan, outcome, time.time() - started_at)
            record = self._record(plan, outcome, started_at)
            self._keep_for_tests(plan, outcome)
            return outcome, record

    def _abort(self, cycle: int, kind: str, round_id: str, aborted: RoundAborted) -> None:
        """End a round without a result; after too many, give up.

        Raises:
            RoundAborted: there were `MAX_ABORTED` in this cycle.
        """
        self._rounds.end_round(round_id, "aborted")
        self._events.emit("round.aborted", round_id=round_id, message=aborted.message)
        if self._rounds.num_aborted(cycle, kind) >= MAX_ABORTED[kind]:
            raise aborted

    def _note(self, plan: Plan, outcome: Outcome) -> None:
        """Keep who was asked and who is in the sums, for a fair draw of later cohorts."""
        asked = note_asked(plan.known, outcome.cohort, plan.sequence)
        survivors = set(outcome.result.survivors) & set(asked)
        contributed = note_contributed(asked, survivors, plan.sequence)
        self._rounds.note_devices((asked | contributed).values())

    def _send_away(self, plan: Plan, outcome: Outcome, took_s: float) -> None:
        """Tell the devices that were not needed when to come back; whether they hear it matters little."""
        if plan.config.kind != "train":
            return
        there = self._fleet.discover(deadline_at_s=time.time() + 10)
        idle = [
            c.device_id
            for c in there
            if c.device_id not in outcome.cohort and c.public_key not in self._anchors.helpers
        ]
        want = plan.config.open_at or plan.config.n_max
        requests = {}
        for device_id in idle:
            u = int.from_bytes(os.urandom(6), "big") / 2**48
            rest_s = come_back_s(len(there), want, took_s, u, next_round_s=0.0, pace=self._settings.pace)
            requests[device_id] = write_rest(rest_s, "there are enough devices for now")
        for _ in self._fleet.ask("later", requests, deadline_at_s=time.time() + REST_S, stop=lambda: False):
            pass
        if idle:
            self._events.emit("devices.rest", num=len(idle))

    def _coordination(self, plan: Plan) -> Coordination:
        return Coordination(
            self._fleet,
            StoredRound(self._rounds, plan.round_id),
            key=self._key,
            anchors=self._anchors,
            spec=self._spec,
            entropy=os.urandom,
            now_s=time.time,
            events=self._events,
        )

    def _record(self, plan: Plan, outcome: Outcome, started_at: float) -> dict[str, Any]:
        """Write down what anybody may know of the round."""
        result, (before, after) = outcome.result, outcome.losses
        opened = [
            {"name": n, "num_devices": s.num_devices, "opened": True, "reason": ""}
            for n, s in result.sums.items()
            if n not in outcome.closed
        ]
        closed = [
            {"name": n, "num_devices": 0, "opened": False, "reason": r} for n, r in outcome.closed.items()
        ]
        spool = StoredRound(self._rounds, plan.round_id).spool
        record = {
            "round_id": plan.round_id,
            "kind": plan.config.kind,
            "sequence": plan.sequence,
            "mode": outcome.manifest.mode,
            "members": len(outcome.manifest.members),
            "cohort": list(outcome.cohort),
            "survivors": list(result.survivors),
            "dropouts": list(outcome.dropouts),
            "quorum_digest": result.quorum_digest,
            "votes": outcome.votes,
            "accused": sorted({accused for _, accused, _ in result.accused}),
            "liars": list(result.liars),
            "release": None,
            "sums": opened + closed,
            "loss_before": round(before, 5),
            "loss_after": round(after, 5),
            "clipped": round(outcome.statistics["clipped"]),
            "improved": round(outcome.statistics["improved"]),
            "bytes_up": spool.num_bytes(),
            "seconds": round(time.time() - started_at, 2),
            "started_at": round(started_at, 3),
            "n_min": plan.config.n_min,
            "test_only": plan.config.n_min < 16,
        }
        public = {k: v for k, v in record.items() if k != "kind"}
        self._events.emit("round.opened", round_kind=plan.config.kind, **public)
        return record

    def _keep_for_tests(self, plan: Plan, outcome: Outcome) -> None:
        """Write the opened totals where a test asked for them; off unless the settings name a folder."""
        if self._settings.test_plaintext:
            folder = Path(self._settings.test_plaintext)
            folder.mkdir(parents=True, exist_ok=True)
            totals: dict[str, Any] = {name: s.total_D for name, s in outcome.result.sums.items()}
            np.savez(folder / f"{plan.round_id}.opened.npz", **totals)

    def _identify(self, nonce: bytes, payload: bytes) -> Certificate:
        return verify_hello(envelope.unwrap(payload), nonce, self._anchors, int(time.time()))


def _earlier(candidate: Candidate, plan: Plan) -> bool:
    """Whether a device's record is from before this round; of a round that is taken up again it is not."""
    return candidate.last_round is None or candidate.last_round < plan.sequence


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read a file the settings name: {path} ({error.strerror})") from None
