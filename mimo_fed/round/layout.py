"""Which sums a round has, and how numbers are written in them: computed alike at both ends.

A train round has one sum for each rank shell, or one for each shell and random group, and one of statistics;
an evaluate round has the statistics alone. Nothing of this travels: the manifest names each sum with its
length, and a device that computes another length refuses.

The sum of a shell carries the weights of the devices in it, and their steps, behind the updates. So a shell
that stays closed hides these as well. With groups that is weaker: statistics less the opened groups give the
weights of a group that stayed closed (docs/protocol.md 8.7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mimo_fed.adapter import AdapterSpec, Shell
from mimo_fed.config import RoundConfig
from mimo_fed.errors import PeerProtocolError, RoundAborted
from mimo_fed.privacy import StatisticsEncoding, VectorEncoding
from mimo_fed.secagg import CLASSIC, HYBRID, REFERENCE, Manifest, SumSpec

STATISTICS: Final = "statistics"
SUITE_OF: Final = {"hybrid": HYBRID, "classic": CLASSIC, "reference": REFERENCE}
REFERENCE_BITS: Final = 32
_NORM_SIGMAS: Final = 8.0
"""a total may be longer than its devices allow by this many standard deviations of the rounding's length"""


@dataclass(frozen=True, kw_only=True)
class ShellMean:
    """What the sum of a shell says.

    Attributes:
        mean: float64, shape (dim,), the weighted mean of the updates.
        weight: sum of the weights.
        weighted_steps: sum of weight x steps.
    """

    mean: NDArray[np.float64]
    weight: int
    weighted_steps: float


