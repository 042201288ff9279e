"""A data set as an evaluation takes it: who takes part in rounds, who tunes, and who only gets the result."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mimo_fed.data import DemoDevice
from mimo_fed.data.extract import MANIFEST, load_manifest
from mimo_fed.data.folder import load_devices
from mimo_fed.data.lots import Role, position, role_of
from mimo_fed.errors import DataError
from mimo_fed.evaluate.records import Json, check_word
from mimo_fed.simulate.simulation import digest_of

LEAST: Final[dict[Role, int]] = {"federated": 3, "tuning": 1, "cold": 0}
"""fewest users of a role with which anything can be said"""
_LISTS: Final = frozenset({"packages", "files"})
"""long lists in a manifest; the digest stands for them"""


@dataclass(frozen=True, kw_only=True)
class UserSet:
    """The users of an evaluation, by role.

    Attributes:
        name: of the data set.
        federated: take part in rounds.
        tuning: learning rates are chosen on them alone.
        cold: never take part.
        labels: of the intents, if that is the set's task.
        provenance: where the texts come from.
    """

    name: str
    federated: tuple[DemoDevice, ...]
    tuning: tuple[DemoDevice, ...]
    cold: tuple[DemoDevice, ...]
    labels: tuple[str, ...] = ()
    provenance: Json

    @property
    def min_rank(self) -> int:
        """The smallest rank of any user's device: what an adapter of one rank for all can have."""
        return min(device.rank for device in (*self.federated, *self.tuning, *self.cold))

    @property
    def digest(self) -> str:
        """SHA-256 of all users, their texts and roles, hexadecimal."""
        roles = ("federated", self.federated), ("tuning", self.tuning), ("cold", self.cold)
        raw = [[role, sorted(digest_of(device) for device in devices)] for role, devices in roles]
        return hashlib.sha256(json.dumps([raw, self.labels]).encode()).hexdigest()

    def languages(self, devices: Sequence[DemoDevice], least: int) -> tuple[str, ...]:
        """Return the languages that at least so many of these users write, in alphabetical order."""
        counts = Counter(device.language for device in devices)
        return tuple(sorted(language for language, count in counts.items() if count >= least))


def load_set(folder: Path, *, name: str = "", max_users: int = 0, role_seed: str = "mimo-fed") -> UserSet:
    """Load a set of users and give each a role, by lot.

    Args:
        folder: with a manifest, or with one JSON Lines file a device.
        name: of the data set; empty: the folder's.
        max_users: drawn by lot from those there are; 0: all.
        role_seed: another seed gives other roles, and with `max_users` other users.

    Raises:
        DataError: the folder cannot be read, two devices have one author, or a role has too few users.
    """
    devices = load_devices(folder)
    name = name or folder.resolve().name
    check_word("dataset", name)
    if twice := [author for author, count in Counter(d.author for d in devices).items() if count > 1]:
        raise DataError(f"an evaluation needs one device per author; more than one has: {twice[0]}")
    if max_users:
        drawn = sorted(devices, key=lambda device: position(f"user|{device.author}", role_seed))
        devices = tuple(sorted(drawn[:max_users], key=lambda device: device.name))
    roles: dict[Role, list[DemoDevice]] = {role: [] for role in LEAST}
    for device in devices:
        roles[role_of(device.author, role_seed)].append(device)
    for role, least in LEAST.items():
        if len(roles[role]) < least:
            raise DataError(
                f"too few users for the role {role}, at least {least} are needed: {len(roles[role])}",
                hint="take a larger set, or draw other roles with --role-seed",
            )
    for device in devices:
        _check_texts(device)
    manifest = load_manifest(folder) if (folder / MANIFEST).exists() else {}
    told = {key: value for key, value in manifest.get("provenance", {}).items() if key not in _LISTS}
    return UserSet(
        name=name,
        federated=tuple(roles["federated"]),
        tuning=tuple(roles["tuning"]),
        cold=tuple(roles["cold"]),
        labels=tuple(manifest.get("labels", ())) if manifest.get("task") == "intent" else (),
        provenance=told,
    )


def _check_texts(device: DemoDevice) -> None:
    corpus = device.corpus
    if not (corpus.train and corpus.validation and corpus.test):
        raise DataError(
            f"an evaluation needs text to train on, to choose by and to test on: {device.name}",
            hint="leave this device out of the set",
        )
