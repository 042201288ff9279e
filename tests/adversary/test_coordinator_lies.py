"""A coordinator that wants to see one device's update: no second ballot, no second set, no smaller one."""

from __future__ import annotations

import dataclasses

import pytest

from mimo_fed.codec import Writer
from mimo_fed.errors import PeerProtocolError, RoundAborted
from mimo_fed.secagg import Coordinator, verify_evidence
from mimo_fed.secagg.evidence import encode_evidence
from mimo_fed.secagg.messages import Ballot, ballot_digest, encode_quorum, vote_body
from tests.adversary.forge import (
    Dealer,
    ballot_of,
    complaints_of,
    entries_of,
    gathered_rig,
    vote_of,
    voting_rig,
)
from tests.unit.secagg.rig import Rig


def shrunk(rig: Rig, count: int) -> bytes:
    """A ballot with only the first `count` survivors."""
    return ballot_of(rig, entries_of(rig)[:count])


def refuse_ballot(rig: Rig, ballot: bytes, reason: str) -> None:
    """The first member refuses, and would still vote for the honest ballot."""
    member = rig.members[rig.member_ids[0]]
    before = member.to_bytes()
    with pytest.raises(PeerProtocolError, match=reason):
        member.vote(ballot)
    assert member.to_bytes() == before
    member.vote(rig.coordinator.ballot())


def test_a_ballot_below_n_min() -> None:
    rig = voting_rig(n_min=3)
    refuse_ballot(rig, shrunk(rig, 2), "survivors of a not within 3 and 4: 2")


def test_a_ballot_of_one_device() -> None:
    rig = voting_rig(n_min=2)
    refuse_ballot(rig, shrunk(rig, 1), "not within 2 and 4: 1")


def test_a_ballot_above_n_max() -> None:
    """A coordinator that took more than it may: sums of more devices could wrap."""
    rig = Rig(4, {"a": 40}, n_max=3)
    generous = dataclasses.replace(rig.signed, manifest=dataclasses.replace(rig.manifest, n_max=4))
    rig.coordinator = Coordinator(generous, rig.anchors, rig.spool)
    rig.gather(rig.random_inputs(1))
    rig.check_shares()
    with pytest.raises(PeerProtocolError, match="not within 2 and 3: 4"):
        rig.members[rig.ids[0]].vote(rig.coordinator.ballot())


@pytest.mark.parametrize("opened", [0, 2, 3, 1 << 63])
def test_a_ballot_that_opens_nothing_or_a_sum_that_is_not_there(opened: int) -> None:
    rig = voting_rig()
    reason = "opens nothing, or a sum that is not there"
    refuse_ballot(rig, ballot_of(rig, entries_of(rig), opened), reason)


@pytest.mark.parametrize("change", [{"contribution": bytes(32)}, {"rank": 16}, {"sums": 3}])
def test_a_ballot_with_another_contribution_rank_or_set_of_sums(change: dict[str, object]) -> None:
    rig = voting_rig()
    first, *rest = entries_of(rig)
    forged = dataclasses.replace(first, **change)  # type: ignore[arg-type]
    refuse_ballot(rig, ballot_of(rig, [forged, *rest]), "another contribution of device-00")


def test_a_survivor_named_twice() -> None:
    rig = voting_rig(n_min=4)
    first, second, third, _ = entries_of(rig)
    refuse_ballot(rig, ballot_of(rig, [first, second, third, third]), "not distinct and in order")


def test_a_survivor_that_gave_nothing() -> None:
    rig = voting_rig()
    stranger = dataclasses.replace(entries_of(rig)[3], device_id="stranger")
    refuse_ballot(rig, ballot_of(rig, [*entries_of(rig), stranger]), "not within 2 and 4: 5")
    rig = voting_rig()
    refuse_ballot(rig, ballot_of(rig, [*entries_of(rig)[:3], stranger]), "no good shares from stranger")


def test_an_accused_contributor_put_back_among_the_survivors() -> None:
    rig = Rig(4, {"a": 40})
    liar = Dealer(rig, rig.ids[3], rig.random_inputs(0)[rig.ids[3]])
    liar.rows[0, 0] ^= 1
    inputs = rig.random_inputs(0)
    for d in rig.ids[:3]:
        rig.coordinator.add(rig.m2(d, inputs[d]))
    rig.coordinator.add(liar.m2())
    rig.coordinator.close()
    rig.check_shares()
    refuse_ballot(rig, ballot_of(rig, entries_of(rig)), "no good shares from device-03")


