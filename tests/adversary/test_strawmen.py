"""Each safeguard left out in turn: the attack that it prevents, shown to succeed.

The real code's refusal of the same lie stands in the file of the attacker.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from mimo_fed.aggregate import robust_mean
from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg import (
    MODULUS,
    REFERENCE,
    SAMPLED_SIZE,
    Coordinator,
    DevicePolicy,
    Member,
    Prekey,
    SigningKey,
    SumSpec,
    assign_groups,
    lottery_bound,
    make_manifest,
    make_prekey,
    verify_manifest,
)
from mimo_fed.secagg.crypto import Box
from mimo_fed.secagg.messages import ballot_digest, encode_quorum
from mimo_fed.secagg.modular import multiply
from mimo_fed.secagg.shamir import base_points, lagrange
from tests.adversary import strawmen
from tests.adversary.forge import Dealer, ballot_of, copied, entries_of, voting_rig
from tests.unit.secagg.rig import NOW_S, Rig, Vector, plain_sum

SUMS = {"a": 40}
Inputs = dict[str, dict[str, Vector]]


def built(straw: type[Member], rig: Rig) -> None:
    """Put members of this kind in the place of the honest ones."""
    rig.members = {
        d: straw(rig.signed, rig.keys[d], rig.certificates[d], rig.secrets[d]) for d in rig.member_ids
    }


def straw_rig(straw: type[Member], n: int = 4, **manifest: object) -> tuple[Rig, Inputs]:
    """A round whose members are of this kind and hold their shares."""
    rig = Rig(n, SUMS, suite=REFERENCE, **manifest)  # type: ignore[arg-type]
    built(straw, rig)
    inputs = rig.random_inputs(1)
    rig.gather(inputs)
    rig.check_shares()
    return rig, inputs


def both_ballots(rig: Rig) -> tuple[bytes, bytes]:
    """All survivors, and all but the last: each at least n_min."""
    return ballot_of(rig, entries_of(rig)), ballot_of(rig, entries_of(rig)[:-1])


def openings_for(rig: Rig, ballot: bytes, members: Sequence[str]) -> list[bytes]:
    """These members vote for a ballot, and open it under the certificate of their votes."""
    votes = {rig.member_ids.index(d): rig.members[d].vote(ballot)[-64:] for d in members}
    certificate = encode_quorum(rig.signed.mh, ballot_digest(ballot), votes)
    return [rig.members[d].open(certificate) for d in members]


def read_victim(rig: Rig, one: Iterable[bytes], other: Iterable[bytes]) -> np.ndarray:
    """The last device's vector, from openings with it and without it."""
    with_victim, without = strawmen.key_of(rig, list(one)), strawmen.key_of(rig, list(other))
    return strawmen.read_with_key(rig, rig.ids[-1:], strawmen.subtract(with_victim, without))


def is_vector_of(rig: Rig, inputs: Inputs, d: str, values: np.ndarray) -> bool:
    return np.array_equal(values, plain_sum([inputs[d]["a"]]))


# Survivors


def test_members_that_vote_twice_show_the_device_that_two_ballots_differ_by() -> None:
    rig, inputs = straw_rig(strawmen.VotesAgain)
    whole, without = both_ballots(rig)
    one, other = openings_for(rig, whole, rig.ids), openings_for(rig, without, rig.ids)
    assert is_vector_of(rig, inputs, rig.ids[-1], read_victim(rig, one, other))


def test_helpers_that_open_without_a_certificate_show_it_too() -> None:
    """One corrupt helper answers for both ballots; each of the honest two has seen one of them."""
    rig, inputs = straw_rig(strawmen.OpensWithoutQuorum, mode="helper")
    whole, without = both_ballots(rig)
    corrupt = strawmen.VotesAgain.from_bytes(
        rig.signed, rig.keys["helper-0"], rig.certificates["helper-0"], rig.members["helper-0"].to_bytes()
    )
    answers = {}
    for ballot, honest in ((whole, "helper-1"), (without, "helper-2")):
        corrupt.vote(ballot)
        rig.members[honest].vote(ballot)
        answers[ballot] = [corrupt._opening, rig.members[honest].open(b"no certificate")]
    assert is_vector_of(rig, inputs, rig.ids[-1], read_victim(rig, answers[whole], answers[without]))


