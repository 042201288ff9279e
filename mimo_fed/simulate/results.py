"""What a simulation came to: bits per byte on the devices' own test text, and the loss of every round."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from mimo_fed.adapter import GlobalAdapter
from mimo_fed.data import DemoDevice
from mimo_fed.model.stack import Personal
from mimo_fed.simulate.personal import chunks
from mimo_fed.simulate.school import held_out
from mimo_fed.simulate.simulation import Simulation

ARMS: Final = ("base", "global", "cohort", "personal")
"""each on top of the one before"""
REPORT: Final = "report.json"
WORST: Final = 0.1
"""share of the devices that `worst_decile` is the mean of"""


def measure_arms(simulation: Simulation) -> dict[str, dict[str, float]]:
    """Measure every device's test text under every arm that there is.

    A device without test text is measured on the text it decides on.

    Returns:
        Per arm, bits per byte by device name. Arms of adapters that no device has are left out.
    """
    found: dict[str, dict[str, float]] = {}
    for arm in arms_of(simulation):
        found[arm] = {}
        for some in chunks(list(simulation.devices.values())):
            found[arm] |= _measure(simulation, some, arm)
    return found


def arms_of(simulation: Simulation) -> tuple[str, ...]:
    """Return the arms that this simulation has."""
    there = {"base": True, "global": True}
    there["cohort"] = bool(simulation.settings.cohorts)
    there["personal"] = bool(simulation.personals)
    return tuple(arm for arm in ARMS if there[arm])


def _measure(simulation: Simulation, devices: Sequence[DemoDevice], arm: str) -> dict[str, float]:
    texts = [device.corpus.test or held_out(device) for device in devices]
    adapter = None if arm == "base" else simulation.adapter
    cohorts: list[GlobalAdapter | None] = [None] * len(devices)
    personals: list[Personal | None] = [None] * len(devices)
    if arm in ("cohort", "personal"):
        cohorts = [simulation.cohorts.get(simulation.choices[device.name]) for device in devices]
    if arm == "personal":
        personals = [simulation.personals.get(device.name) for device in devices]
    losses = simulation.stack.losses(texts, adapter, cohorts, personals)
    return {device.name: loss.bits_per_byte for device, loss in zip(devices, losses, strict=True)}


def summary(values: Mapping[str, float]) -> dict[str, float]:
    """Return mean, and mean over the worst tenth, of some bits per byte."""
    ordered = np.sort(list(values.values()))[::-1]
    worst = ordered[: math.ceil(WORST * len(ordered))]
    return {"mean": round(float(ordered.mean()), 6), "worst_decile": round(float(worst.mean()), 6)}


def report_of(simulation: Simulation) -> dict[str, Any]:
    """Measure and put everything together; no text and no adapter is in it."""
    measured = measure_arms(simulation)
    return {
        "base": simulation.base.name,
        "settings": asdict(simulation.settings),
        "devices": len(simulation.devices),
        "bits_per_byte": {arm: summary(values) for arm, values in measured.items()},
        "users": {
            name: {arm: round(values[name], 6) for arm, values in measured.items()}
            for name in simulation.devices
        },
        "choices": simulation.choices,
        "scales": {name: personal.scale for name, personal in simulation.personals.items()},
        "history": simulation.history,
        "adapter": simulation.adapter.digest(),
    }


def write_report(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write `report.json`, whole or not at all."""
    path, part = folder / REPORT, folder / f"{REPORT}.part"
    part.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.rename(path)
    return path