def test_survivors_chosen_sum_by_sum() -> None:
    """To open a with the victim and b without it, a ballot must state what its contribution does not say."""
    rig = voting_rig(sums={"a": 40, "b": 40})
    *rest, victim = entries_of(rig)
    assert victim.sums == 3
    for sums in (1, 2, 0):
        forged = dataclasses.replace(victim, sums=sums)
        refuse_ballot(rig, ballot_of(rig, [*rest, forged], 3), "another contribution of device-03")
        rig = voting_rig(sums={"a": 40, "b": 40})
        *rest, victim = entries_of(rig)
    without = Ballot.decode(ballot_of(rig, rest, 3), rig.signed)
    assert without.entries(0) == without.entries(1) == tuple(rest)


def test_survivors_shown_differently_to_different_members() -> None:
    """U to some, U minus a victim to others: no two ballots both gather a quorum of honest votes."""
    rig = voting_rig()
    whole, without_victim = rig.coordinator.ballot(), shrunk(rig, 3)
    for d in rig.ids[:2]:
        rig.members[d].vote(whole)
    votes = {i: rig.members[rig.ids[i]].vote(without_victim)[-64:] for i in (2, 3)}
    forged = encode_quorum(rig.signed.mh, ballot_digest(without_victim), votes)
    with pytest.raises(PeerProtocolError, match="too few votes, 3: 2"):
        rig.members[rig.ids[3]].open(forged)


def test_as_many_corrupt_members_as_are_allowed_vote_for_both_ballots() -> None:
    """With f = 3 of 8 on its side, the coordinator gathers one quorum of 6 and not two."""
    rig = voting_rig(8)
    corrupt, honest = rig.ids[:3], rig.ids[3:]
    assert len(corrupt) == rig.manifest.committee.corrupt
    whole, without_victim = rig.coordinator.ballot(), shrunk(rig, 7)
    votes = {
        name: {i: vote_of(rig, i, ballot_digest(name))[-64:] for i in range(3)}
        for name in (whole, without_victim)
    }
    for d in honest[:3]:
        votes[whole][rig.ids.index(d)] = rig.members[d].vote(whole)[-64:]
    for d in honest[3:]:
        votes[without_victim][rig.ids.index(d)] = rig.members[d].vote(without_victim)[-64:]
    rig.members[honest[0]].open(encode_quorum(rig.signed.mh, ballot_digest(whole), votes[whole]))
    second = encode_quorum(rig.signed.mh, ballot_digest(without_victim), votes[without_victim])
    for d in honest:
        with pytest.raises(PeerProtocolError, match="too few votes, 6: 5"):
            rig.members[d].open(second)


def test_a_second_ballot_for_the_same_member() -> None:
    rig = voting_rig()
    member = rig.members[rig.ids[0]]
    vote = member.vote(rig.coordinator.ballot())
    with pytest.raises(PeerProtocolError, match="voted for another"):
        member.vote(shrunk(rig, 3))
    assert member.vote(rig.coordinator.ballot()) == vote


def test_a_second_opening_of_a_smaller_set() -> None:
    rig = voting_rig()
    rig.vote()
    rig.open()
    smaller = ballot_digest(shrunk(rig, 3))
    votes = {i: vote_of(rig, i, smaller)[-64:] for i in range(4)}
    with pytest.raises(PeerProtocolError, match="voted for another ballot"):
        rig.members[rig.ids[0]].open(encode_quorum(rig.signed.mh, smaller, votes))


def test_an_opening_before_the_vote() -> None:
    rig = voting_rig()
    rig.vote(rig.ids[1:])
    with pytest.raises(PeerProtocolError, match="came before the ballot"):
        rig.members[rig.ids[0]].open(rig.coordinator.quorum_certificate())


# The quorum certificate


def test_a_certificate_of_forged_votes() -> None:
    rig = voting_rig()
    ballot = rig.coordinator.ballot()
    own = rig.members[rig.ids[0]].vote(ballot)[-64:]
    mh, name = rig.signed.mh, ballot_digest(ballot)
    for votes in (
        {0: own, 1: own, 2: own},
        {i: rig.coordinator_key.sign("vote", vote_body(mh, i, name)) for i in range(3)},
        {i: bytes(64) for i in range(4)},
    ):
        with pytest.raises(PeerProtocolError, match="signature is not valid: vote"):
            rig.members[rig.ids[0]].open(encode_quorum(mh, name, votes))


