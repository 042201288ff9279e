"""A coordinator that writes a manifest to its own liking; every device reads it and refuses."""

from __future__ import annotations

import dataclasses

import pytest

from mimo_fed.codec import Writer
from mimo_fed.errors import LocalProtocolError, PeerProtocolError
from mimo_fed.secagg import (
    CLASSIC,
    HYBRID,
    REFERENCE,
    Anchors,
    DevicePolicy,
    Manifest,
    Mode,
    Prekey,
    SigningKey,
    SumSpec,
    lottery_bound,
    make_manifest,
    make_prekey,
    verify_manifest,
)
from tests.unit.secagg.rig import NOW_S, Rig

SUMS = {"a": 40}


def signed(rig: Rig, **changes: object) -> bytes:
    """The rig's manifest with other values, signed by the coordinator."""
    return make_manifest(rig.coordinator_key, dataclasses.replace(rig.manifest, **changes))  # type: ignore[arg-type]


def refuse(rig: Rig, m1: bytes, reason: str, anchors: Anchors | None = None) -> None:
    with pytest.raises(PeerProtocolError, match=reason):
        verify_manifest(m1, anchors or rig.anchors, NOW_S)


def with_numbers(rig: Rig, *numbers: int) -> bytes:
    """The manifest with other committee numbers in its bytes: C, Q, r, f, l."""
    c = rig.manifest.committee

    def encoded(values: tuple[int, ...]) -> bytes:
        return b"".join(Writer().u16(value).bytes() for value in values)

    honest = encoded((c.size, c.quorum, c.threshold, c.corrupt, c.packing))
    body = rig.manifest.encode()
    assert body.count(honest) == 1
    body = body.replace(honest, encoded(numbers))
    return body + rig.coordinator_key.sign("manifest", body)


def own_helper(rig: Rig, name: str) -> Prekey:
    """A helper of the coordinator's own, whom the authority has certified like any device."""
    key = SigningKey.generate(rig.entropy)
    rig.keys[name], rig.certificates[name] = key, rig.certify(name, key, 900 + len(rig.keys))
    return rig.prekey(name)


def test_n_min_lowered_below_the_owners_floor() -> None:
    rig = Rig(4, SUMS, n_min=2)
    verify_manifest(rig.m1, rig.anchors, NOW_S)
    with pytest.raises(PeerProtocolError, match="fewer than 3: 2"):
        DevicePolicy(n_min_floor=3, suites=(CLASSIC,)).check(rig.manifest)


def test_n_min_lowered_for_one_sum_among_many() -> None:
    specs = tuple(SumSpec(name=f"s{i}", dim=4, n_min=3 if i else 1) for i in range(3))
    with pytest.raises(PeerProtocolError, match="would open s0 for fewer than 3: 1"):
        DevicePolicy(n_min_floor=3, suites=(CLASSIC,)).check(Rig(4, specs).manifest)


@pytest.mark.parametrize("n_min", [0, 5])
def test_n_min_of_nobody_or_of_more_than_may_take_part(n_min: int) -> None:
    rig = Rig(4, SUMS)
    refuse(rig, signed(rig, sums=(SumSpec(name="a", dim=40, n_min=n_min),)), "not within 1 and n_max")


@pytest.mark.parametrize(
    "numbers",
    [(4, 2, 3, 1, 2), (4, 3, 2, 1, 2), (4, 3, 3, 0, 3), (4, 3, 3, 1, 3), (4, 1, 1, 0, 1)],
    ids=["quorum", "threshold", "corrupt", "packing", "all"],
)
def test_committee_numbers_that_fail_the_rule(numbers: tuple[int, ...]) -> None:
    rig = Rig(4, SUMS)
    refuse(rig, with_numbers(rig, *numbers), "committee breaks the rule: round-1")


@pytest.mark.parametrize(("mode", "size"), [("all", 2), ("sampled", 4), ("helper", 4), ("nobody", 4)])
def test_a_mode_or_size_that_the_rule_does_not_know(mode: str, size: int) -> None:
    rig = Rig(4, SUMS)
    body = rig.manifest.encode()
    honest = Writer().text("all").u16(4).bytes()
    assert body.count(honest) == 1
    body = body.replace(honest, Writer().text(mode).u16(size).bytes())
    m1 = body + rig.coordinator_key.sign("manifest", body)
    refuse(rig, m1, "mode is not known" if mode == "nobody" else "cannot have this many members")


