"""An attacker's tools: take a contribution apart, change it, sign it again with the attacker's own key."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from mimo_fed.codec import Writer
from mimo_fed.secagg.crypto import digest, seal
from mimo_fed.secagg.intake import Contribution, read_contribution
from mimo_fed.secagg.messages import Header, seal_context
from tests.unit.secagg.rig import Rig, Vector


@dataclasses.dataclass
class Parts:
    """A contribution in pieces."""

    header: Header
    sealed: list[bytes]
    words: dict[int, bytes]

    @classmethod
    def of(cls, rig: Rig, m2: bytes) -> Parts:
        contribution: Contribution
        _, contribution, words = read_contribution(rig.signed, m2)
        return cls(contribution.header, list(contribution.sealed), words)

    def signed(self, rig: Rig, device_id: str) -> bytes:
        """Hash the pieces anew and sign them with this device's key."""
        header = dataclasses.replace(
            self.header,
            words={i: digest("words", data) for i, data in self.words.items()},
            sealed=tuple(digest("sealed", data) for data in self.sealed),
        ).encode(rig.signed.mh)
        writer = Writer().blob(header).raw(rig.keys[device_id].sign("contribution", header))
        for data in (*self.sealed, *self.words.values()):
            writer.blob(data)
        return writer.bytes()

    def reseal(self, rig: Rig, sender: str, recipient: str, plain: bytes) -> None:
        """Give one member other shares, properly sealed."""
        index = rig.ids.index(recipient)
        context = seal_context(rig.signed.mh, sender, recipient, self.header.nonce, list(self.words))
        self.sealed[index] = seal(rig.manifest.members[index].public_key, context, plain)


def random_shares(rig: Rig, seed: int = 0) -> bytes:
    """Shares of the right form that belong to nothing, for one sum."""
    groups = -(-2048 // rig.manifest.committee.packing)
    return np.random.default_rng(seed).integers(0, 2**30, groups).astype("<u4").tobytes()


def gathered(rig: Rig, replaced: Mapping[str, bytes], seed: int = 0) -> dict[str, dict[str, Vector]]:
    """Contributions of everyone, some of them replaced by forged ones; then no more."""
    inputs = rig.random_inputs(seed)
    for d in rig.ids:
        rig.coordinator.add(replaced.get(d) or rig.m2(d, inputs[d]))
    rig.coordinator.close()
    return inputs
