"""What a committee member pays: its shares read and checked, its vote, its opening, for each contribution.

None of it depends on the length of the vector, so the vectors here are short. The committee is a sampled one
of 64. Time is for one sum; bytes are stated for three, as many as a fleet of mixed phones has shells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from mimo_fed.bench.clock import Piece, Samples, single, thread_seconds
from mimo_fed.bench.parties import Parties
from mimo_fed.secagg import RING, Arithmetic, Backend, Coordinator, MemorySpool

Json = dict[str, Any]
NUM_SHELLS: Final = 3
_MEMBER: Final = "member"


class MemberWork:
    """Members of two rounds, of one sum and of three.

    Args:
        backend: of the devices.
        num_devices: n, how many contribute.
    """

    def __init__(self, backend: Backend, num_devices: int) -> None:
        self._num_devices = num_devices
        self._single = _Asked(1, num_devices, backend)
        self._shells = _Asked(NUM_SHELLS, num_devices, backend)

    def pieces(self) -> list[Piece]:
        """Return what is timed."""
        return [
            Piece(name=asked.name, run=single(asked.answer, thread_seconds), rounds=3)
            for asked in (self._single, self._shells)
        ]

    def figures(self, samples: Mapping[str, Samples]) -> Json:
        """Read the figures of a run."""
        ms = 1e3 / self._num_devices
        return {
            "member_ms_per_contribution": samples[self._single.name].median() * ms,
            "member_ms_per_contribution_3_sums": samples[self._shells.name].median() * ms,
            "member_bytes": {
                "devices": self._num_devices,
                "sums": NUM_SHELLS,
                "all": self._shells.num_bytes,
                "allowed": 20_000 + 2_700 * self._num_devices,
            },
        }


class _Asked:
    """All that one member is asked in a round, and its answering."""

    def __init__(self, num_sums: int, num_devices: int, backend: Backend) -> None:
        self.name = f"{_MEMBER}, sums: {num_sums}"
        names = [f"sum-{i}" for i in range(num_sums)]
        self._parties = Parties(dict.fromkeys(names, RING), num_devices, "sampled")
        inputs = {name: np.zeros(RING, np.uint32) for name in names}
        parties, arithmetic = self._parties, Arithmetic(backend=backend)
        session = Coordinator(parties.signed, parties.anchors, MemorySpool(), arithmetic)
        for device in parties.devices:
            session.add(parties.contribution(device, inputs, arithmetic))
        session.close()
        members = {party.id: parties.member(party) for party in parties.committee}
        for name, member in members.items():
            session.add_complaints(member.receive(session.share_request(name), parties.anchors))
        self._ballot = session.ballot()
        for member in members.values():
            session.add_vote(member.vote(self._ballot))
        self._certificate = session.quorum_certificate()
        self._request = session.share_request(parties.committee[0].id)
        self.num_bytes = 0
        """down and up, without the manifest, which every device has anyhow"""

    def answer(self) -> None:
        """Answer as a fresh member."""
        member = self._parties.member(self._parties.committee[0])
        answers = (
            member.receive(self._request, self._parties.anchors),
            member.vote(self._ballot),
            member.open(self._certificate),
        )
        self.num_bytes = sum(map(len, (self._request, self._ballot, self._certificate, *answers)))
