"""One simulated device, as the real driver sees it: it hands out what the school has trained."""

from __future__ import annotations

from dataclasses import dataclass

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.config import RoundConfig
from mimo_fed.data.weight import num_bytes, weight_of
from mimo_fed.errors import DigestMismatch, LocalProtocolError
from mimo_fed.round.device import Evaluation, TrainedUpdate
from mimo_fed.simulate.school import School, held_out


@dataclass(frozen=True)
class SimulatedDevice:
    """A device of a school; see `mimo_fed.round.device.Device`."""

    name: str
    school: School

    @property
    def rank(self) -> int:
        """Rank of this device's class in the round under way."""
        return self.school.rank(self.name)

    @property
    def spec(self) -> AdapterSpec:
        """Shape of what the round under way trains."""
        return self.school.turn.spec

    @property
    def cohort(self) -> str:
        """The cohort that this device has chosen."""
        return self.school.choices[self.name]

    def fetch_base(self, digest: str) -> bytes:
        """Return the adapter of the round.

        Raises:
            DigestMismatch: another one is asked for.
        """
        if digest != self.school.turn.digest:
            raise DigestMismatch(f"the simulation's round has another adapter than: {digest[:16]}")
        return self.school.turn.released

    def train(self, base: bytes, config: RoundConfig, seed: str) -> TrainedUpdate:
        """Return this device's update; its seed is not the manifest's but the school's."""
        return self.school.update(self.name)

    def evaluate(self, candidate: bytes, config: RoundConfig) -> Evaluation:
        """Judge the adapter `candidate` beside that of the round."""
        turn, device = self.school.turn, self.school.devices[self.name]
        texts = held_out(device, self.school.settings.held_out_bytes)
        new = GlobalAdapter.from_safetensors(candidate, turn.spec)
        now, then = self.school.stack.losses([texts, texts], None, [turn.adapter, new], [None, None])
        weight = weight_of(num_bytes(device.corpus.train), config.privacy.weight_max)
        return Evaluation(weight=weight, loss_current=now.per_token, loss_candidate=then.per_token)

    def installed(self, request: bytes) -> bytes:
        """Refuse: a simulation has no releases to install.

        Raises:
            LocalProtocolError: always.
        """
        raise LocalProtocolError(f"a simulated device installs nothing: {self.name}")
