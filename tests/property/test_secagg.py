"""Any round gives the sum within its bound or a typed abort; any spoiled byte is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mimo_fed.errors import PeerProtocolError, RoundAborted
from mimo_fed.secagg import HELPER_SIZES, HYBRID, REFERENCE, Certificate, Mode, committee_rule
from mimo_fed.secagg.messages import Ballot, Header, decode_quorum
from mimo_fed.secagg.words import error_bound
from tests.unit.secagg.playing import KINDS, played, receiver
from tests.unit.secagg.rig import Rig, plain_sum

QUICK = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
SPOILED = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
COMMITTEES: list[tuple[Mode, int]] = [("all", 0), *(("helper", size) for size in HELPER_SIZES)]


@QUICK
@given(
    n=st.integers(3, 8),
    dims=st.lists(st.integers(1, 5000), min_size=1, max_size=3),
    word_bits=st.sampled_from([16, 24]),
    committee=st.sampled_from(COMMITTEES),
    data=st.data(),
)
def test_a_round_with_tolerated_losses_gives_the_sum(
    n: int, dims: list[int], word_bits: int, committee: tuple[Mode, int], data: st.DataObject
) -> None:
    mode, helpers = committee
    sums = {f"s{i}": dim for i, dim in enumerate(dims)}
    rig = Rig(n, sums, word_bits=word_bits, n_min=1, mode=mode, helpers=helpers)
    inputs = rig.random_inputs(data.draw(st.integers(0, 1000)))
    order = data.draw(st.permutations(rig.ids))
    rig.gather({d: inputs[d] for d in order})
    members = data.draw(st.permutations(sorted(rig.member_ids)))
    result = rig.finish(members[data.draw(st.integers(0, rig.manifest.committee.losses)) :])
    assert result.survivors == tuple(rig.ids)
    for name, opened in result.sums.items():
        error = np.abs(opened.total_D - plain_sum(v[name] for v in inputs.values()))
        assert error.max() <= error_bound(n, word_bits)


@QUICK
@given(n=st.integers(3, 8), data=st.data())
def test_one_loss_more_than_tolerated_aborts_the_round(n: int, data: st.DataObject) -> None:
    rig = Rig(n, {"a": 10}, n_min=1)
    rig.gather(rig.random_inputs(0))
    order = data.draw(st.permutations(rig.ids))
    rig.check_shares(order)
    rig.vote(order)
    rig.open(order[n - committee_rule("all", n).threshold + 1 :])
    with pytest.raises(RoundAborted):
        rig.coordinator.result()


@QUICK
@given(n=st.integers(3, 6), seed=st.integers(0, 1000), data=st.data())
def test_each_sum_is_that_of_the_devices_that_gave_to_it(n: int, seed: int, data: st.DataObject) -> None:
    rig = Rig(n, {"a": 7, "b": 70, "c": 7}, n_min=2, suite=REFERENCE)
    inputs = rig.random_inputs(seed)
    for d in rig.ids:
        chosen = data.draw(st.sets(st.sampled_from("abc"), min_size=1))
        inputs[d] = {name: v for name, v in inputs[d].items() if name in chosen}
    rig.gather(inputs)
    givers = {name: tuple(d for d in rig.ids if name in inputs[d]) for name in "abc"}
    if all(len(devices) < 2 for devices in givers.values()):
        rig.check_shares()
        with pytest.raises(RoundAborted, match="no sum has enough survivors"):
            rig.coordinator.ballot()
        return
    result = rig.finish()
    for name, devices in givers.items():
        assert (name in result.closed) is (len(devices) < 2)
        if name in result.sums:
            assert result.sums[name].devices == devices
            expected = plain_sum(inputs[d][name] for d in devices)
            assert np.array_equal(result.sums[name].total_D, expected)


@pytest.mark.parametrize("mode", ["all", "helper"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_good_message_is_taken(kind: str, mode: Mode) -> None:
    rig, kept = played(mode)
    receiver(rig, kept, kind)(kept[kind])


@pytest.mark.parametrize("kind", KINDS)
@SPOILED
@given(data=st.data())
def test_a_spoiled_message_is_refused(kind: str, data: st.DataObject) -> None:
    mode: Mode = data.draw(st.sampled_from(["all", "helper"]), label="mode")
    rig, kept = played(mode)
    good = kept[kind]
    at = data.draw(st.integers(0, len(good) - 1), label="at")
    how = data.draw(st.sampled_from(["flip", "cut", "extend", "insert"]), label="how")
    byte = bytes([data.draw(st.integers(1, 255), label="byte")])
    spoiled = {
        "flip": good[:at] + bytes([good[at] ^ byte[0]]) + good[at + 1 :],
        "cut": good[:at],
        "extend": good + byte,
        "insert": good[:at] + byte + good[at:],
    }[how]
    with pytest.raises(PeerProtocolError):
        receiver(rig, kept, kind)(spoiled)


@pytest.mark.parametrize("kind", ["contribution", "prekey", "manifest"])
@SPOILED
@given(at=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_in_the_hybrid_suite_too(kind: str, at: int, bit: int) -> None:
    rig, kept = played("helper", "round-1", HYBRID)
    good = bytearray(kept[kind])
    good[at % len(good)] ^= 1 << bit
    with pytest.raises(PeerProtocolError):
        receiver(rig, kept, kind)(bytes(good))


@pytest.mark.parametrize("kind", ["certificate", "vote", "quorum", "hello", "complaints"])
def test_every_single_byte_of_a_short_message_counts(kind: str) -> None:
    rig, kept = played()
    take, good = receiver(rig, kept, kind), kept[kind]
    for at in range(len(good)):
        with pytest.raises(PeerProtocolError):
            take(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(PeerProtocolError):
            take(good[:at])


@SPOILED
@given(junk=st.binary(max_size=300))
def test_junk_is_refused_everywhere(junk: bytes) -> None:
    rig, kept = played()
    for kind in KINDS:
        with pytest.raises(PeerProtocolError):
            receiver(rig, kept, kind)(junk)


@SPOILED
@given(data=st.data())
def test_what_a_decoder_takes_is_what_its_encoder_writes(data: st.DataObject) -> None:
    """Without signatures: a spoiled body is refused, or is the one encoding of another value."""
    rig, kept = played()
    header = rig.coordinator._contributions[rig.ids[0]].encoded
    kind = data.draw(st.sampled_from(["certificate", "header", "ballot", "quorum"]))
    good = bytearray({**kept, "header": header}[kind])
    for _ in range(data.draw(st.integers(0, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    body = bytes(good)
    try:
        again = {
            "certificate": lambda: Certificate.decode(body).encode(),
            "header": lambda: Header.decode(body, rig.signed).encode(rig.signed.mh),
            "ballot": lambda: Ballot.decode(body, rig.signed).encode(rig.signed.mh),
            "quorum": lambda: body if decode_quorum(body, rig.signed) else b"",
        }[kind]()
    except PeerProtocolError:
        return
    assert again == body
