"""What a device measured about itself: `report.json` in its home. These figures stay on the device."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from mimo_fed.errors import DataError
from mimo_fed.model import Arm, DeviceModel
from mimo_fed_client.corpus import PrivateCorpus
from mimo_fed_client.durable import write_durably
from mimo_fed_client.usage import Usage

ARMS: tuple[Arm, ...] = ("base", "global", "personal")


def bits_per_byte(model: DeviceModel, corpus: PrivateCorpus) -> dict[str, float]:
    """Measure the base, the global and the personal adapter on text that nothing was chosen by.

    Raises:
        DataError: a figure is not a number.
    """
    found: dict[str, float] = {}
    for arm in ARMS:
        if arm == "personal" and not model.personal_scale:
            found[arm] = found["global"]
            continue
        found[arm] = model.loss(corpus.reported_on, arm).bits_per_byte
        if not math.isfinite(found[arm]):
            raise DataError(f"bits per byte of arm {arm} are not a number: {found[arm]}")
    return found


def write_report(
    path: Path, *, name: str, release: int, model: DeviceModel, corpus: PrivateCorpus, usage: Usage
) -> None:
    """Measure, and replace the report.

    Raises:
        InstallError: the disk is full or read-only.
    """
    record: dict[str, Any] = {
        "name": name,
        "release": release,
        "bpb": bits_per_byte(model, corpus),
        "lambda": model.personal_scale,
        "bytes_up": usage.bytes_up,
        "bytes_down": usage.bytes_down,
        "seconds": {part: round(seconds, 3) for part, seconds in usage.seconds.items()},
    }
    write_durably(path, json.dumps(record, indent=2).encode() + b"\n")
