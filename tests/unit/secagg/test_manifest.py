"""The manifest, its rules and the owner's policy."""

from __future__ import annotations

import dataclasses

import pytest

from mimo_fed.codec import Writer
from mimo_fed.errors import LocalProtocolError, PeerProtocolError
from mimo_fed.secagg import (
    CLASSIC,
    HYBRID,
    MIN_GROUPS,
    MODES,
    REFERENCE,
    SUITES,
    Anchors,
    DevicePolicy,
    Manifest,
    Mode,
    SumSpec,
    make_manifest,
    verify_manifest,
)
from mimo_fed.secagg.manifest import MAX_COHORT, MAX_DIM, MAX_SUMS, verify_past_manifest
from tests.unit.secagg.rig import NOW_S, Rig

RIG = Rig(4, {"a": 100, "b": 200})
HELPED = Rig(6, {"a": 10}, mode="helper")


def resigned(*rigs: Rig, **changes: object) -> bytes:
    """The manifest of a rig, RIG if none is named, with other values, signed by its coordinator."""
    rig = rigs[0] if rigs else RIG
    return make_manifest(rig.coordinator_key, dataclasses.replace(rig.manifest, **changes))  # type: ignore[arg-type]


def signed_bytes(rig: Rig, body: bytes) -> bytes:
    return body + rig.coordinator_key.sign("manifest", body)


def grouped(groups: list[int], *, n_min: int = 1) -> tuple[SumSpec, ...]:
    return tuple(SumSpec(name=f"g{i}", dim=1, n_min=n_min, group=g) for i, g in enumerate(groups))


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("mode", ["all", "helper"])
def test_a_manifest_comes_back_as_it_was(suite: str, mode: Mode) -> None:
    rig = Rig(4, {"a": 100, "b": 200}, mode=mode, suite=suite)
    signed = verify_manifest(rig.m1, rig.anchors, NOW_S)
    assert signed.manifest == rig.manifest
    assert signed.encoded == rig.m1
    assert len(signed.mh) == 32


def test_a_manifest_names_its_cohort() -> None:
    cohort = tuple(HELPED.ids[:5])
    manifest = verify_manifest(resigned(HELPED, cohort=cohort), HELPED.anchors, NOW_S).manifest
    assert manifest.contributors == frozenset(cohort)
    assert HELPED.manifest.contributors is None
    assert RIG.manifest.contributors == frozenset(RIG.ids)