def test_a_helper_that_is_not_pinned() -> None:
    rig = Rig(4, SUMS, mode="helper")
    foreign = own_helper(rig, "helper-9")
    refuse(rig, signed(rig, members=(*rig.manifest.members[:2], foreign)), "not the pinned ones: helper-0")


def test_helpers_of_the_coordinators_own_where_none_is_pinned() -> None:
    rig = Rig(4, SUMS, mode="helper")
    refuse(rig, rig.m1, "not the pinned ones", dataclasses.replace(rig.anchors, helpers=frozenset()))
    own = tuple(own_helper(rig, f"own-{i}") for i in range(3))
    refuse(rig, signed(rig, members=own), "not the pinned ones: own-0, own-1, own-2")


def test_a_pinned_helper_left_out_for_a_smaller_committee() -> None:
    """Three of five pinned helpers would be a committee by the rule, but not the one that was pinned."""
    rig = Rig(4, SUMS, mode="helper", helpers=5)
    refuse(rig, signed(rig, members=rig.manifest.members[:3]), "not the pinned ones")


def test_a_pinned_helper_left_out_for_a_device() -> None:
    rig = Rig(4, SUMS, mode="helper")
    members = tuple(sorted((*rig.manifest.members[:2], rig.prekey("device-00")), key=lambda m: m.device_id))
    refuse(rig, signed(rig, members=members), "not the pinned ones")


def test_a_lottery_threshold_above_the_bound() -> None:
    rig = Rig(600, SUMS, mode="sampled")
    assert rig.manifest.lottery == lottery_bound(600) < 2**64 - 1
    refuse(rig, signed(rig, lottery=lottery_bound(600) + 1), "too many devices eligible")


def test_a_population_that_the_coordinator_would_like_to_be_smaller() -> None:
    """The population is an anchor: the larger it is, the fewer may win."""
    rig = Rig(600, SUMS, mode="sampled")
    refuse(rig, rig.m1, "too many devices eligible", dataclasses.replace(rig.anchors, population=601))


def test_a_member_that_did_not_win_the_lottery() -> None:
    rig = Rig(600, SUMS, mode="sampled")
    loser = next(d for d in rig.ids if d not in rig.winners(lottery_bound(600) * 2))
    members = (*rig.manifest.members[1:], rig.prekey(loser))
    ordered = tuple(sorted(members, key=lambda m: m.device_id))
    refuse(rig, signed(rig, members=ordered), f"did not win the lottery: {loser}")


def test_winners_of_another_bases_lottery() -> None:
    """The beacon is the base's: a coordinator that names another base needs that base's winners."""
    rig = Rig(600, SUMS, mode="sampled")
    refuse(rig, signed(rig, base_digest="11" * 32), "did not win the lottery")


def test_a_lottery_where_the_anchors_know_no_population() -> None:
    rig = Rig(70, SUMS, mode="sampled")
    with pytest.raises(LocalProtocolError, match="how many devices are enrolled: 0"):
        verify_manifest(rig.m1, dataclasses.replace(rig.anchors, population=0), NOW_S)


def test_a_smaller_committee_than_the_lottery_is_for() -> None:
    rig = Rig(70, SUMS, mode="sampled")
    body = rig.manifest.encode().replace(
        Writer().text("sampled").u16(64).bytes(), Writer().text("sampled").u16(63).bytes()
    )
    refuse(rig, body + rig.coordinator_key.sign("manifest", body), "cannot have this many members: 63")


@pytest.mark.parametrize(("mode", "allowed"), [("helper", ("all",)), ("all", ("helper", "sampled"))])
def test_a_committee_that_the_owner_does_not_trust(mode: Mode, allowed: tuple[str, ...]) -> None:
    manifest = Rig(4, SUMS, mode=mode).manifest
    with pytest.raises(PeerProtocolError, match=f"committee of mode: {mode}"):
        DevicePolicy(n_min_floor=2, suites=(CLASSIC,), modes=allowed).check(manifest)


@pytest.mark.parametrize("suite", [CLASSIC, REFERENCE])
def test_a_weaker_suite_than_the_owner_allows(suite: str) -> None:
    rig = Rig(4, SUMS, suite=suite)
    with pytest.raises(PeerProtocolError, match="does not take part in the suite"):
        DevicePolicy(n_min_floor=2).check(rig.manifest)


def test_prekeys_of_a_weaker_suite_than_the_manifests() -> None:
    rig = Rig(4, SUMS, suite=HYBRID)
    rig.suite = CLASSIC
    members = (rig.prekey(rig.ids[0]), *rig.manifest.members[1:])
    refuse(rig, signed(rig, members=members), "prekey is of another suite")