@dataclass(frozen=True, kw_only=True)
class ShellEncoding:
    """How a device's update of one shell, its weight and its steps are written in one sum.

    Attributes:
        vector: how the update is written.
        num_steps: most optimizer steps of a device.
    """

    vector: VectorEncoding
    num_steps: int

    @property
    def weight(self) -> StatisticsEncoding:
        """How weight, and weight x steps, are written."""
        most = float(self.vector.weight_max)
        return StatisticsEncoding(
            names=("weight", "weighted_steps"),
            bounds=(most, most * self.num_steps),
            n_max=self.vector.n_max,
        )

    @property
    def length(self) -> int:
        """Entries of the sum."""
        return self.vector.length + self.weight.length

    def encode(self, update_D: NDArray[np.float32], weight: int, num_steps: int) -> NDArray[np.uint32]:
        """Write one device's update, weight and steps.

        Args:
            update_D: float32, shape (dim,), clipped.
            weight: integer, 1..weight_max.
            num_steps: optimizer steps that it took, at least 1.

        Returns:
            uint32, shape (length,), values below q.
        """
        written = self.vector.encode(update_D, weight)
        statistics = {"weight": float(weight), "weighted_steps": float(weight * num_steps)}
        return np.concatenate([written, self.weight.encode(statistics)])

    def decode(self, total_D: NDArray[np.float64], num_devices: int, word_bits: int) -> ShellMean:
        """Read an opened sum.

        Args:
            total_D: float64, shape (length,), centred, in units of q.
            num_devices: how many devices are in it.
            word_bits: of the uploaded words.

        Raises:
            RoundAborted: no such total can come from that many devices that kept to the rules.
        """
        said = self.weight.decode(total_D[self.vector.length :])
        weight, steps = round(said["weight"]), said["weighted_steps"]
        if not num_devices <= weight <= num_devices * self.vector.weight_max:
            raise RoundAborted(f"SumImplausible: {num_devices} devices declared a weight of {weight}")
        if not 0.5 * weight <= steps <= 1.05 * weight * self.num_steps:  # read less exactly than the weight
            raise RoundAborted(f"SumImplausible: a weight of {weight} declared {steps:.4g} weighted steps")
        mean_D = self.vector.decode(total_D[: self.vector.length]) / weight
        norm, limit = float(np.linalg.norm(mean_D)), self._longest(num_devices, word_bits, weight)
        if norm > limit:
            raise RoundAborted(f"SumImplausible: mean is longer than the clip norm allows: {norm:.4g}")
        return ShellMean(mean=mean_D, weight=weight, weighted_steps=steps)

    def _longest(self, num_devices: int, word_bits: int, weight: int) -> float:
        """Bound the length of an honest mean: the clip norm, and the rounding's own length."""
        noise = self.vector.tolerance(num_devices, word_bits) / weight
        dim = self.vector.dim
        return self.vector.clip_norm * 1.01 + noise * (math.sqrt(dim) + _NORM_SIGMAS)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The sums of one round.

    Attributes:
        spec: shape of the global adapter.
        config: what the round fixes.
        round_id: seeds the random signs of the flattening.
        n_max: most devices in one sum, as the manifest says.
    """

    spec: AdapterSpec
    config: RoundConfig
    round_id: str
    n_max: int

    @property
    def shells(self) -> tuple[Shell, ...]:
        """The vector sums: none in an evaluate round."""
        return self.spec.shells if self.config.kind == "train" else ()

    @property
    def groups(self) -> tuple[int, ...]:
        """Numbers of the random groups; (0,) if there are none."""
        num = self.config.secure_sum.num_groups if self.shells else 0
        return tuple(range(1, num + 1)) or (0,)

    @property
    def word_bits(self) -> int:
        """Bits of an uploaded word."""
        reference = self.config.secure_sum.suite == "reference"
        return REFERENCE_BITS if reference else self.config.privacy.word_bits

    def encoding(self, shell: Shell) -> ShellEncoding:
        """How a shell's update is written, in every group alike."""
        privacy, train = self.config.privacy, self.config.train
        vector = VectorEncoding(
            dim=self.spec.dim(shell, train.phase),
            seed=f"{self.round_id}/{shell.name}".encode(),
            clip_norm=privacy.clip_norm,
            n_max=self.n_max,
            weight_max=privacy.weight_max,
        )
        return ShellEncoding(vector=vector, num_steps=train.num_steps)

    @property
    def statistics(self) -> StatisticsEncoding:
        """How the round's statistics are written; losses are weighted, in nats per token."""
        privacy = self.config.privacy
        weighted_loss = privacy.weight_max * privacy.loss_bound
        bounds = {
            "weight": float(privacy.weight_max),
            "loss_before": weighted_loss,
            "loss_after": weighted_loss,
            "improved": 1.0,
            "clipped": 1.0,
        }
        return StatisticsEncoding(names=tuple(bounds), bounds=tuple(bounds.values()), n_max=self.n_max)

    @cached_property
    def sum_specs(self) -> tuple[SumSpec, ...]:
        """What the manifest says of the sums."""
        n_min = self.config.n_min
        vectors = [
            SumSpec(name=sum_name(s, group), dim=self.encoding(s).length, n_min=n_min, group=group)
            for s in self.shells
            for group in self.groups
        ]
        return (*vectors, SumSpec(name=STATISTICS, dim=self.statistics.length, n_min=n_min))

    def check(self, manifest: Manifest) -> None:
        """Refuse a manifest whose sums are not these.

        Raises:
            PeerProtocolError: names, lengths, n_min, n_max, kind, word size, suite or committee are not what
                the settings in it give.
        """
        num_groups = self.config.secure_sum.num_groups if self.shells else 0
        if (  # groups first: as many sums as they ask for would not fit any memory
            manifest.num_groups != num_groups
            or manifest.sums != self.sum_specs
            or manifest.n_max > self.config.n_max
        ):
            raise PeerProtocolError(f"manifest's sums do not follow from its settings: {manifest.round_id}")
        secure = self.config.secure_sum
        stated = (manifest.kind, manifest.word_bits, manifest.suite, manifest.mode)
        if stated != (self.config.kind, self.word_bits, SUITE_OF[secure.suite], secure.committee):
            raise PeerProtocolError(f"manifest contradicts its own settings: {manifest.round_id}")


def sum_name(shell: Shell, group: int) -> str:
    """Name the sum of a shell, in one of the random groups or (0) altogether."""
    return f"{shell.name}.g{group}" if group else shell.name


def layout_of(manifest: Manifest, spec: AdapterSpec) -> Layout:
    """Read the layout out of a manifest and check the one against the other."""
    config = RoundConfig.from_json(manifest.application)
    layout = Layout(spec=spec, config=config, round_id=manifest.round_id, n_max=manifest.n_max)
    layout.check(manifest)
    return layout
