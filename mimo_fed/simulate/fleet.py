"""A fleet in one process: the real driver of every device and helper organisation, and a way to lose them.

Keys, certificates and masks come from one seed, so that a round can be repeated bit for bit. What a driver
keeps of a round is forgotten when the round is over, so that thousands of devices fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from mimo_fed.events import EventLog
from mimo_fed.round import envelope
from mimo_fed.round.contribute import Contributor, Tap
from mimo_fed.round.device import Device, Policy
from mimo_fed.round.fleet import Answer
from mimo_fed.round.membership import Membership
from mimo_fed.secagg import (
    Anchors,
    Arithmetic,
    Certificate,
    DevicePolicy,
    SigningKey,
    issue_certificate,
    verify_hello,
)
from mimo_fed.simulate.stores import MemoryJournal, Stream

CERTIFICATE_S: Final = 10 * 365 * 86_400
_NONCE: Final = b"n" * 32


class MemoryFleet:
    """Devices, and helper organisations, in this process; see `mimo_fed.round.fleet.Fleet`.

    Args:
        devices: by id.
        policy: what each device's owner allows; helpers ask for the same n_min and suites.
        now_s: returns seconds since the epoch.
        seed: names all keys and all entropy.
        lost: (stage, id) -> True: that party does not answer.
        helpers: how many pinned organisations there are.
        population: what the anchors say of the number of enrolled devices.
        events: id -> where that party's events go.
        arithmetic: how masks are computed.
        tap: sees every device's inputs before they are sealed.

    Attributes:
        asked: (stage, id) of every question of the round so far.
    """

    def __init__(
        self,
        devices: Mapping[str, Device],
        *,
        policy: Policy,
        now_s: Callable[[], float],
        seed: str = "fleet",
        lost: Callable[[str, str], bool] = lambda stage, device: False,
        helpers: int = 0,
        population: int = 0,
        events: Callable[[str], EventLog] = lambda name: EventLog(None),
        arithmetic: Arithmetic | None = None,
        tap: Tap | None = None,
    ) -> None:
        self.now_s, self.policy, self.lost = now_s, policy, lost
        self._seed, self._events = seed, events
        entropy = Stream(seed)
        self.key, self.authority = SigningKey.generate(entropy), SigningKey.generate(entropy)
        pinned = {f"helper-{i + 1}": SigningKey.generate(entropy) for i in range(helpers)}
        self.anchors = Anchors(
            self.key.public_key,
            self.authority.public_key,
            helpers=frozenset(key.public_key for key in pinned.values()),
            population=population,
        )
        self.contributors: dict[str, Contributor] = {}
        self.helpers: dict[str, Membership] = {}
        self.certificates: dict[str, Certificate] = {}
        self.journals: dict[str, MemoryJournal] = {}
        self.streams: dict[str, Stream] = {}
        self.asked: list[tuple[str, str]] = []
        for name, device in devices.items():
            party = self._party(name, SigningKey.generate(entropy))
            self.contributors[name] = Contributor(
                device, self.journals[name], policy=policy, arithmetic=arithmetic, tap=tap, **party
            )
        of_helpers = DevicePolicy(n_min_floor=policy.n_min_floor, suites=policy.of_manifests().suites)
        for name, key in pinned.items():
            party = self._party(name, key)
            self.helpers[name] = Membership(self.journals[name], policy=of_helpers, **party)

    def _party(self, name: str, key: SigningKey) -> dict[str, Any]:
        """Return what every party is given beside its journal and its policy."""
        self.journals[name], self.streams[name] = MemoryJournal(), Stream(name)
        serial = len(self.certificates) + 1
        self.certificates[name] = certify(self.authority, name, key, serial, self.now_s())
        return {
            "key": key,
            "certificate": self.certificates[name],
            "anchors": lambda: self.anchors,
            "entropy": self.streams[name],
            "now_s": self.now_s,
            "events": self._events(name),
        }

    def begin_round(self, sequence: int) -> None:
        """Draw from here on what only the fleet's seed and this number decide, whatever came before."""
        self.asked.clear()
        for name, stream in self.streams.items():
            stream.restart(f"{self._seed}/{sequence}/{name}")

    def end_round(self) -> None:
        """Forget what the drivers kept of the round."""
        for name in {name for _, name in self.asked}:
            self.journals[name].forget_rounds()

    def discover(self, *, deadline_at_s: float) -> tuple[Certificate, ...]:
        """Say hello to everyone that is not lost."""
        there = []
        for name in (*self.contributors, *self.helpers):
            if not self.lost("hello", name):
                answer = envelope.unwrap(self.answer("hello", name, _NONCE))
                there.append(verify_hello(answer, _NONCE, self.anchors, int(self.now_s())))
        return tuple(sorted(there, key=lambda certificate: certificate.device_id))

    def answer(self, stage: str, name: str, payload: bytes) -> bytes:
        """Return one party's answer."""
        if name in self.contributors:
            return self.contributors[name].handle(stage, payload)
        return self.helpers[name].handle(stage, payload)

    def ask(
        self, stage: str, requests: Mapping[str, bytes], *, deadline_at_s: float, stop: Callable[[], bool]
    ) -> Iterator[Answer]:
        """Ask one party after the other; see `Fleet.ask`."""
        for device_id, payload in requests.items():
            if stop():
                return
            self.asked.append((stage, device_id))
            if not self.lost(stage, device_id):
                yield Answer(device_id, self.answer(stage, device_id, payload))


def certify(authority: SigningKey, name: str, key: SigningKey, serial: int, now_s: float) -> Certificate:
    """Issue a certificate that outlasts every simulation."""
    return issue_certificate(
        authority,
        device_id=name,
        public_key=key.public_key,
        serial=serial,
        not_before_s=int(now_s) - 10,
        not_after_s=int(now_s) + CERTIFICATE_S,
    )
