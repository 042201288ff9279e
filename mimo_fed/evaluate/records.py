"""What an evaluation leaves behind: one row per user, arm and seed, and one record per arm and seed.

`users.csv` holds the rows and is published: a user is a hash, and no field holds a text.
`results.json` holds the rest: how the rows came about. Metrics, figures and pages are made from these two
files alone, so that anybody can make them again.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from pydantic import ConfigDict

from mimo_fed.errors import DataError

Json = dict[str, Any]
Group = Literal["federated", "cold"]

GROUPS: Final = ("federated", "cold")
"""federated: takes part in rounds; cold: never does, and meets what the others trained"""

WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 +.,_@()/-]{0,63}")
USER: Final = re.compile(r"[0-9a-f]{8,64}")
ENCRYPTED: Final = ", encrypted"
"""ends the name of an arm that was run once more with encryption"""
FORBID: Final = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One user's own test text under one arm and one seed.

    Attributes:
        dataset: name of the data set.
        base: name of the base model.
        arm: how the adapter came about; an arm run once more with encryption is named `ARM, encrypted`.
        user: hash of who wrote the text, 8 to 64 hexadecimal digits.
        group: whether the user took part in rounds.
        language: of the text.
        rank: columns that this user's class of device trains.
        train_bytes: UTF-8 bytes of the user's training text.
        test_bytes: UTF-8 bytes of the text that was measured.
        bits_per_byte: on the test text; lower is better.
        accuracy: share of intents told rightly, 0 to 1; None where the set has no intents.
        encrypted: the sums were opened by secure aggregation.

    Raises:
        DataError: a field is out of range, or the user is no hash.
    """

    dataset: str
    base: str
    arm: str
    seed: int
    user: str
    group: Group
    language: str
    device_class: str
    rank: int
    train_bytes: int
    test_bytes: int
    bits_per_byte: float
    accuracy: float | None
    encrypted: bool

    def __post_init__(self) -> None:
        for name in ("dataset", "base", "arm", "language", "device_class"):
            check_word(name, getattr(self, name))
        if not USER.fullmatch(self.user):
            raise DataError(f"a user is 8 to 64 hexadecimal digits, not: {self.user}")
        if self.group not in GROUPS:
            raise DataError(f"a group is federated or cold, not: {self.group}")
        for name, least in (("seed", 0), ("rank", 0), ("train_bytes", 0), ("test_bytes", 1)):
            if getattr(self, name) < least:
                raise DataError(f"{name} is at least {least}, not: {getattr(self, name)}")
        if not (math.isfinite(self.bits_per_byte) and self.bits_per_byte >= 0):
            raise DataError(f"bits_per_byte is a number of at least 0, not: {self.bits_per_byte}")
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise DataError(f"accuracy is from 0 to 1, not: {self.accuracy}")


FIELDS: Final = tuple(field.name for field in dataclasses.fields(Row))


@dataclass(frozen=True, kw_only=True)
class ArmRecord:
    """What one arm cost under one seed, and how it went.

    Attributes:
        steps_per_user: optimizer steps that each user's text was given.
        learning_rate: the tuned rate.
        rounds: federated rounds; 0 for an arm without any.
        bytes_up_per_device: mean over devices, whole run.
        bytes_down_per_device: mean over devices, whole run.
        device_cpu_s: mean processor seconds of a device, whole run.
        history: one dict a round: round, phase, cohort, survivors, loss_before, loss_after and more.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FORBID

    arm: str
    seed: int
    steps_per_user: float
    learning_rate: float
    rounds: int
    bytes_up_per_device: float
    bytes_down_per_device: float
    device_cpu_s: float
    history: tuple[Json, ...] = ()

    def __post_init__(self) -> None:
        check_word("arm", self.arm)
        figures = ("seed", "steps_per_user", "learning_rate", "rounds")
        for name in (*figures, "bytes_up_per_device", "bytes_down_per_device", "device_cpu_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise DataError(f"{name} of an arm is a number of at least 0, not: {value}")


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Which arm plays which part in the comparisons. An arm that was not run is simply not compared.

    Attributes:
        base: no adapter at all.
        local: the device alone, on its own text.
        shared: the global adapter.
        cold: what a new device gets before it has trained.
        full: what a device serves in the end: global, cohort and personal.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FORBID

    base: str
    local: str
    shared: str
    cold: str
    full: str

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_word(f"role {field.name}", getattr(self, field.name))


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything about a run but its rows.

    Attributes:
        dataset: name of the data set, as in the rows.
        base: name of the base model, as in the rows.
        command: what regenerates the run; paths in it are relative.
        roles: which arm is compared with which.
        settings: of the run.
        provenance: of the data set: packages, versions, digests, licences.
        arms: one record per arm and seed.
        versions: of Python and packages.
        machine: what it ran on; nothing that names the host.
        format: of the file.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FORBID

    dataset: str
    base: str
    command: str
    roles: Roles
    settings: Json
    provenance: Json
    arms: tuple[ArmRecord, ...]
    versions: dict[str, str]
    machine: Json
    format: Literal[1] = 1

    def __post_init__(self) -> None:
        check_word("dataset", self.dataset)
        check_word("base", self.base)

    @property
    def key(self) -> str:
        """What names this evaluation among others: data set and base."""
        return f"{self.dataset}/{self.base}"


def check_word(name: str, value: str) -> None:
    """Refuse what is not a short plain name.

    Raises:
        DataError: it is empty, long, or has characters that names of arms and languages do not need.
    """
    if not WORD.fullmatch(value):
        raise DataError(f"{name} is a plain name of at most 64 characters, not: {value!r}")
