"""A small set of users with made-up text, whose roles are known; on disk, too, as a folder of devices."""

from __future__ import annotations

from pathlib import Path

from mimo_fed.data import DemoDevice, Text
from mimo_fed.data.extract import write_extract
from mimo_fed.data.lots import Role, role_of
from mimo_fed.data.people import hashed
from mimo_fed.evaluate.sets import UserSet

SEED = "mimo-fed"
COUNTS: dict[Role, int] = {"federated": 7, "tuning": 4, "cold": 2}
WORDS = {"it": "il gatto dorme sul tetto", "fr": "le chat dort sur le toit"}
RANKS = (4, 8, 16)
CLASSES = {4: "watch", 8: "phone", 16: "car"}
LABELS = ("TurnOn", "TurnOff", "Ask")


def device_of(number: int, author: str, *, intents: bool = False) -> DemoDevice:
    language = "it" if number % 2 else "fr"
    tail = f"\nintent: {LABELS[number % 3]}" if intents else ""
    words = WORDS[language]
    texts = [Text(text=f"{words} {author[:4]}-{i}{tail}", split="train") for i in range(4)]
    texts.append(Text(text=f"{words}, {author[4:]}{tail}", split="validation"))
    texts.append(Text(text=f"{author[2:6]}: {words}{tail}", split="test"))
    rank = RANKS[number % 3]
    return DemoDevice(
        name=f"{language}-{author}",
        author=author,
        language=language,
        translated=False,
        device_class=CLASSES[rank],
        rank=rank,
        texts=tuple(texts),
    )


def devices_of(*, intents: bool = False) -> dict[Role, list[DemoDevice]]:
    """Draw authors until every role has as many as `COUNTS` says."""
    found: dict[Role, list[DemoDevice]] = {role: [] for role in COUNTS}
    number = 0
    while any(len(found[role]) < count for role, count in COUNTS.items()):
        author = hashed(str(number), "test")
        role = role_of(author, SEED)
        if len(found[role]) < COUNTS[role]:
            found[role].append(device_of(len(found[role]), author, intents=intents))
        number += 1
    return found


def user_set(*, intents: bool = False) -> UserSet:
    found = devices_of(intents=intents)
    return UserSet(
        name="made-up",
        federated=tuple(found["federated"]),
        tuning=tuple(found["tuning"]),
        cold=tuple(found["cold"]),
        labels=LABELS if intents else (),
        provenance={"source": "made up"},
    )


def write_set(folder: Path, *, intents: bool = False) -> Path:
    devices = [device for some in devices_of(intents=intents).values() for device in some]
    facts = {"task": "intent", "labels": list(LABELS)} if intents else {}
    write_extract(folder, devices, {"source": "made up", "packages": [1, 2, 3]}, facts)
    return folder
