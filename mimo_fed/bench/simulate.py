"""The bench of simulation: many devices trained at once, against one after another with stock PEFT.

Keys of the document that are stable: `steps_per_s.{batched,sequential}.N` and `speedup.N` for N devices,
`steps_per_s.fresh`, `speedup_fresh.N`, `curve`, `memory_peak_mb`, `goals`, `machine`, `versions`.

A rate is device steps a second of one core. It does not depend on how many devices come one after another, so
of those only a few are trained: `sampled` says how many.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from mimo_fed.adapter import AdapterSpec, GlobalAdapter
from mimo_fed.bench.clock import Piece, Samples, interleave, num_runs, process_seconds, single
from mimo_fed.bench.goals import Goal, at
from mimo_fed.bench.machine import describe_machine, describe_versions
from mimo_fed.bench.memory import raised_by
from mimo_fed.bench.progress import Bar
from mimo_fed.bench.secagg import round_figures
from mimo_fed.config import AdapterConfig, TrainConfig
from mimo_fed.model import Base, load_base
from mimo_fed.model.rivals import FreshPeft, WarmPeft
from mimo_fed.model.stack import Job, StackedModel

Json = dict[str, Any]
DEVICES: Final = (8, 64, 256)
CURVE: Final = ((2, 128), (1, 128), (2, 64), (1, 64), (1, 32))
"""(sequences, tokens of one) in a step"""
GOALS: Final[dict[str, tuple[float, float | None]]] = {"mimo-nano": (4.0, 20.0), "mimo-smol": (1.3, None)}
"""x one warm model, x a fresh model a message"""
_WARM, _FRESH = 8, 2
_WORDS: Final = 2000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Attributes:
        base: name of the base.
        devices: numbers of devices.
        train: shape of a batch; `num_steps` of every device.
        repeat: repetitions of each piece.
        tokens_per_pass: about so many tokens in one forward pass of many devices.
        curve: measure batches of other shapes, too.
        fresh: measure a fresh model a message, too.
    """

    base: str
    devices: tuple[int, ...]
    train: TrainConfig
    repeat: int
    tokens_per_pass: int
    curve: bool = False
    fresh: bool = True


def run(settings: Settings, bar: Bar) -> Json:
    """Measure everything; returns the document."""
    machine = describe_machine()
    base, adapter = load_base(settings.base), AdapterConfig()
    spec = AdapterSpec(
        base_fingerprint=base.fingerprint, modules=base.modules(adapter.targets), config=adapter
    )
    jobs = make_jobs(max(*settings.devices, _WARM), settings.train.num_steps)
    work = _Work(base, GlobalAdapter.zero(spec), jobs, settings.tokens_per_pass)
    shapes = CURVE if settings.curve else ()
    pieces = [
        *(work.batched(num, settings.train) for num in settings.devices),
        work.one_by_one(WarmPeft(base, adapter).train, "warm", _WARM, settings.train),
    ]
    if settings.fresh:
        pieces.append(work.one_by_one(FreshPeft(base, adapter).train, "fresh", _FRESH, settings.train))
    for shape in shapes:
        train = replace(settings.train, batch_size=shape[0], seq_len=shape[1])
        warm = WarmPeft(base, adapter).train
        pieces += [work.batched(64, train, shape), work.one_by_one(warm, "warm", _WARM, train, shape)]
    bar.expect(num_runs(pieces, settings.repeat) + 1)
    bar.step("memory")
    peak = raised_by(lambda: work.train(jobs[: max(settings.devices)], settings.train))
    samples = interleave(pieces, settings.repeat, bar.step)
    document: Json = {
        "bench": "simulate",
        "base": settings.base,
        "batch_size": settings.train.batch_size,
        "seq_len": settings.train.seq_len,
        "steps": settings.train.num_steps,
        "tokens_per_pass": settings.tokens_per_pass,
        "repeat": settings.repeat,
        "sampled": {"sequential": _WARM} | ({"fresh": _FRESH} if settings.fresh else {}),
        "machine": machine,
        "versions": describe_versions(),
        "memory_peak_mb": {str(max(settings.devices)): peak / 1e6},
    }
    document |= figures(samples, settings)
    document["curve"] = [_point(samples, shape, settings.train.num_steps) for shape in shapes]
    document["goals"] = [goal.judge(document) for goal in goals(settings.base, max(settings.devices))]
    machine["load_at_end"] = round(os.getloadavg()[0], 2)
    rounded: Json = round_figures(document)
    return rounded


