"""The network: it repeats, delays, mixes up and plays back messages, and that changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg import REFERENCE, Coordinator, MemorySpool
from tests.unit.secagg.playing import KINDS, played, receiver
from tests.unit.secagg.rig import Rig, plain_sum

TIMELESS = ("certificate", "hello", "manifest", "evidence")
"""bound to a nonce, a device or nothing: their replay is judged above this layer"""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in TIMELESS])
def test_a_message_of_another_round_played_back(kind: str) -> None:
    rig, kept = played("all", "round-2")
    _, old = played("all", "round-1")
    with pytest.raises(PeerProtocolError, match="another round"):
        receiver(rig, kept, kind)(old[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_delivered_as_one_of_another_kind(kind: str) -> None:
    rig, kept = played()
    take = receiver(rig, kept, kind)
    for other in set(KINDS) - {kind}:
        with pytest.raises(PeerProtocolError):
            take(kept[other])


def test_every_message_many_times_gives_the_sum_once() -> None:
    rig = Rig(4, {"a": 40}, suite=REFERENCE)
    inputs, coordinator = rig.random_inputs(1), rig.coordinator
    for m2 in [rig.m2(d, inputs[d]) for d in rig.ids]:
        for _ in range(3):
            coordinator.add(m2)
    coordinator.close()
    for _ in range(3):
        rig.check_shares()
    for _ in range(3):
        rig.vote()
    for _ in range(3):
        rig.open()
    total = coordinator.result().sums["a"].total_D
    assert np.array_equal(total, plain_sum(v["a"] for v in inputs.values()))


def test_contributions_in_any_order_make_the_same_session() -> None:
    rig = Rig(4, {"a": 40}, suite=REFERENCE)
    inputs = rig.random_inputs(1)
    m2s = [rig.m2(d, inputs[d]) for d in rig.ids]
    requests = set()
    for order in (m2s, m2s[::-1], [*m2s[2:], *m2s[:2]]):
        coordinator = Coordinator(rig.signed, rig.anchors, MemorySpool())
        for m2 in order:
            coordinator.add(m2)
        coordinator.close()
        requests.add(coordinator.share_request(rig.ids[0]))
    assert len(requests) == 1


def test_messages_that_come_too_late() -> None:
    """A vote after the quorum and an opening after the result change nothing that was said."""
    rig = Rig(8, {"a": 40}, suite=REFERENCE)
    inputs = rig.random_inputs(1)
    rig.gather(inputs)
    rig.check_shares()
    rig.vote(rig.ids[:6])
    certificate = rig.coordinator.quorum_certificate()
    rig.vote(rig.ids[6:])
    assert rig.coordinator.quorum_certificate() == certificate
    rig.open(rig.ids[:6])
    result = rig.coordinator.result()
    rig.open(rig.ids[6:])
    assert rig.coordinator.result() is result


def test_a_contribution_that_is_too_late_is_not_in_the_sum() -> None:
    rig = Rig(4, {"a": 40}, suite=REFERENCE)
    inputs = rig.random_inputs(1)
    late = rig.m2(rig.ids[3], inputs[rig.ids[3]])
    rig.gather({d: inputs[d] for d in rig.ids[:3]})
    with pytest.raises(PeerProtocolError, match="too late: device-03"):
        rig.coordinator.add(late)
    result = rig.finish()
    assert result.survivors == tuple(rig.ids[:3])
    assert np.array_equal(result.sums["a"].total_D, plain_sum(inputs[d]["a"] for d in rig.ids[:3]))


def test_shares_delivered_to_the_wrong_member() -> None:
    rig = Rig(4, {"a": 40})
    rig.gather(rig.random_inputs(1))
    with pytest.raises(PeerProtocolError, match="not under its signed root"):
        rig.members[rig.ids[0]].receive(rig.coordinator.share_request(rig.ids[1]), rig.anchors)
    rig.finish()
    assert rig.coordinator.result().accused == ()