def test_the_name_of_a_round_depends_on_every_setting() -> None:
    other = verify_manifest(resigned(application=b"x"), RIG.anchors, NOW_S)
    assert other.mh != RIG.signed.mh


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"suite": "mimo-fed/0"}, "unknown suite: 'mimo-fed/0'"),
        ({"kind": "delete"}, "unknown kind: 'delete'"),
        ({"round_id": "../x"}, "not a name"),
        ({"sums": ()}, "not distinct"),
        ({"sums": (SumSpec(name="a", dim=1, n_min=2),) * 2}, "not distinct: a, a"),
        ({"sums": (SumSpec(name="a/b", dim=1, n_min=2),)}, "not a name"),
        ({"sums": (SumSpec(name="a", dim=0, n_min=2),)}, "impossible length: a, 0"),
        ({"sums": (SumSpec(name="a", dim=MAX_DIM + 1, n_min=2),)}, "impossible length"),
        ({"sums": (SumSpec(name="a", dim=1, n_min=0),)}, "n_min is not within 1 and n_max: a, 0"),
        ({"sums": (SumSpec(name="a", dim=1, n_min=5),)}, "n_min is not within 1 and n_max: a, 5"),
        (
            {"sums": tuple(SumSpec(name=f"s{i}", dim=1, n_min=2) for i in range(MAX_SUMS + 1))},
            "too many sums: 65",
        ),
        ({"deadline_at_s": NOW_S - 1}, "past its deadline"),
        ({"members": RIG.manifest.members[::-1]}, "not distinct and in order"),
        ({"members": (*RIG.manifest.members[:3], RIG.manifest.members[2])}, "not distinct and in order"),
        ({"cohort": ("device-00",)}, "names a cohort beside its members: 1"),
        ({"cohort": ("b", "a")}, "cohort is not distinct and in order"),
        ({"lottery": 1}, "draws lots in a mode without: all"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(PeerProtocolError, match=reason):
        verify_manifest(resigned(**changes), RIG.anchors, NOW_S)


def test_a_round_of_the_past_is_checked_as_at_its_deadline() -> None:
    with pytest.raises(PeerProtocolError, match="past its deadline"):
        verify_manifest(RIG.m1, RIG.anchors, NOW_S + 601)
    assert verify_past_manifest(RIG.m1, RIG.anchors).mh == RIG.signed.mh
    beyond = resigned(deadline_at_s=NOW_S + 100_001)
    with pytest.raises(PeerProtocolError, match="not in force"):
        verify_past_manifest(beyond, RIG.anchors)


@pytest.mark.parametrize(
    ("suite", "bits"), [(CLASSIC, 8), (CLASSIC, 32), (HYBRID, 32), (REFERENCE, 16), (REFERENCE, 24)]
)
def test_words_that_do_not_go_with_the_suite_are_neither_signed_nor_taken(suite: str, bits: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"{bits} bits"):
        Rig(3, {"a": 1}, suite=suite, word_bits=bits)
    rig = Rig(3, {"a": 1}, suite=suite)
    body = dataclasses.replace(rig.manifest, word_bits=bits).encode()
    with pytest.raises(PeerProtocolError, match=f"words have another size: {bits}"):
        verify_manifest(signed_bytes(rig, body), rig.anchors, NOW_S)


@pytest.mark.parametrize("change", [(0, 1), (1, -1), (2, -1), (3, 1), (4, 1)])
def test_committee_numbers_other_than_the_rule_gives_are_refused(change: tuple[int, int]) -> None:
    """One of size, quorum, threshold, corrupt and packing altered by a coordinator that writes the bytes."""
    c = RIG.manifest.committee
    numbers = [c.size, c.quorum, c.threshold, c.corrupt, c.packing]

    def encoded(values: list[int]) -> bytes:
        return b"".join(Writer().u16(value).bytes() for value in values)

    body, altered = RIG.manifest.encode(), list(numbers)
    assert body.count(encoded(numbers)) == 1
    altered[change[0]] += change[1]
    forged = body.replace(encoded(numbers), encoded(altered))
    with pytest.raises(PeerProtocolError):
        verify_manifest(signed_bytes(RIG, forged), RIG.anchors, NOW_S)


def test_another_coordinators_manifest_is_refused() -> None:
    stranger = Anchors(b"\x01" * 32, RIG.anchors.authority, frozenset())
    with pytest.raises(PeerProtocolError, match="manifest"):
        verify_manifest(RIG.m1, stranger, NOW_S)


def test_bytes_that_are_no_manifest_are_refused() -> None:
    with pytest.raises(PeerProtocolError, match="cut short at byte 63"):
        verify_manifest(bytes(63), RIG.anchors, NOW_S)
    with pytest.raises(PeerProtocolError, match="another kind"):
        verify_manifest(signed_bytes(RIG, Writer().text("ballot").bytes()), RIG.anchors, NOW_S)


def test_a_cohort_beyond_all_bounds_is_refused_before_it_is_read() -> None:
    body, tail = HELPED.manifest.encode(), Writer().u64(HELPED.manifest.deadline_at_s).blob(b"{}").bytes()
    empty = Writer().u32(0).bytes() + tail
    assert body.endswith(empty)
    forged = body[: -len(empty)] + Writer().u32(MAX_COHORT + 1).bytes() + tail
    with pytest.raises(PeerProtocolError, match=f"too many devices: {MAX_COHORT + 1}"):
        verify_manifest(signed_bytes(HELPED, forged), HELPED.anchors, NOW_S)


@pytest.mark.parametrize(
    ("groups", "n_min", "reason"),
    [
        ([1, 2, 3, 4], 1, f"fewer than {MIN_GROUPS} or not all there: 4"),
        ([1, 2, 3, 4, 6], 1, "not all there: 6"),
        ([1, 2, 3, 4, 5], 3, "too small for groups of 3: 5 groups"),
        ([0, 6], 1, "not all there: 6"),
    ],
)
def test_groups_that_break_the_rule_are_refused(groups: list[int], n_min: int, reason: str) -> None:
    rig = Rig(10, {"a": 1})
    with pytest.raises(PeerProtocolError, match=reason):
        verify_manifest(resigned(rig, sums=grouped(groups, n_min=n_min)), rig.anchors, NOW_S)


def test_groups_need_a_cohort() -> None:
    with pytest.raises(PeerProtocolError, match="too small for groups of 1: 5 groups"):
        verify_manifest(resigned(HELPED, sums=grouped([1, 2, 3, 4, 5])), HELPED.anchors, NOW_S)


def test_each_device_of_a_grouped_round_may_give_to_its_group_and_to_the_common_sums() -> None:
    rig = Rig(10, {"a": 1})
    sums = grouped([0, 1, 2, 3, 4, 5], n_min=2)
    signed = verify_manifest(resigned(rig, sums=sums), rig.anchors, NOW_S)
    assert sorted(signed.groups) == rig.ids
    for d in rig.ids:
        assert signed.sums_open_to(d) == (0, signed.groups[d])
    with pytest.raises(PeerProtocolError, match="not of this round's cohort: stranger"):
        signed.sums_open_to("stranger")
    assert RIG.signed.groups == {}
    assert RIG.signed.sums_open_to(RIG.ids[0]) == (0, 1)


def test_the_owners_floor_counts_for_every_sum() -> None:
    manifest: Manifest = dataclasses.replace(
        RIG.manifest,
        suite=HYBRID,
        n_max=64,
        sums=(SumSpec(name="a", dim=1, n_min=16), SumSpec(name="b", dim=1, n_min=15)),
    )
    with pytest.raises(PeerProtocolError, match="b for fewer than 16: 15"):
        DevicePolicy().check(manifest)
    DevicePolicy(n_min_floor=15).check(manifest)


def test_a_device_takes_part_in_the_suites_and_modes_of_its_owner_alone() -> None:
    for suite in (CLASSIC, REFERENCE):
        with pytest.raises(PeerProtocolError, match="does not take part in the suite"):
            DevicePolicy(n_min_floor=1).check(dataclasses.replace(RIG.manifest, suite=suite))
    DevicePolicy(n_min_floor=1, suites=(CLASSIC,)).check(RIG.manifest)
    for mode in MODES:
        others = tuple(m for m in MODES if m != mode)
        changed = dataclasses.replace(RIG.manifest, mode=mode)
        DevicePolicy(n_min_floor=1, suites=(CLASSIC,), modes=(mode,)).check(changed)
        with pytest.raises(PeerProtocolError, match=f"does not trust a committee of mode: {mode}"):
            DevicePolicy(n_min_floor=1, suites=(CLASSIC,), modes=others).check(changed)