def figures(samples: dict[str, Samples], settings: Settings) -> Json:
    """Return the rates and their ratios."""
    steps = settings.train.num_steps
    warm = _WARM * steps / samples["warm"].median()
    batched = {str(num): num * steps / samples[f"batched {num}"].median() for num in settings.devices}
    found: Json = {
        "steps_per_s": {"batched": batched, "sequential": dict.fromkeys(batched, warm)},
        "speedup": {num: rate / warm for num, rate in batched.items()},
    }
    if "fresh" in samples:
        fresh = _FRESH * steps / samples["fresh"].median()
        found["steps_per_s"]["fresh"] = fresh
        found["speedup_fresh"] = {num: rate / fresh for num, rate in batched.items()}
    return found


def goals(base: str, num_devices: int) -> list[Goal]:
    """Return the figures to reach on a base; none on one of somebody's own."""
    if base not in GOALS:
        return []
    warm, fresh = GOALS[base]
    wanted = [("speedup", "one warm model", warm), ("speedup_fresh", "a fresh model a message", fresh)]
    return [
        Goal(
            figure=f"{num_devices} devices at once, against {rival}",
            unit="x",
            read=at(key, str(num_devices)),
            at_least=goal,
        )
        for key, rival, goal in wanted
        if goal is not None
    ]


def make_jobs(num_devices: int, num_steps: int) -> list[Job]:
    """Make devices of mixed rank, each with some text of its own."""
    generator = np.random.default_rng(1)
    words = ["".join(chr(97 + int(c)) for c in generator.integers(0, 26, 5)) for _ in range(_WORDS)]
    return [
        Job(
            texts=[" ".join(words[int(w)] for w in generator.integers(0, _WORDS, 100))],
            seed=index,
            rank=(4, 8, 16)[index % 3],
            num_steps=num_steps,
            personal=None,
            cohort=None,
        )
        for index in range(num_devices)
    ]


class _Work:
    """Makes pieces of the same jobs."""

    def __init__(self, base: Base, adapter: GlobalAdapter, jobs: Sequence[Job], tokens_per_pass: int) -> None:
        self._adapter, self._jobs = adapter, jobs
        self._stack = StackedModel(base, adapter.spec, tokens_per_pass=tokens_per_pass)

    def train(self, jobs: Sequence[Job], train: TrainConfig) -> None:
        self._stack.train_shared(self._adapter, jobs, train)

    def batched(self, num: int, train: TrainConfig, shape: tuple[int, int] | None = None) -> Piece:
        jobs = [self._jobs[index % len(self._jobs)] for index in range(num)]
        name = f"batched {num}" if shape is None else f"batched {shape[0]}x{shape[1]}"
        return Piece(
            name=name,
            run=single(lambda: self.train(jobs, train), process_seconds),
            warm=lambda: self.train(jobs[:8], train),
        )

    def one_by_one(
        self,
        work: Callable[[Sequence[Job], TrainConfig], int],
        name: str,
        num: int,
        train: TrainConfig,
        shape: tuple[int, int] | None = None,
    ) -> Piece:
        jobs = self._jobs[:num]
        return Piece(
            name=name if shape is None else f"{name} {shape[0]}x{shape[1]}",
            run=single(lambda: work(jobs, train), process_seconds),
            warm=lambda: work(jobs[:1], train),
        )


def _point(samples: dict[str, Samples], shape: tuple[int, int], steps: int) -> Json:
    batched = 64 * steps / samples[f"batched {shape[0]}x{shape[1]}"].median()
    warm = _WARM * steps / samples[f"warm {shape[0]}x{shape[1]}"].median()
    return {
        "batch_size": shape[0],
        "seq_len": shape[1],
        "batched": batched,
        "sequential": warm,
        "speedup": batched / warm,
    }