def test_unrounded_words_smuggled_into_a_suite_with_errors() -> None:
    rig = Rig(4, SUMS)
    body = dataclasses.replace(rig.manifest, word_bits=32).encode()
    refuse(rig, body + rig.coordinator_key.sign("manifest", body), "words have another size: 32")


def test_prekeys_of_another_round() -> None:
    rig = Rig(4, SUMS)
    refuse(rig, signed(rig, round_id="round-2", sequence=2), "made for another round: 'round-1'")


def test_a_prekey_of_the_coordinators_in_a_members_name() -> None:
    """Whoever holds the one-time key reads the shares: so the member signs it."""
    rig = Rig(4, SUMS)
    victim = rig.ids[0]
    for key in (rig.coordinator_key, rig.keys[rig.ids[1]]):
        _, m0 = make_prekey(rig.suite, key, rig.certificates[victim], rig.round_id, rig.entropy)
        forged = dataclasses.replace(rig.manifest.members[0], encoded=m0)
        refuse(rig, signed(rig, members=(forged, *rig.manifest.members[1:])), "not valid: prekey")


def test_one_one_time_key_for_two_members() -> None:
    """Two devices that share a prekey, by accident or not, would be one member with two shares."""
    rig = Rig(4, SUMS)
    one, other = rig.ids[:2]
    shared = rig.manifest.members[0].public_key
    writer = Writer().text("prekey").text(rig.suite).text(rig.round_id)
    body = writer.blob(rig.certificates[other].encode()).blob(shared).bytes()
    m0 = body + rig.keys[other].sign("prekey", body)
    twin = dataclasses.replace(rig.manifest.members[1], encoded=m0, public_key=shared)
    members = (rig.manifest.members[0], twin, *rig.manifest.members[2:])
    assert one != other
    refuse(rig, signed(rig, members=members), "one key or certificate twice")


def test_another_coordinators_manifest() -> None:
    rig = Rig(4, SUMS)
    refuse(rig, make_manifest(rig.authority, rig.manifest), "signature is not valid: manifest")


def test_a_manifest_changed_after_it_was_signed() -> None:
    rig = Rig(4, SUMS)
    changed = dataclasses.replace(rig.manifest, sequence=9).encode() + rig.m1[-64:]
    refuse(rig, changed, "signature is not valid: manifest")


def test_a_manifest_past_its_deadline() -> None:
    rig = Rig(4, SUMS)
    with pytest.raises(PeerProtocolError, match="past its deadline"):
        verify_manifest(rig.m1, rig.anchors, rig.manifest.deadline_at_s + 1)


def grouped(num_groups: int, n_min: int) -> tuple[SumSpec, ...]:
    return tuple(SumSpec(name=f"g{g}", dim=1, n_min=n_min, group=g) for g in range(1, num_groups + 1))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sums": grouped(4, 2)}, "fewer than 5"),
        ({"sums": grouped(5, 3)}, "too small for groups of 3"),
        ({"sums": grouped(6, 2)[1:]}, "not all there: 6"),
    ],
    ids=["too few", "too small", "one that nobody could be in"],
)
def test_groups_of_the_coordinators_liking(changes: dict[str, object], reason: str) -> None:
    rig = Rig(10, SUMS)
    refuse(rig, signed(rig, **changes), reason)


def test_groups_without_a_cohort_to_draw_them_from() -> None:
    rig = Rig(10, SUMS, mode="helper")
    refuse(rig, signed(rig, sums=grouped(5, 1)), "too small for groups of 1")
    verify_manifest(signed(rig, sums=grouped(5, 1), cohort=tuple(rig.ids)), rig.anchors, NOW_S)


def test_a_cohort_beside_the_members_of_mode_all() -> None:
    """Who contributes there is who is a member: a second list could only differ."""
    rig = Rig(4, SUMS)
    refuse(rig, signed(rig, cohort=tuple(rig.ids)), "a cohort beside its members: 4")


def test_the_order_of_devices_chosen_by_the_coordinator() -> None:
    rig: Rig = Rig(4, SUMS)
    manifest: Manifest = rig.manifest
    refuse(rig, signed(rig, members=manifest.members[::-1]), "members are not distinct and in order")
    helped = Rig(4, SUMS, mode="helper")
    refuse(helped, signed(helped, cohort=("device-01", "device-00")), "cohort is not distinct and in order")
