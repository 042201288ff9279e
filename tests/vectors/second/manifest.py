"""The manifest and its rules, committees, and what an owner refuses (docs/protocol.md 5.5, 5.12, 6)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from tests.vectors.second import sealing
from tests.vectors.second.identity import (
    MAX_PREKEY,
    SIGNATURE,
    Anchors,
    Prekey,
    assign_groups,
    beacon,
    check_prekey,
    kind,
    lottery_number,
    name,
)
from tests.vectors.second.primitives import (
    LOCAL,
    Failure,
    Reader,
    check_signature,
    digest,
    refuse,
    require,
)

MODES = ("all", "sampled", "helper")
MAX_SUMS, MAX_LENGTH, MAX_COHORT, MAX_APPLICATION = 64, 2**28, 2**20, 2**20


class Numbers(NamedTuple):
    """C, Q, r, f, l."""

    size: int
    quorum: int
    threshold: int
    corrupt: int
    packing: int


def committee(mode: str, size: int) -> Numbers:
    """The rule (6.1)."""
    if mode == "all" and 3 <= size <= 64:
        r = -(-7 * size // 10)
        f = 2 * r - size - 1
        return Numbers(size, r, r, f, r - f)
    known = {
        ("sampled", 64): Numbers(64, 48, 48, 31, 17),
        ("helper", 3): Numbers(3, 3, 2, 1, 1),
        ("helper", 5): Numbers(5, 4, 3, 2, 1),
        ("helper", 7): Numbers(7, 6, 4, 3, 1),
    }
    if (mode, size) not in known:
        refuse("no such committee")
    return known[mode, size]


def lottery_bound(population: int) -> int:
    if population < 1:
        raise Failure(LOCAL, "population is not known")
    return min(2**64 - 1, 2**64 * 4 * 64 // population)


class Sum(NamedTuple):
    name: str
    length: int
    n_min: int
    group: int


@dataclass(frozen=True)
class Round:
    """A manifest that was checked."""

    mh: bytes
    raw: bytes
    suite: str
    round_id: str
    base_digest: str
    sequence: int
    sums: tuple[Sum, ...]
    n_max: int
    bits: int
    mode: str
    numbers: Numbers
    lottery: int
    members: tuple[Prekey, ...]
    cohort: tuple[str, ...]
    deadline_at_s: int

    @property
    def ids(self) -> list[str]:
        return [member.certificate.device_id for member in self.members]

    @property
    def contributors(self) -> frozenset[str] | None:
        """Who may contribute; none: everybody who is enrolled."""
        if self.mode == "all":
            return frozenset(self.ids)
        return frozenset(self.cohort) or None

    @property
    def groups(self) -> dict[str, int]:
        """The group of each device (5.12)."""
        count = max(s.group for s in self.sums)
        if not count or self.contributors is None:
            return {}
        return assign_groups(self.contributors, beacon(self.base_digest), count)

    def open_to(self, device_id: str) -> int:
        """The set of sums that a device may contribute to."""
        if self.contributors is not None:
            require(device_id in self.contributors, "not of the cohort")
        own = (0, self.groups.get(device_id, 0))
        return sum(1 << i for i, s in enumerate(self.sums) if s.group in own)


def verify(data: bytes, anchors: Anchors, now_s: int | None) -> Round:
    """Check a manifest; at its own deadline if no time is given (5.11)."""
    body = data[:-SIGNATURE]
    require(len(data) >= SIGNATURE, "cut short")
    check_signature(anchors.coordinator, "manifest", body, data[-SIGNATURE:])
    found = _read(data, anchors, now_s)
    _check_members(found, anchors)
    _check_sums(found)
    _check_cohort(found)
    require(now_s is None or now_s <= found.deadline_at_s, "past its deadline")
    return found


def _read(data: bytes, anchors: Anchors, now_s: int | None) -> Round:
    reader = Reader(data[:-SIGNATURE])
    kind(reader, "manifest")
    suite = reader.text(160)
    require(suite in sealing.SUITES, "unknown suite")
    require(reader.text(16) in ("train", "evaluate"), "unknown kind")
    round_id, sequence, base_digest = name(reader.text(64)), reader.number(8), reader.text(64)
    sums = tuple(_read_sum(reader) for _ in range(_at_most(reader.number(2), MAX_SUMS)))
    n_max, bits, mode = reader.number(4), reader.number(1), reader.text(16)
    stated = Numbers(*(reader.number(2) for _ in range(5)))
    require(stated == committee(mode, stated.size), "numbers break the rule")
    lottery = reader.number(8)
    prekeys = [reader.blob(MAX_PREKEY) for _ in range(stated.size)]
    cohort = tuple(name(reader.text(64)) for _ in range(_at_most(reader.number(4), MAX_COHORT)))
    deadline_at_s = reader.number(8)
    reader.blob(MAX_APPLICATION)
    reader.end()
    at_s = deadline_at_s if now_s is None else now_s
    members = tuple(check_prekey(m0, anchors, suite, round_id, at_s) for m0 in prekeys)
    return Round(
        digest("manifest", data), data, suite, round_id, base_digest, sequence, sums, n_max, bits, mode,
        stated, lottery, members, cohort, deadline_at_s,
    )  # fmt: skip


def _read_sum(reader: Reader) -> Sum:
    return Sum(name(reader.text(64)), reader.number(4), reader.number(4), reader.number(2))


def _at_most(count: int, bound: int) -> int:
    require(count <= bound, "list is too long")
    return count


def _ascend(values: Collection[str]) -> bool:
    return list(values) == sorted(set(values))


def _check_members(found: Round, anchors: Anchors) -> None:
    members = found.members
    require(_ascend(found.ids), "members do not ascend")
    for values in (
        {m.certificate.key for m in members},
        {m.certificate.serial for m in members},
        {m.public for m in members},
    ):
        require(len(values) == len(members), "one key or serial twice")
    if found.mode == "helper":
        require({m.certificate.key for m in members} == anchors.helpers, "not the pinned helpers")
    if found.mode != "sampled":
        require(found.lottery == 0, "lottery in a mode without")
        return
    require(found.lottery <= lottery_bound(anchors.population), "too many may win")
    draw = beacon(found.base_digest)
    require(all(lottery_number(draw, i) < found.lottery for i in found.ids), "lost the lottery")


def _check_sums(found: Round) -> None:
    names = [s.name for s in found.sums]
    require(len(names) > 0 and len(set(names)) == len(names), "sums are not distinct")
    require(found.bits in ((32,) if found.suite == sealing.REFERENCE else (16, 24)), "word size")
    for s in found.sums:
        require(1 <= s.n_min <= found.n_max, "n_min")
        require(1 <= s.length <= MAX_LENGTH, "length of a sum")


def _check_cohort(found: Round) -> None:
    require(_ascend(found.cohort), "cohort does not ascend")
    require(found.mode != "all" or not found.cohort, "cohort beside the members")
    groups = {s.group for s in found.sums} - {0}
    if groups:
        require(len(groups) >= 5 and groups == set(range(1, len(groups) + 1)), "groups")
        n_min = max(s.n_min for s in found.sums if s.group)
        require(len(found.contributors or ()) >= len(groups) * n_min, "cohort is too small for its groups")


def check_policy(found: Round, floor: int, suites: Collection[str], modes: Collection[str]) -> None:
    """Refuse what a device's owner does not allow (5.5)."""
    require(all(s.n_min >= floor for s in found.sums), "below the owner's floor")
    require(found.suite in suites and found.mode in modes, "suite or mode is not allowed")
