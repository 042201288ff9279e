"""What a device uploads in a round, by schedule, for a base of a given shape: computed, not measured.

Floats are the entries of what is trained. Bytes are the words of all sums of a round as production writes
them: padded to the rotation's granule, with weights, steps and statistics; a contribution's seals and
signatures add some kilobytes. A schedule's figure is the mean over its cycle, for a device of full rank.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from mimo_fed.adapter import AdapterSpec, Module
from mimo_fed.aggregate import sketch
from mimo_fed.bench.planted_arms import SPARE, num_floats
from mimo_fed.config import (
    SPARE_CYCLE,
    AdapterConfig,
    Phase,
    PrivacyConfig,
    RoundConfig,
    ScheduleConfig,
    TrainConfig,
)
from mimo_fed.errors import ConfigError
from mimo_fed.privacy.flatten import padded_length
from mimo_fed.round.layout import Layout

Json = dict[str, Any]
Targets = Literal["all", "attention"]
WORD_BITS: Final = (16, 24)


@dataclass(frozen=True, kw_only=True)
class BaseShape:
    """The sizes of a base that say which linears it has; the defaults are MiMo-7B's."""

    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 36
    num_attention_heads: int = 32
    num_key_value_heads: int = 8
    head_dim: int = 128

    @classmethod
    def from_config(cls, path: Path) -> BaseShape:
        """Read the `config.json` of a checkpoint.

        Raises:
            ConfigError: it cannot be read, or lacks a size.
        """
        try:
            raw = json.loads(path.read_text())
            raw.setdefault("head_dim", raw["hidden_size"] // raw["num_attention_heads"])
            return cls(**{field.name: int(raw[field.name]) for field in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"not the config.json of a base: {path}: {error}") from None

    def modules(self, targets: Targets) -> tuple[Module, ...]:
        """Return the linears of all layers, or those of attention alone."""
        heads, pairs = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        hidden, inner = self.hidden_size, self.intermediate_size
        sizes = {
            "self_attn.q_proj": (heads, hidden),
            "self_attn.k_proj": (pairs, hidden),
            "self_attn.v_proj": (pairs, hidden),
            "self_attn.o_proj": (hidden, heads),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        return tuple(
            Module(f"model.layers.{layer}.{name}", out, inp)
            for layer in range(self.num_hidden_layers)
            for name, (out, inp) in sizes.items()
            if targets == "all" or name.startswith("self_attn")
        )


def run(shape: BaseShape, schedule: ScheduleConfig, rank: int = 16) -> Json:
    """Compute the document: `uploads.TARGETS.SCHEDULE.{floats_per_round,bytes_per_round.BITS}`."""
    cycles = {"fedit": "AB", "b": "B", "default": schedule.cycle, "spare": SPARE_CYCLE, "m": "M"}
    shells = tuple(sorted({max(1, rank // 4), max(1, rank // 2), rank}))
    uploads: Json = {}
    targets: tuple[Targets, ...] = ("all", "attention")
    for target in targets:
        spec = AdapterSpec(
            base_fingerprint="00" * 32,
            modules=shape.modules(target),
            config=AdapterConfig(rank=rank, shells=shells),
        )
        uploads[target] = {
            name: _entry(spec, replace(schedule, cycle=cycle)) for name, cycle in cycles.items()
        }
        uploads[target]["sketch"] = _sketch_entry(spec)
    return {"bench": "upload", "rank": rank, "schedule": schedule.cycle, "uploads": uploads}


def _entry(spec: AdapterSpec, schedule: ScheduleConfig) -> Json:
    length = 1 if schedule.cycle == "AB" else len(schedule.cycle)
    phases = [schedule.phase(index) for index in range(length)]
    words = {phase: _num_words(spec, phase) for phase in set(phases)}
    mean_words = sum(words[phase] for phase in phases) / length
    return {
        "cycle": schedule.cycle,
        "floats_per_round": sum(num_floats(spec, phase) for phase in phases) / length,
        "bytes_per_round": {str(bits): mean_words * bits / 8 for bits in WORD_BITS},
    }


def _sketch_entry(spec: AdapterSpec) -> Json:
    width = spec.config.rank + SPARE
    floats = sketch.num_floats(spec, width)
    words = padded_length(width * sum(m.out for m in spec.modules))
    words += padded_length(width * sum(m.inp for m in spec.modules))
    return {
        "cycle": f"two sums of width {width}",
        "floats_per_round": floats,
        "bytes_per_round": {str(bits): words * bits / 8 for bits in WORD_BITS},
    }


def _num_words(spec: AdapterSpec, phase: Phase) -> int:
    """Count the words of all sums of a round."""
    config = RoundConfig(train=TrainConfig(phase=phase), adapter=spec.config, privacy=PrivacyConfig())
    layout = Layout(spec=spec, config=config, round_id="upload", n_max=config.n_max)
    return sum(one.dim for one in layout.sum_specs)
