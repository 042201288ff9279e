"""The parties of one round, all in this process: enrolment, a committee and contributors.

Nothing here is stood in for: these are the messages and checks of a real round, without its transport. Keys
come from the operating system.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.secagg import (
    HYBRID,
    SAMPLED_SIZE,
    Anchors,
    Arithmetic,
    Certificate,
    Coordinator,
    Manifest,
    Member,
    Mode,
    Prekey,
    SignedManifest,
    SigningKey,
    SumSpec,
    contribute,
    issue_certificate,
    lottery_bound,
    make_manifest,
    make_prekey,
    verify_manifest,
    verify_prekey,
)

NOW_S: Final = 1_800_000_000
ROUND: Final = "bench"
VECTOR: Final = "vector"
"""name of the sum that is measured"""
_COMMITTEE: Final[dict[Mode, int]] = {"sampled": SAMPLED_SIZE, "helper": 7}
_EVERYBODY_ELIGIBLE: Final = 4 * SAMPLED_SIZE
"""a population so small that the lottery leaves nobody out"""


@dataclass(frozen=True, kw_only=True)
class Party:
    """A device or a helper, with what it signs with."""

    key: SigningKey
    certificate: Certificate

    @property
    def id(self) -> str:
        """Its device id."""
        return self.certificate.device_id


class Parties:
    """A committee and `num_devices` contributors who are not in it.

    Args:
        sums: name to length.
        num_devices: n, also n_max.
        mode: "sampled", a committee of 64, or "helper", one of 7.
    """

    def __init__(self, sums: Mapping[str, int], num_devices: int, mode: Mode) -> None:
        self._authority = SigningKey.generate(os.urandom)
        coordinator = SigningKey.generate(os.urandom)
        self.committee = [self._enrol(f"member-{i:04}", i) for i in range(_COMMITTEE[mode])]
        self.devices = [self._enrol(f"device-{i:04}", 10_000 + i) for i in range(num_devices)]
        self.anchors = Anchors(
            coordinator.public_key,
            self._authority.public_key,
            helpers=frozenset(m.key.public_key for m in self.committee) if mode == "helper" else frozenset(),
            population=_EVERYBODY_ELIGIBLE,
        )
        self._secrets: dict[str, bytes] = {}
        manifest = Manifest(
            kind="train",
            round_id=ROUND,
            sequence=1,
            base_digest="00" * 32,
            sums=tuple(SumSpec(name=name, dim=dim, n_min=2) for name, dim in sums.items()),
            n_max=num_devices,
            mode=mode,
            lottery=lottery_bound(_EVERYBODY_ELIGIBLE) if mode == "sampled" else 0,
            members=tuple(self._prekey(member) for member in self.committee),
            deadline_at_s=NOW_S + 600,
        )
        self.m1 = make_manifest(coordinator, manifest)
        self.signed: SignedManifest = verify_manifest(self.m1, self.anchors, NOW_S)

    def contribution(
        self, device: Party, inputs: Mapping[str, NDArray[np.uint32]], arithmetic: Arithmetic
    ) -> bytes:
        """Make a device's M2."""
        return contribute(self.signed, device.key, device.certificate, 4, inputs, os.urandom, arithmetic)

    def member(self, party: Party) -> Member:
        """Start a member's session afresh."""
        return Member(self.signed, party.key, party.certificate, self._secrets[party.id])

    def _enrol(self, device_id: str, serial: int) -> Party:
        key = SigningKey.generate(os.urandom)
        certificate = issue_certificate(
            self._authority,
            device_id=device_id,
            public_key=key.public_key,
            serial=serial,
            not_before_s=NOW_S - 600,
            not_after_s=NOW_S + 600,
        )
        return Party(key=key, certificate=certificate)

    def _prekey(self, party: Party) -> Prekey:
        secret, m0 = make_prekey(HYBRID, party.key, party.certificate, ROUND, os.urandom)
        self._secrets[party.id] = secret
        return verify_prekey(m0, self.anchors, HYBRID, ROUND, NOW_S)


def answer_all(parties: Parties, coordinator: Coordinator) -> None:
    """Take a coordinator from its last contribution to where it can open: every member answers everything."""
    coordinator.close()
    members = {party.id: parties.member(party) for party in parties.committee}
    for name, member in members.items():
        coordinator.add_complaints(member.receive(coordinator.share_request(name), parties.anchors))
    ballot = coordinator.ballot()
    for member in members.values():
        coordinator.add_vote(member.vote(ballot))
    certificate = coordinator.quorum_certificate()
    for member in members.values():
        coordinator.add_opening(member.open(certificate))


def open_session(parties: Parties, messages: Sequence[bytes], coordinator: Coordinator) -> Coordinator:
    """Add these contributions and have every member answer; the coordinator can then open."""
    for m2 in messages:
        coordinator.add(m2)
    answer_all(parties, coordinator)
    return coordinator
