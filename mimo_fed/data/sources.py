"""Which builder makes a set, and what it is given: the options of `mimo-fed data build`, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mimo_fed.data.archive import Tell
from mimo_fed.data.corpus import SPLITS, DemoDevice
from mimo_fed.data.splits import SET_BUDGET, Budget
from mimo_fed.data.users import SetPlan
from mimo_fed.errors import ConfigError, DataError


class Source(StrEnum):
    """Where the texts of a set come from."""

    DEBIAN = "debian"
    HOME_ASSISTANT = "home-assistant"
    SHAKESPEARE = "shakespeare"
    FORTUNES = "fortunes"


@dataclass(frozen=True, kw_only=True)
class Built:
    """A set, ready to be written."""

    devices: tuple[DemoDevice, ...]
    provenance: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """what else the manifest says: the task, and its labels"""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command asks for."""

    source: Source
    out: Path
    folder: Path | None
    """of what is read; None: an installed package, or what the mirror gives"""
    mirror: str | None
    suite: str
    users: int | None
    languages: str | None
    least: str | None
    most: str | None
    seed: str
    quiet: bool = False

    def plan(self, languages: Sequence[str] = ()) -> SetPlan:
        """Return which users are wanted; the languages are the option's, or else the ones given here."""
        named = parse_codes(self.languages) if self.languages is not None else tuple(languages)
        budget = parse_budget(self.least, self.most)
        return SetPlan(users=self.users or 0, languages=named, seed=self.seed, budget=budget)

    @property
    def of_named_devices(self) -> bool:
        """Whether a few named devices are wanted, so many of each language, and not a set of users."""
        return self.users is None and (self.languages is None or ":" in self.languages)


def build(request: Request, tell: Tell) -> Built:
    """Build a set.

    Args:
        request: what is wanted.
        tell: told what is going on.

    Raises:
        ConfigError: an option is missing, malformed or of another source.
        DataError: what is read is missing or damaged, or too few users have enough text.
        TransportError: the mirror cannot be reached or lacks a file.
    """
    builders = {
        Source.DEBIAN: _debian,
        Source.HOME_ASSISTANT: _home_assistant,
        Source.SHAKESPEARE: _shakespeare,
        Source.FORTUNES: _fortunes,
    }
    return builders[request.source](request, tell)


def parse_languages(value: str) -> dict[str, int]:
    """Read `it:4,fr:2,en:2`.

    Raises:
        ConfigError: that is not how it is written.
    """
    found = {}
    for part in value.split(","):
        code, _, count = part.strip().partition(":")
        if not code.isidentifier() or not count.isdecimal() or code in found:
            raise ConfigError(f"languages are not readable: {value!r}", hint="write them as it:4,fr:2,en:2")
        found[code] = int(count)
    return found


def parse_codes(value: str) -> tuple[str, ...]:
    """Read `en,de,pt_BR`.

    Raises:
        ConfigError: that is not how it is written.
    """
    codes = tuple(part.strip() for part in value.split(","))
    if not all(code.replace("-", "_").isidentifier() for code in codes) or len(set(codes)) < len(codes):
        raise ConfigError(f"languages are not readable: {value!r}", hint="write them as en,de,it")
    return codes


def parse_budget(least: str | None, most: str | None) -> Budget:
    """Read the bytes of each split, as `1000,200,500`; what is left out is as in `SET_BUDGET`.

    Raises:
        ConfigError: that is not how it is written, or there is more at least than at most.
    """
    ends: list[list[int]] = []
    for end, value in enumerate((least, most)):
        parts = [str(SET_BUDGET.of(split)[end]) for split in SPLITS] if value is None else value.split(",")
        if len(parts) != len(SPLITS) or not all(part.strip().isdecimal() for part in parts):
            raise ConfigError(
                f"bytes of the splits are not readable: {value!r}",
                hint="write train, validation and test as 1000,200,500",
            )
        ends.append([int(part) for part in parts])
    train, validation, test = zip(*ends, strict=True)
    return Budget(train=train, validation=validation, test=test)


def _debian(request: Request, tell: Tell) -> Built:
    from mimo_fed.data.debian import Plan, build_devices
    from mimo_fed.data.maintainers import build_maintainers

    if request.of_named_devices:
        if request.least or request.most:
            raise ConfigError("--least and --most are for sets of users", hint="give --users and --languages")
        languages = parse_languages(request.languages or "it:4,fr:2,en:2")
        folder = _indices(request, languages)
        devices, provenance = build_devices(
            folder, Plan(languages=languages, suite=request.suite, seed=request.seed), tell
        )
    else:
        plan = request.plan(("en",))
        folder = _indices(request, plan.languages)
        devices, provenance = build_maintainers(folder, request.suite, plan, tell)
    return Built(devices=devices, provenance=provenance)


def _indices(request: Request, languages: Sequence[str] | Mapping[str, int]) -> Path:
    """Return the folder of index files, filled from the mirror if there is one."""
    folder = _one_source(request, "indices")
    if request.mirror is not None:
        others = [f"Translation-{code}" for code in languages if code != "en"]
        kinds = ["Packages", "Translation-en", *others]
        _mirror().download_indices(request.mirror, request.suite, kinds, folder, quiet=request.quiet)
    return folder


def _home_assistant(request: Request, tell: Tell) -> Built:
    from mimo_fed.data.home import LANGUAGES, build_homes

    _refuse_folders(request, "the package home-assistant-intents")
    devices, provenance, labels = build_homes(request.plan(LANGUAGES), tell)
    return Built(devices=devices, provenance=provenance, facts={"task": "intent", "labels": list(labels)})


def _shakespeare(request: Request, tell: Tell) -> Built:
    from mimo_fed.data.plays import build_roles

    _refuse_folders(request, "the package shakespeare")
    if request.languages is not None:
        raise ConfigError(f"the plays are in one language: {request.languages!r}")
    devices, provenance = build_roles(request.plan(), tell)
    return Built(devices=devices, provenance=provenance)


def _fortunes(request: Request, tell: Tell) -> Built:
    from mimo_fed.data.fortunes import LANGUAGES, PACKAGES, build_quoted

    plan = request.plan(LANGUAGES)
    folder = _one_source(request, "packages")
    if request.mirror is not None:
        names = [PACKAGES[code] for code in plan.languages if code in PACKAGES]
        _mirror().download_packages(request.mirror, request.suite, names, folder, quiet=request.quiet)
    devices, provenance = build_quoted(folder, plan, tell)
    return Built(devices=devices, provenance=provenance)


def _one_source(request: Request, below: str) -> Path:
    if (request.folder is None) == (request.mirror is None):
        raise ConfigError(
            "a set is built from a folder or from a mirror", hint="give --from DIR or --mirror URL"
        )
    return request.folder or request.out / below


def _refuse_folders(request: Request, source: str) -> None:
    if request.folder is not None or request.mirror is not None:
        raise ConfigError(f"this set is read from {source}", hint="leave out --from and --mirror")


def _mirror() -> Any:
    try:
        from mimo_fed.data import mirror
    except ModuleNotFoundError as error:
        raise DataError(
            f"downloading needs {error.name}", hint="pip install 'mimo-fed[data]', or use --from DIR"
        ) from error
    return mirror
