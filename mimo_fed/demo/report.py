"""The demo's report: what every device measured and what every round did, in one JSON file.

The test figures come from the devices (nobody else has the text), the rounds from the coordinator's public
records. Nothing is computed here but the two claims.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimo_fed.config import RoundConfig
from mimo_fed.errors import DataError

Json = dict[str, Any]

ARMS = ("base", "global", "personal")
PARTS = ("train", "protect", "network", "verify", "swap")
N_MIN_LABEL = "test-only: three devices hide nobody; the shipped value is 16"
PRIVACY_LABEL = "research: NO DIFFERENTIAL PRIVACY"


@dataclass(frozen=True, kw_only=True)
class DeviceCard:
    """What the demo knows of a device before it starts.

    Attributes:
        author: hash of the maintainer's name.
        language: of the text, ISO 639-1.
        translated: the text is a translation by others of what the author wrote.
        rank: columns of the factor B that this class of device trains.
    """

    name: str
    author: str
    language: str
    translated: bool
    device_class: str
    rank: int


def settings_record(config: RoundConfig, *, rounds: int, devices: int) -> Json:
    """Describe the settings, with the two warnings that must not be overlooked."""
    train, adapter, privacy = config.train, config.adapter, config.privacy
    return {
        "rounds": rounds,
        "devices": devices,
        "n_min": config.n_min,
        "n_min_label": N_MIN_LABEL if config.n_min < RoundConfig.n_min else "",
        "privacy": PRIVACY_LABEL if privacy.profile == "research" else privacy.profile,
        "clip_norm": privacy.clip_norm,
        "word_bits": privacy.word_bits,
        "server_optimizer": config.server.optimizer,
        "server_learning_rate": config.server.learning_rate,
        "rank": adapter.rank,
        "shells": list(adapter.shells),
        "num_steps": train.num_steps,
        "num_personal_steps": train.num_personal_steps,
        "batch_size": train.batch_size,
        "seq_len": train.seq_len,
        "config_digest": config.digest(),
    }


def device_row(card: DeviceCard, measured: Mapping[str, Any]) -> Json:
    """Join a card with what the device wrote into its own report.

    Args:
        card: who the device is.
        measured: the agent's report: bpb (bits per byte on the test split, by arm), lambda, bytes_up,
            bytes_down, seconds by part.

    Raises:
        DataError: a figure is missing or not a finite number.
    """
    try:
        return {
            "name": card.name,
            "author": card.author,
            "language": card.language,
            "translated": card.translated,
            "device_class": card.device_class,
            "rank": card.rank,
            "bpb": {arm: _finite(measured["bpb"][arm]) for arm in ARMS},
            "lambda": _finite(measured["lambda"]),
            "bytes_up": int(measured["bytes_up"]),
            "bytes_down": int(measured["bytes_down"]),
            "seconds": {part: round(_finite(measured["seconds"][part]), 3) for part in PARTS},
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"report of device {card.name} lacks a figure: {error}") from None


def round_row(record: Mapping[str, Any]) -> Json:
    """Take from a round's public record what the report shows.

    Raises:
        DataError: the record lacks a field.
    """
    fields = [*("round_id", "kind", "cohort", "survivors", "dropouts"), "quorum_digest", "votes", "clipped"]
    figures = ("loss_before", "loss_after", "seconds")
    try:
        sums = [{key: one[key] for key in ("name", "num_devices", "opened")} for one in record["sums"]]
        return {
            **{f: record[f] for f in (*fields, "release")},
            "sums": sums,
            **{f: record[f] for f in figures},
        }
    except (KeyError, TypeError) as error:
        raise DataError(f"record of round {record.get('round_id')} lacks a field: {error}") from None


def build(
    cards: Sequence[DeviceCard],
    measured: Mapping[str, Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    *,
    base: str,
    settings: Json,
    wall_s: float,
) -> Json:
    """Build the report.

    Args:
        cards: the devices, in the report's order.
        measured: per device name, the agent's own report.
        records: the rounds' public records, in any order.
        base: name of the base model.
        settings: what `settings_record` gave.
        wall_s: seconds from the command to the last device's answer.

    Raises:
        DataError: a device has no report, or a figure is missing.
    """
    if missing := [card.name for card in cards if card.name not in measured]:
        raise DataError(f"devices without a report: {', '.join(missing)}")
    devices = [device_row(card, measured[card.name]) for card in cards]
    ordered = sorted(records, key=lambda record: int(record.get("sequence", 0)))
    return {
        "devices": devices,
        "rounds": [round_row(record) for record in ordered],
        "base": base,
        "settings": settings,
        "claims": claims(devices),
        "wall_s": round(wall_s, 1),
    }


def claims(devices: Sequence[Json]) -> Json:
    """Judge the two claims on the test figures.

    Returns:
        personal_beats_base: for how many devices global + personal needs fewer bits per byte than base;
        global_beats_base_mean: whether global alone needs fewer than base, on the devices' mean.
    """
    better = sum(d["bpb"]["personal"] < d["bpb"]["base"] for d in devices)
    return {
        "personal_beats_base": better,
        "global_beats_base_mean": bool(devices) and mean(devices, "global") < mean(devices, "base"),
    }


def verdicts(report: Json) -> tuple[str, str]:
    """Say in words whether each claim held."""
    devices, found = report["devices"], report["claims"]
    first, second = found["personal_beats_base"] == len(devices), found["global_beats_base_mean"]
    return (
        f"{'held' if first else 'DID NOT HOLD'}: global + personal beats base on the test split, "
        f"{found['personal_beats_base']} of {len(devices)} devices",
        f"{'held' if second else 'DID NOT HOLD'}: global alone beats base on the mean, "
        f"{mean(devices, 'base'):.3f} -> {mean(devices, 'global'):.3f} bits per byte",
    )


def mean(devices: Sequence[Json], arm: str) -> float:
    """Return the mean over devices of bits per byte."""
    return math.fsum(d["bpb"][arm] for d in devices) / len(devices)


def read_json(path: Path) -> Json:
    """Read an object from a JSON file.

    Raises:
        DataError: the file is missing, or holds something else.
    """
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if not isinstance(raw, dict):
        raise DataError(f"not a JSON object: {path}")
    return raw


def write_json(path: Path, value: Json) -> None:
    """Write an object, so that a reader sees all of it or the file as it was."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    aside.replace(path)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"not finite: {value}")
    return number
