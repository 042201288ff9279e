"""A few named devices from Debian's package descriptions: one device, one maintainer, one language.

This is how the demo's devices were made. Sets of hundreds of users are built in `maintainers`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mimo_fed.data.archive import ORIGINAL, Archive, Tell, label_of, silent
from mimo_fed.data.corpus import DemoDevice, Text
from mimo_fed.data.lots import RANKS, position
from mimo_fed.data.people import hashed
from mimo_fed.data.seen import Seen
from mimo_fed.data.splits import DEMO_BUDGET, Budget, Piece, by_author, choose_texts
from mimo_fed.errors import DataError

SEED = "mimo-fed"
COMMAND = "mimo-fed data build debian"


class DeviceKind(NamedTuple):
    """A device as people know it."""

    name: str
    device_class: str

    @property
    def rank(self) -> int:
        """The rank that a device of this class trains."""
        return RANKS[self.device_class]


KINDS = (
    DeviceKind("kitchen-fridge", "fridge"),
    DeviceKind("wrist-watch", "watch"),
    DeviceKind("red-phone", "phone"),
    DeviceKind("blue-phone", "phone"),
    DeviceKind("sofa-tablet", "tablet"),
    DeviceKind("family-car", "car"),
    DeviceKind("desk-tablet", "tablet"),
    DeviceKind("city-car", "car"),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which devices to build.

    Raises:
        DataError: no devices, or fewer than none of a language.
    """

    languages: Mapping[str, int] = field(default_factory=lambda: {"it": 4, "fr": 2, "en": 2})
    """how many devices of each language; `en` is what maintainers wrote, others are translations"""
    suite: str = "bookworm"
    seed: str = SEED
    budget: Budget = DEMO_BUDGET

    def __post_init__(self) -> None:
        if not self.languages or min(self.languages.values()) < 1:
            raise DataError(
                f"a set needs at least one device of every language named: {dict(self.languages)}"
            )

    def places(self) -> tuple[tuple[DeviceKind, str], ...]:
        """Pair devices with languages so that every language is spread over the ranks."""
        given: Counter[str] = Counter()
        places = []
        for number in range(sum(self.languages.values())):
            left = [code for code, wanted in self.languages.items() if given[code] < wanted]
            language = min(left, key=lambda code: (given[code] + 0.5) / self.languages[code])
            given[language] += 1
            places.append((_kind(number), language))
        return tuple(places)


def build_devices(
    folder: Path, plan: Plan, tell: Tell = silent
) -> tuple[tuple[DemoDevice, ...], dict[str, Any]]:
    """Build devices from a folder of index files.

    Args:
        folder: as `Archive` reads it.
        plan: which devices.
        tell: told what is going on.

    Returns:
        The devices, and where their texts come from.

    Raises:
        DataError: an index is missing, damaged or of another day, or a language has too few authors.
    """
    tell("packages and their maintainers", 0.0)
    archive = Archive(folder, plan.suite)
    chosen: dict[str, list[tuple[str, tuple[Text, ...]]]] = {}
    taken: set[str] = set()
    for number, (language, wanted) in enumerate(plan.languages.items(), start=1):
        tell(f"{wanted} authors in {language}", number / (len(plan.languages) + 1))
        items = by_author(archive.pieces(language, Seen()))
        chosen[language] = _choose(items, wanted, plan, taken)
        if len(chosen[language]) < wanted:
            raise DataError(f"too few maintainers with enough text in {language}: {len(chosen[language])}")
        taken |= {author for author, _ in chosen[language]}
    devices = _devices(plan, chosen)
    used = [text.package for device in devices for text in device.texts]
    languages = ",".join(f"{code}:{count}" for code, count in plan.languages.items())
    command = f"{COMMAND} --suite {plan.suite} --languages {languages} --seed {plan.seed}"
    return devices, archive.provenance(used, seed=plan.seed, command=command)


def _kind(number: int) -> DeviceKind:
    kind = KINDS[number % len(KINDS)]
    again = number // len(KINDS)
    return kind._replace(name=f"{kind.name}-{again + 1}") if again else kind


def _choose(
    items: Mapping[str, Sequence[Piece]], wanted: int, plan: Plan, taken: set[str]
) -> list[tuple[str, tuple[Text, ...]]]:
    """Take the first authors with enough text in the order of their hashes, so that nobody picks them."""
    chosen: list[tuple[str, tuple[Text, ...]]] = []
    for author in sorted(items, key=lambda name: position(name, plan.seed)):
        if len(chosen) == wanted:
            break
        texts = None if author in taken else choose_texts(items[author], plan.seed, plan.budget)
        if texts is not None:
            chosen.append((author, texts))
    return chosen


def _devices(plan: Plan, chosen: Mapping[str, list[tuple[str, tuple[Text, ...]]]]) -> tuple[DemoDevice, ...]:
    queues = {language: iter(authors) for language, authors in chosen.items()}
    devices = []
    for kind, language in plan.places():
        author, texts = next(queues[language])
        devices.append(
            DemoDevice(
                name=kind.name,
                author=hashed(author, plan.seed),
                language=language,
                translated=language != ORIGINAL,
                label=label_of(language),
                device_class=kind.device_class,
                rank=kind.rank,
                texts=texts,
            )
        )
    return tuple(devices)