def test_packed_shares_opened_without_a_certificate_leak_in_part() -> None:
    """In mode all one corrupt and one honest answer for the smaller ballot are too few to interpolate.

    But with l = 2 they fix one combination of each two coefficients of the victim's key.
    """
    rig = Rig(4, SUMS, suite=REFERENCE)
    built(strawmen.OpensWithoutQuorum, rig)
    inputs = rig.random_inputs(1)
    victim = Dealer(rig, rig.ids[-1], inputs[rig.ids[-1]])
    for d in rig.ids[:-1]:
        rig.coordinator.add(rig.m2(d, inputs[d]))
    rig.coordinator.add(victim.m2())
    rig.coordinator.close()
    rig.check_shares()
    held = [int(v) for v in (1, 2)]  # points of the corrupt member and of the honest one
    shares = victim.rows[[x - 1 for x in held], :1024].astype(np.uint64)  # the difference of their answers
    one, other = base_points(2)
    vanishing = [(x - held[0]) * (x - held[1]) % MODULUS for x in (one, other)]
    through = multiply(lagrange(tuple(held), (one, other)), shares)
    pairs = victim.secrets[0].reshape(2, 1024)
    leaked = [(int(a) * vanishing[1] - int(b) * vanishing[0]) % MODULUS for a, b in through.T]
    truth = [(int(a) * vanishing[1] - int(b) * vanishing[0]) % MODULUS for a, b in pairs.T]
    assert leaked == truth
    assert rig.manifest.committee.packing == 2


def test_half_a_committee_as_a_quorum_opens_two_survivor_sets() -> None:
    """Every member is honest and votes once; the two quorums share nobody."""
    rig = Rig(4, SUMS, suite=REFERENCE)
    rig.signed = strawmen.HalfIsAQuorum.of(rig.signed)
    rig.coordinator = Coordinator(rig.signed, rig.anchors, rig.spool, rig.arithmetic)
    built(Member, rig)
    inputs = rig.random_inputs(1)
    rig.gather(inputs)
    rig.check_shares()
    whole, without = both_ballots(rig)
    one, other = openings_for(rig, whole, rig.ids[:2]), openings_for(rig, without, rig.ids[2:])
    assert is_vector_of(rig, inputs, rig.ids[-1], read_victim(rig, one, other))


def test_one_list_per_sum_shows_a_weight_by_subtraction() -> None:
    """A weight stands in a shell's sum and in the statistics; both are opened for at least n_min devices."""
    rig = Rig(5, {"shell": 3, "statistics": 1}, suite=REFERENCE, n_min=4)
    built(strawmen.OneListPerSum, rig)
    weights = dict(zip(rig.ids, (3, 1, 4, 1, 59), strict=True))
    rig.gather(
        {
            d: {"shell": np.array([w, 8, 9], np.uint32), "statistics": np.array([w], np.uint32)}
            for d, w in weights.items()
        }
    )
    rig.check_shares()
    everybody = entries_of(rig)

    def opened(index: int, survivors: Sequence[object]) -> float:
        answers = {
            i: rig.members[d].open_sum(index, survivors)  # type: ignore[attr-defined]
            for i, d in enumerate(rig.ids)
        }
        key = strawmen.interpolate(answers, rig)
        return float(strawmen.read_with_key(rig, rig.ids[: len(survivors)], key, index)[0])

    assert opened(0, everybody) - opened(1, everybody[:-1]) == weights[rig.ids[-1]] == 59


def test_a_member_restored_from_an_older_state_votes_twice() -> None:
    """The limit that docs/protocol.md 5.13 states: members must store their state before an answer leaves."""
    rig = voting_rig(suite=REFERENCE)
    inputs = rig.random_inputs(1)
    older = {d: rig.members[d].to_bytes() for d in rig.ids}
    whole, without = both_ballots(rig)
    one = openings_for(rig, whole, rig.ids)
    rig.members = {
        d: Member.from_bytes(rig.signed, rig.keys[d], rig.certificates[d], older[d]) for d in rig.ids
    }
    other = openings_for(rig, without, rig.ids)
    assert is_vector_of(rig, inputs, rig.ids[-1], read_victim(rig, one, other))


