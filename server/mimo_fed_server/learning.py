"""What the coordinator makes of an opened train round: the next adapter, and what the next round asks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.aggregate import Advanced, ServerState, advance, next_clip_norm, staleness_scale
from mimo_fed.config import Phase, RoundConfig
from mimo_fed.errors import RoundAborted
from mimo_fed.round.outcome import Outcome
from mimo_fed_server.client import RegistryClient
from mimo_fed_server.registry.files import write_atomically
from mimo_fed_server.settings import CoordinatorSettings


class Learning:
    """The schedule, the server's optimizer and its moments, on top of a registry.

    Moments are kept beside the coordinator's database, each under the digest of the adapter it goes with: a
    coordinator that is killed finds those of whatever is on channel dev.

    Args:
        settings: the coordinator's file.
        registry: holds the adapters.
        spec: shape of the global adapter.
    """

    def __init__(self, settings: CoordinatorSettings, registry: RegistryClient, spec: AdapterSpec) -> None:
        self._settings, self._registry, self._spec = settings, registry, spec
        self._home = Path(settings.home)

    def config(self, cycle: int, last: dict[str, Any] | None) -> RoundConfig:
        """Return what the train round of a cycle fixes.

        Args:
            cycle: from 0; the schedule says its phase.
            last: the record of the train round before, if there was one; says where the clip norm has moved.
        """
        config = self._settings.schedule.round(self._settings.round, cycle)
        if last is None or not self._settings.clip_target:
            return config
        return replace(config, privacy=replace(config.privacy, clip_norm=last["next_clip_norm"]))

    def step(self, cycle: int, outcome: Outcome) -> tuple[Advanced, dict[str, Any]]:
        """Move what channel dev holds by now; the more it has moved since the round began, the less.

        Returns:
            The next adapter with its moments, and what the round's record says of the step.

        Raises:
            RoundAborted: the basis has changed since: a mean is exact only in the basis it was trained in.
        """
        head, round_config = self._registry.latest("dev"), outcome.config
        released = self._registry.releases()
        bases = [r for r in released if r["digest"] == outcome.manifest.base_digest]
        if not bases:
            raise RoundAborted("the registry has forgotten what the round trained from")
        start = max(bases, key=lambda r: int(r["number"]))
        if head is None or head.basis_epoch != start["basis_epoch"]:
            raise RoundAborted("channel dev is in another basis by now; the round's mean is of no use")
        staleness = sum(r["number"] > start["number"] for r in released)
        phase, server = round_config.train.phase, round_config.server
        advanced = advance(
            GlobalAdapter.from_safetensors(self._registry.download(head), self._spec),
            phase,
            outcome.means,
            state=self._moments(head.digest, phase),
            config=server,
            scale=staleness_scale(staleness, server.staleness_exponent),
            next_phase=self._settings.schedule.phase(cycle + 1),
        )
        return advanced, {
            "phase": phase,
            "basis_epoch": advanced.adapter.epoch,
            "staleness": staleness,
            "clip_norm": round_config.privacy.clip_norm,
            "next_clip_norm": self._next_clip_norm(outcome),
        }

    def keep(self, digest: str, state: ServerState) -> None:
        """Store the moments that go with an adapter."""
        write_atomically(self._file(digest), state.to_bytes())

    def forget_all_but(self, digest: str) -> None:
        """Delete the moments of every adapter but one."""
        for path in set(self._home.glob("*.moments")) - {self._file(digest)}:
            path.unlink(missing_ok=True)

    def _moments(self, digest: str, phase: Phase) -> ServerState:
        """Return the moments that go with an adapter; one that somebody else published has none."""
        try:
            return ServerState.from_bytes(self._file(digest).read_bytes())
        except FileNotFoundError:
            return ServerState.empty(phase)

    def _file(self, digest: str) -> Path:
        return self._home / f"{digest}.moments"

    def _next_clip_norm(self, outcome: Outcome) -> float:
        clip_norm, target = outcome.config.privacy.clip_norm, self._settings.clip_target
        if not target:
            return clip_norm
        return next_clip_norm(clip_norm, 1 - outcome.clipped_share, target=target)
