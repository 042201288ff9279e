"""Real agents in this process, on the small base; only Flower is left out, and enrolment is done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mimo_fed.adapter import AdapterSpec
from mimo_fed.model import load_base
from mimo_fed.release import ReleaseInfo
from mimo_fed.round import envelope
from mimo_fed.round.fleet import Answer
from mimo_fed.secagg import Anchors, Certificate, SigningKey, issue_certificate, verify_hello
from mimo_fed_client.agent import Agent, device_spec
from mimo_fed_client.settings import AgentSettings, load_settings
from mimo_fed_server.client import RegistryClient
from tests.simulators.registry_server import registry_server

TRAIN = "the package NAME is a small tool that reads files and prints what it found in them. " * 3
TEST = "a small tool that reads files and prints what it found in package NAME."


class World:
    """A coordinator's key, an authority's key, a registry, and homes of enrolled devices."""

    def __init__(self, folder: Path, url: str, key: SigningKey, authority: SigningKey) -> None:
        self.folder, self.url, self.key, self.authority = folder, url, key, authority
        self.spec: AdapterSpec = device_spec(load_base("mimo-nano"))
        self.registry = RegistryClient(url, (folder / "registry" / "admin-token").read_text())
        self.anchors = Anchors(key.public_key, authority.public_key, frozenset())

    def publish(self, adapter: bytes, name: str, *, promote: bool = True, epoch: int = 0) -> ReleaseInfo:
        """Sign a release; on channel stable too, if wanted."""
        spec = self.spec
        info = self.registry.publish(
            adapter,
            channel="dev",
            base_fingerprint=spec.base_fingerprint,
            basis_epoch=epoch,
            spec_digest=spec.digest(),
            round_id=name,
            quorum_digest="",
        )
        return self.registry.promote(info.number, "stable") if promote else info

    def settings(self, name: str, rank: int = 4, extra: str = "") -> AgentSettings:
        """Write a device's settings, corpus, key and certificate."""
        home = self.folder / "devices" / name
        if not home.exists():
            home.mkdir(parents=True)
            self._enrol(name, home)
            lines = [(TRAIN, "train")] * 4 + [(TEST, "validation"), (TEST, "test")]
            (home / "corpus.jsonl").write_text(
                "".join(f'{{"text": "{t.replace("NAME", name)}", "split": "{s}"}}\n' for t, s in lines)
            )
            (home / "agent.toml").write_text(
                f'device_id = "{name}"\nhome = "."\ncorpus = "corpus.jsonl"\nbase = "mimo-nano"\n'
                f'superlink = "127.0.0.1:1"\nregistry_url = "{self.url}"\nrank = {rank}\n'
                f'root_file = "{self.folder / "registry" / "root.json"}"\npatience_s = 1\n{extra}'
                f"\n[policy]\nn_min_floor = 3\n"
            )
        return load_settings(home / "agent.toml")

    def _enrol(self, name: str, home: Path) -> None:
        key = SigningKey.generate(os.urandom)
        certificate = issue_certificate(
            self.authority,
            device_id=name,
            public_key=key.public_key,
            serial=len(list((self.folder / "devices").iterdir())),
            not_before_s=int(time.time()) - 60,
            not_after_s=int(time.time()) + 3600,
        )
        (home / "key").write_bytes(key.to_bytes())
        (home / "certificate").write_bytes(certificate.encode())


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Serve a registry and give the keys that go with it."""
    key, authority = SigningKey.generate(os.urandom), SigningKey.generate(os.urandom)
    anchors = Anchors(key.public_key, authority.public_key, frozenset())
    with registry_server(folder / "registry", anchors=anchors.to_json()) as url:
        made = World(folder, url, key, authority)
        try:
            yield made
        finally:
            made.registry.close()


class AgentFleet:
    """Agents of this process as the coordinator's fleet."""

    def __init__(self, agents: Mapping[str, Agent], anchors: Anchors) -> None:
        self.agents, self._anchors = agents, anchors

    def discover(self, *, deadline_at_s: float) -> tuple[Certificate, ...]:
        nonce = os.urandom(32)
        answers = [envelope.unwrap(agent.handle("hello", nonce)) for agent in self.agents.values()]
        certificates = [verify_hello(a, nonce, self._anchors, int(time.time())) for a in answers]
        return tuple(sorted(certificates, key=lambda certificate: certificate.device_id))

    def ask(
        self, stage: str, requests: Mapping[str, bytes], *, deadline_at_s: float, stop: Callable[[], bool]
    ) -> Iterator[Answer]:
        for device_id, payload in requests.items():
            yield Answer(device_id, self.agents[device_id].handle(stage, payload))
