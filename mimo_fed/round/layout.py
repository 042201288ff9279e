"""Which sums a round has, and how numbers are written in them: computed alike at both ends.

A train round has one sum for each rank shell and one of statistics; an evaluate round has the statistics
alone. Nothing of this travels: the manifest names each sum with its length, and a device that computes
another length refuses.
"""

from __future__ import annotations

from dataclasses import dataclass

from mimo_fed.adapter import AdapterSpec, Shell
from mimo_fed.config import RoundConfig
from mimo_fed.errors import PeerProtocolError
from mimo_fed.privacy import StatisticsEncoding, VectorEncoding
from mimo_fed.secagg import Manifest, SumSpec

STATISTICS = "statistics"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The sums of one round.

    Attributes:
        spec: shape of the global adapter.
        config: what the round fixes.
        round_id: seeds the random signs of the flattening.
        n_max: most devices in one sum; the number of members.
    """

    spec: AdapterSpec
    config: RoundConfig
    round_id: str
    n_max: int

    @property
    def shells(self) -> tuple[Shell, ...]:
        """The vector sums: none in an evaluate round."""
        return self.spec.shells if self.config.kind == "train" else ()

    def vector(self, shell: Shell) -> VectorEncoding:
        """How a shell's update is written."""
        privacy = self.config.privacy
        return VectorEncoding(
            dim=self.spec.dim(shell),
            seed=f"{self.round_id}/{shell.name}".encode(),
            clip_norm=privacy.clip_norm,
            n_max=self.n_max,
            weight_max=privacy.weight_max,
        )

    @property
    def statistics(self) -> StatisticsEncoding:
        """How the round's statistics are written; losses are weighted, in nats per token."""
        privacy = self.config.privacy
        weighted_loss = privacy.weight_max * privacy.loss_bound
        bounds = {f"weight:{shell.name}": float(privacy.weight_max) for shell in self.shells}
        bounds |= {
            "weight": float(privacy.weight_max),
            "loss_before": weighted_loss,
            "loss_after": weighted_loss,
        }
        bounds |= {"improved": 1.0, "clipped": 1.0}
        return StatisticsEncoding(names=tuple(bounds), bounds=tuple(bounds.values()), n_max=self.n_max)

    def sum_specs(self) -> tuple[SumSpec, ...]:
        """Return what the manifest says of the sums."""
        n_min = self.config.n_min
        vectors = [SumSpec(name=s.name, dim=self.vector(s).length, n_min=n_min) for s in self.shells]
        return (*vectors, SumSpec(name=STATISTICS, dim=self.statistics.length, n_min=n_min))

    def check(self, manifest: Manifest) -> None:
        """Refuse a manifest whose sums are not these.

        Raises:
            PeerProtocolError: names, lengths, n_min or n_max differ from what the settings in it give.
        """
        if tuple(manifest.sums) != self.sum_specs() or manifest.n_max != self.n_max:
            raise PeerProtocolError(f"manifest's sums do not follow from its settings: {manifest.round_id}")
        if manifest.kind != self.config.kind or manifest.word_bits != self.config.privacy.word_bits:
            raise PeerProtocolError(f"manifest contradicts its own settings: {manifest.round_id}")


def layout_of(manifest: Manifest, spec: AdapterSpec) -> Layout:
    """Read the layout out of a manifest and check the one against the other."""
    config = RoundConfig.from_json(manifest.application)
    layout = Layout(spec=spec, config=config, round_id=manifest.round_id, n_max=len(manifest.members))
    layout.check(manifest)
    return layout