def test_one_vote_counted_several_times_or_in_any_order() -> None:
    rig = voting_rig()
    ballot = rig.coordinator.ballot()
    votes = {i: rig.members[d].vote(ballot)[-64:] for i, d in enumerate(rig.ids)}
    head = Writer().text("quorum").raw(rig.signed.mh).raw(ballot_digest(ballot)).u16(3).bytes()
    for voters in ((0, 0, 0), (1, 0, 2), (0, 1, 4)):
        body = b"".join(Writer().u16(i).raw(votes[min(i, 3)]).bytes() for i in voters)
        with pytest.raises(PeerProtocolError, match="not distinct members, in order"):
            rig.members[rig.ids[0]].open(head + body)


def test_more_votes_than_a_committee_can_have() -> None:
    rig = voting_rig()
    ballot = rig.coordinator.ballot()
    rig.vote()
    body = Writer().text("quorum").raw(rig.signed.mh).raw(ballot_digest(ballot)).u16(65).raw(bytes(66 * 65))
    with pytest.raises(PeerProtocolError, match="more votes than a committee has members: 65"):
        rig.members[rig.ids[0]].open(body.bytes())


def test_opening_answers_used_as_votes() -> None:
    """Each signature holds in the domain of its own kind."""
    rig = voting_rig()
    rig.vote()
    certificate = rig.coordinator.quorum_certificate()
    name = ballot_digest(rig.coordinator.ballot())
    openings = {i: rig.members[d].open(certificate)[-64:] for i, d in enumerate(rig.ids)}
    with pytest.raises(PeerProtocolError, match="signature is not valid: vote"):
        rig.members[rig.ids[0]].open(encode_quorum(rig.signed.mh, name, openings))


def test_shares_ballots_and_certificates_of_another_round_replayed() -> None:
    old, new = voting_rig(), gathered_rig(round_id="round-2", sequence=2)
    member = new.members[new.ids[0]]
    with pytest.raises(PeerProtocolError, match="shares: belongs to another round"):
        member.receive(old.coordinator.share_request(new.ids[0]), new.anchors)
    new.check_shares()
    with pytest.raises(PeerProtocolError, match="ballot: belongs to another round"):
        member.vote(old.coordinator.ballot())
    member.vote(new.coordinator.ballot())
    old.vote()
    with pytest.raises(PeerProtocolError, match="quorum: belongs to another round"):
        member.open(old.coordinator.quorum_certificate())


def test_evidence_that_does_not_fit_together() -> None:
    rig, other = voting_rig(), voting_rig(application=b"other")
    for one in (rig, other):
        one.vote()
        one.open()
    ballot, certificate = rig.coordinator.ballot(), rig.coordinator.quorum_certificate()
    good = rig.coordinator.result().evidence
    assert verify_evidence(good, rig.anchors).survivors == tuple(rig.ids)
    assert good == encode_evidence(rig.signed, ballot, certificate)
    smaller = shrunk(rig, 3)
    for data, reason in (
        (encode_evidence(rig.signed, smaller, certificate), "votes are for another ballot"),
        (encode_evidence(rig.signed, other.coordinator.ballot(), certificate), "another round"),
        (encode_evidence(other.signed, ballot, certificate), "another round"),
        (encode_evidence(rig.signed, ballot, certificate[:-66]), "cut short"),
        (encode_evidence(rig.signed, shrunk(rig, 1), certificate), "not within 2 and 4: 1"),
        (good + b"\0", "left over"),
        (Writer().text("manifest").bytes(), "another kind"),
    ):
        with pytest.raises(PeerProtocolError, match=reason):
            verify_evidence(data, rig.anchors)


def test_evidence_with_votes_of_members_that_have_been_revoked() -> None:
    rig = voting_rig()
    rig.vote()
    rig.open()
    revoked = dataclasses.replace(rig.anchors, revoked=frozenset({rig.certificates[rig.ids[0]].serial}))
    with pytest.raises(PeerProtocolError, match="revoked: device-00"):
        verify_evidence(rig.coordinator.result().evidence, revoked)


# Whom the coordinator cannot remove unseen


def test_a_coordinator_and_its_member_that_accuse_a_victims_company_away() -> None:
    """f members may accuse whom they like: n_min holds, and every accusation stands in the result."""
    rig = gathered_rig(5, n_min=3)
    rig.check_shares(rig.ids[1:])
    rig.coordinator.add_complaints(complaints_of(rig, 0, dict.fromkeys(rig.ids[1:4], 0)))
    with pytest.raises(RoundAborted, match="no sum has enough survivors: 2 devices"):
        rig.coordinator.ballot()
    accused = entries_of(rig)[:2]
    with pytest.raises(PeerProtocolError, match="not within 3 and 5: 2"):
        rig.members[rig.ids[1]].vote(ballot_of(rig, accused))
