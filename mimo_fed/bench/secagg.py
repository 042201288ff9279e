"""The bench of secure aggregation: our own pieces and the others', in one run, and one document of it.

Keys of the document that are stable: `params`, `protect_ns_per_param`, `add_vs_plain_sum`,
`unmask_ns_per_param`, `upload_overhead`, `member_ms_per_contribution`, `coordinator_peak_mb`, `vs`, `goals`,
`machine`, `versions`, `skipped`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

from mimo_fed.bench.clock import interleave, num_runs
from mimo_fed.bench.comparators import find_comparators
from mimo_fed.bench.contributor import Contributor, find_backends, make_vector
from mimo_fed.bench.coordinator import CoordinatorWork
from mimo_fed.bench.goals import judge
from mimo_fed.bench.machine import describe_machine, describe_versions
from mimo_fed.bench.member import MemberWork
from mimo_fed.bench.memory import in_child
from mimo_fed.bench.plain import plain_piece
from mimo_fed.bench.progress import Bar

Json = dict[str, Any]
COHORTS: Final = (10, 100, 1000)
_MEMORY_PROGRAM: Final = "mimo_fed.bench.coordinator_memory"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Attributes:
        num_params: length of the vector, D.
        repeat: repetitions of each piece; slow ones are repeated at most three times.
        comparators: measure what others do, too.
        cohorts: numbers of devices for which the coordinator's memory is measured.
    """

    num_params: int
    repeat: int
    comparators: bool = True
    cohorts: tuple[int, ...] = COHORTS

    @property
    def contributions(self) -> int:
        """How many the measured member reads."""
        return min(100, max(self.cohorts))


def run(settings: Settings, bar: Bar) -> Json:
    """Measure everything; returns the document."""
    machine = describe_machine()
    vector_D = make_vector(settings.num_params)
    backends = find_backends()
    works = (
        Contributor(vector_D, backends),
        CoordinatorWork(vector_D, backends[0]),
        MemberWork(backends[0], settings.contributions),
    )
    others, skipped = find_comparators(vector_D) if settings.comparators else ([], {})
    pieces = [plain_piece(settings.num_params), *(piece for work in works for piece in work.pieces())]
    pieces += [other.piece for other in others]
    bar.expect(num_runs(pieces, settings.repeat) + len(settings.cohorts))
    samples = interleave(pieces, settings.repeat, bar.step)
    document: Json = {"bench": "secagg", "params": settings.num_params, "repeat": settings.repeat}
    document |= {"machine": machine, "versions": describe_versions()}
    for work in works:
        document |= work.figures(samples)
    client = document["client"]
    document["vs"] = {other.key: other.entry(samples, client) for other in others}
    document["coordinator_peak_mb"] = _memory(settings, bar)
    document["skipped"] = skipped
    document["goals"] = judge(document)
    machine["load_at_end"] = round(os.getloadavg()[0], 2)
    rounded: Json = round_figures(document)
    return rounded


def round_figures(value: Any) -> Any:
    """Round every float in a document to four significant digits."""
    if isinstance(value, dict):
        return {key: round_figures(item) for key, item in value.items()}
    if isinstance(value, list):
        return [round_figures(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _memory(settings: Settings, bar: Bar) -> dict[str, float]:
    """Measure the coordinator's peak for each number of devices, in MB."""
    peaks = {}
    for cohort in settings.cohorts:
        bar.step(f"coordinator's memory, {cohort} devices")
        peaks[str(cohort)] = in_child(_MEMORY_PROGRAM, cohort, settings.num_params)["peak_bytes"] / 1e6
    return peaks