def test_without_the_owners_floor_one_device_is_a_sum() -> None:
    rig = Rig(4, SUMS, suite=REFERENCE, n_min=1)
    DevicePolicy(n_min_floor=1, suites=(REFERENCE,)).check(rig.manifest)
    inputs = rig.random_inputs(1)
    rig.gather({rig.ids[2]: inputs[rig.ids[2]]})
    assert is_vector_of(rig, inputs, rig.ids[2], rig.finish().sums["a"].total_D)


def test_an_authority_that_is_the_coordinators_makes_n_min_worth_nothing() -> None:
    """The limit that docs/protocol.md 8.2 states: all devices but one are the coordinator's own."""
    rig = Rig(4, SUMS, suite=REFERENCE, n_min=4)
    inputs, victim = rig.random_inputs(1), rig.ids[0]
    rig.gather(inputs)
    total = rig.finish().sums["a"].total_D
    own = plain_sum(inputs[d]["a"] for d in rig.ids[1:])
    difference = (total - own) % MODULUS
    centred = np.where(difference > MODULUS // 2, difference - MODULUS, difference)
    assert is_vector_of(rig, inputs, victim, centred)


# Who takes part


def own_prekeys(rig: Rig, names: Sequence[str]) -> tuple[tuple[Prekey, ...], dict[int, Box]]:
    """Prekeys of devices of the coordinator's own, certified like any, and their secrets by index."""
    for i, name in enumerate(names):
        rig.keys[name] = SigningKey.generate(rig.entropy)
        rig.certificates[name] = rig.certify(name, rig.keys[name], 10_000 + i)
    members = tuple(rig.prekey(name) for name in names)
    return members, {i: Box(rig.suite, rig.secrets[name]) for i, name in enumerate(names)}


def contribute_under(rig: Rig, members: tuple[Prekey, ...], **changes: object) -> Inputs:
    """The first device takes the coordinator's manifest with these members, and contributes."""
    manifest = dataclasses.replace(rig.manifest, members=members, **changes)  # type: ignore[arg-type]
    rig.signed = verify_manifest(make_manifest(rig.coordinator_key, manifest), rig.anchors, NOW_S)
    inputs = rig.random_inputs(1)
    rig.spool.put(f"{rig.ids[0]}.m2", rig.m2(rig.ids[0], inputs[rig.ids[0]]))
    return inputs


def test_helpers_that_are_not_pinned_open_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(4, SUMS, suite=REFERENCE, mode="helper")
    members, boxes = own_prekeys(rig, ["own-0", "own-1", "own-2"])
    with pytest.raises(PeerProtocolError, match="not the pinned ones"):
        contribute_under(rig, members)
    monkeypatch.setattr("mimo_fed.secagg.manifest._check_members", strawmen.accepts_members)
    inputs = contribute_under(rig, members)
    assert is_vector_of(rig, inputs, rig.ids[0], strawmen.collude(rig, boxes, rig.ids[0]))


def test_without_a_lottery_the_committee_is_the_coordinators(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(600, SUMS, suite=REFERENCE, mode="sampled")
    members, boxes = own_prekeys(rig, [f"own-{i:02d}" for i in range(SAMPLED_SIZE)])
    with pytest.raises(PeerProtocolError, match="did not win the lottery"):
        contribute_under(rig, members)
    monkeypatch.setattr("mimo_fed.secagg.manifest._check_lottery", strawmen.draws_no_lots)
    inputs = contribute_under(rig, members)
    assert is_vector_of(rig, inputs, rig.ids[0], strawmen.collude(rig, boxes, rig.ids[0]))


def test_without_a_bound_every_device_wins_and_the_coordinator_picks_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lottery is checked, but the manifest's threshold is not: of the winners it takes 64 of its own."""
    rig = Rig(600, SUMS, suite=REFERENCE, mode="sampled")
    members, boxes = own_prekeys(rig, [f"own-{i:02d}" for i in range(SAMPLED_SIZE)])
    with pytest.raises(PeerProtocolError, match="too many devices eligible"):
        contribute_under(rig, members, lottery=2**64 - 1)
    assert lottery_bound(600) < 2**63
    monkeypatch.setattr("mimo_fed.secagg.manifest.lottery_bound", lambda _: 2**64)
    inputs = contribute_under(rig, members, lottery=2**64 - 1)
    assert is_vector_of(rig, inputs, rig.ids[0], strawmen.collude(rig, boxes, rig.ids[0]))


def test_unsigned_prekeys_let_the_coordinator_read_every_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """It puts one-time keys of its own under the certificates of honest members."""
    rig = Rig(4, SUMS, suite=REFERENCE)
    members, boxes = [], {}
    for i, d in enumerate(rig.ids):
        secret, m0 = make_prekey(
            rig.suite, rig.coordinator_key, rig.certificates[d], rig.round_id, rig.entropy
        )
        boxes[i] = Box(rig.suite, secret)
        members.append(dataclasses.replace(rig.manifest.members[i], encoded=m0))
    with pytest.raises(PeerProtocolError, match="not valid: prekey"):
        contribute_under(rig, tuple(members))
    monkeypatch.setattr("mimo_fed.secagg.identity.verify", strawmen.accepts_unsigned_prekeys)
    inputs = contribute_under(rig, tuple(members))
    assert is_vector_of(rig, inputs, rig.ids[0], strawmen.collude(rig, boxes, rig.ids[0]))


def test_unsigned_contributions_let_the_coordinator_play_everybody_but_the_victim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(4, SUMS, suite=REFERENCE, n_min=4)
    inputs, victim, zeros = rig.random_inputs(1), rig.ids[0], {"a": np.zeros(40, np.uint32)}
    played = {d: Dealer(rig, d, zeros).m2(rig.coordinator_key) for d in rig.ids[1:]}
    with pytest.raises(PeerProtocolError, match="not valid: contribution"):
        rig.coordinator.add(played[rig.ids[1]])
    monkeypatch.setattr("mimo_fed.secagg.intake.verify", strawmen.accepts_unsigned_contributions)
    rig.coordinator.add(rig.m2(victim, inputs[victim]))
    for m2 in played.values():
        rig.coordinator.add(m2)
    rig.coordinator.close()
    assert is_vector_of(rig, inputs, victim, rig.finish().sums["a"].total_D)


def test_seals_without_a_sender_let_colluders_drown_the_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """They repeat the victim's message under their own names: seven times its weight, and one other's.

    The proof of the shares stands in the way as well: here it is left out too.
    """
    for module in ("contribute", "shares"):
        code = sys.modules[f"mimo_fed.secagg.{module}"]
        monkeypatch.setattr(code, "seal_context", strawmen.context_without_sender)
    monkeypatch.setattr("mimo_fed.secagg.shares.check_shares", strawmen.accepts_shares)
    rig = Rig(8, {"a": 3}, suite=REFERENCE, n_min=8)
    victim, other = np.array([3, 1, 4], np.uint32), np.array([5, 6, 2], np.uint32)
    message = rig.m2(rig.ids[0], {"a": victim})
    rig.coordinator.add(message)
    rig.coordinator.add(rig.m2(rig.ids[1], {"a": other}))
    for d in rig.ids[2:]:
        rig.coordinator.add(copied(rig, d, message))
    rig.coordinator.close()
    assert np.array_equal(rig.finish().sums["a"].total_D // 7, victim)


def test_groups_that_a_contributor_chooses_let_one_device_spoil_the_robust_mean() -> None:
    """In a manifest without groups it may give to all five sums; in one with groups, to one."""
    names = [f"group-{g}" for g in range(1, 6)]
    ids = [f"device-{i:02d}" for i in range(10)]
    groups = assign_groups(ids, Rig(3, SUMS).manifest.beacon, 5)

    def mean(chosen: tuple[SumSpec, ...], liars_sums: Sequence[str]) -> float:
        rig = Rig(10, chosen, suite=REFERENCE)
        small, large = np.ones(1, np.uint32), np.full(1, 10_000, np.uint32)
        inputs = {d: {f"group-{groups[d]}": small} for d in rig.ids}
        inputs[rig.ids[0]] = dict.fromkeys(liars_sums, large)
        rig.gather(inputs)
        sums = rig.finish().sums
        means = [sums[name].total_D / sums[name].num_devices for name in names]
        return float(robust_mean(means, [1.0] * 5, "trimmed")[0])

    free = tuple(SumSpec(name=name, dim=1, n_min=2) for name in names)
    bound = tuple(SumSpec(name=name, dim=1, n_min=2, group=g) for g, name in enumerate(names, 1))
    assert mean(free, names) > 3000
    assert mean(bound, [f"group-{groups['device-00']}"]) == 1
