"""Records such as agents and the coordinator write, for the tests of what is made of them."""

from __future__ import annotations

from typing import Any

from mimo_fed.config import PrivacyConfig, RoundConfig
from mimo_fed.demo import report
from mimo_fed.demo.report import DeviceCard

CARDS = tuple(
    DeviceCard(
        name=name,
        author="a1b2c3d4e5f60718",
        language=language,
        translated=translated,
        device_class=kind,
        rank=rank,
    )
    for name, language, translated, kind, rank in (
        ("watch-1", "en", False, "watch", 4),
        ("phone-1", "it", True, "phone", 8),
        ("car-1", "en", False, "car", 16),
    )
)


def measured(base: float, global_: float, personal: float) -> dict[str, Any]:
    return {
        "bpb": {"base": base, "global": global_, "personal": personal},
        "lambda": 0.75,
        "bytes_up": 1_400_000,
        "bytes_down": 2_500_000,
        "seconds": {"train": 21.5, "protect": 1.25, "network": 0.5, "verify": 0.1, "swap": 0.02},
    }


MEASURED = {
    "watch-1": measured(2.0, 1.8, 1.7),
    "phone-1": measured(2.2, 1.9, 1.8),
    "car-1": measured(1.9, 1.95, 1.85),
}


def round_record(sequence: int, kind: str = "train", **changes: Any) -> dict[str, Any]:
    names = [card.name for card in CARDS]
    record = {
        "round_id": f"{kind}-{sequence}-00c0ffee",
        "kind": kind,
        "sequence": sequence,
        "cohort": names,
        "survivors": names,
        "dropouts": [],
        "quorum_digest": "ab" * 32,
        "votes": 3,
        "release": sequence,
        "sums": [
            {"name": "r1-4", "num_devices": 3, "opened": True, "reason": ""},
            {"name": "r9-16", "num_devices": 0, "opened": False, "reason": "fewer than n_min"},
        ],
        "loss_before": 4.0 - 0.2 * sequence,
        "loss_after": 3.7 - 0.2 * sequence,
        "clipped": 0,
        "improved": 3,
        "bytes_up": 4_200_000,
        "seconds": 31.5,
        "started_at": 1e9 + sequence,
        "n_min": 3,
        "test_only": True,
    }
    return {**record, **changes}


RECORDS = (round_record(3), round_record(1), round_record(2, "evaluate"))


def built(**changes: Any) -> dict[str, Any]:
    config = RoundConfig(n_min=3, n_max=8, privacy=PrivacyConfig())
    values: dict[str, Any] = {
        "base": "mimo-nano",
        "settings": report.settings_record(config, rounds=2, devices=3),
        "wall_s": 93.21,
    }
    return report.build(CARDS, MEASURED, RECORDS, **{**values, **changes})
