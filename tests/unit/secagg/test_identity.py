"""Certificates, anchors, hello and prekey."""

from __future__ import annotations

import json

import pytest

from mimo_fed.codec import Writer
from mimo_fed.errors import ConfigError, LocalProtocolError, PeerProtocolError
from mimo_fed.secagg import (
    CLASSIC,
    HYBRID,
    SUITES,
    Anchors,
    Certificate,
    SigningKey,
    check_name,
    issue_certificate,
    make_hello,
    make_prekey,
    verify_hello,
    verify_prekey,
)
from tests.unit.secagg.rig import NOW_S, SeededEntropy

ENTROPY = SeededEntropy("identity")
AUTHORITY, KEY = SigningKey.generate(ENTROPY), SigningKey.generate(ENTROPY)
ANCHORS = Anchors(SigningKey.generate(ENTROPY).public_key, AUTHORITY.public_key, frozenset({9}))


def certificate(serial: int = 1, device_id: str = "fridge") -> Certificate:
    return issue_certificate(
        AUTHORITY,
        device_id=device_id,
        public_key=KEY.public_key,
        serial=serial,
        not_before_s=NOW_S,
        not_after_s=NOW_S + 10,
    )


def test_a_certificate_survives_its_bytes_and_is_accepted() -> None:
    mine = certificate()
    assert Certificate.decode(mine.encode()) == mine
    ANCHORS.check(mine, NOW_S)


@pytest.mark.parametrize("now_s", [NOW_S - 1, NOW_S + 11])
def test_a_certificate_out_of_force_is_refused(now_s: int) -> None:
    with pytest.raises(PeerProtocolError, match="not in force: fridge"):
        ANCHORS.check(certificate(), now_s)


@pytest.mark.parametrize("now_s", [NOW_S, NOW_S + 10])
def test_a_certificate_is_in_force_on_its_first_and_last_second(now_s: int) -> None:
    ANCHORS.check(certificate(), now_s)


def test_a_revoked_certificate_is_refused() -> None:
    with pytest.raises(PeerProtocolError, match="revoked"):
        ANCHORS.check(certificate(serial=9), NOW_S)


@pytest.mark.parametrize("device_id", ["", "../etc", ".hidden", "a b", "x" * 65, "a\n"])
def test_a_device_id_must_be_safe_as_a_file_name(device_id: str) -> None:
    with pytest.raises(PeerProtocolError):
        certificate(device_id=device_id)


def test_a_name_that_keeps_to_the_rule_comes_back() -> None:
    assert check_name("a" * 64, "sum") == "a" * 64


def test_a_key_of_another_length_is_not_certified() -> None:
    with pytest.raises(LocalProtocolError):
        issue_certificate(AUTHORITY, device_id="a", public_key=b"x", serial=1, not_before_s=0, not_after_s=1)


@pytest.mark.parametrize(
    "anchors",
    [
        ANCHORS,
        Anchors(b"c" * 32, b"a" * 32, helpers=frozenset(bytes([i]) * 32 for i in range(3)), population=900),
    ],
)
def test_anchors_survive_their_json(anchors: Anchors) -> None:
    assert Anchors.from_json(anchors.to_json()) == anchors


def test_anchors_of_an_older_file_pin_nobody_and_draw_no_lots() -> None:
    older = json.dumps({"coordinator": "aa" * 32, "authority": "bb" * 32, "revoked": [3]}).encode()
    assert Anchors.from_json(older) == Anchors(b"\xaa" * 32, b"\xbb" * 32, frozenset({3}))


def changed_anchors(**changes: object) -> bytes:
    return json.dumps({**json.loads(ANCHORS.to_json()), **changes}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        changed_anchors(coordinator="00"),
        changed_anchors(helpers=["00"]),
        changed_anchors(helpers=[3]),
        changed_anchors(population=-1),
        changed_anchors(population="many"),
        changed_anchors(revoked=["x"]),
    ],
)
def test_other_anchors_are_refused(data: bytes) -> None:
    with pytest.raises(ConfigError):
        Anchors.from_json(data)


def test_a_hello_answers_one_nonce() -> None:
    hello = make_hello(KEY, certificate(), b"n" * 32)
    assert verify_hello(hello, b"n" * 32, ANCHORS, NOW_S).device_id == "fridge"
    with pytest.raises(PeerProtocolError):
        verify_hello(hello, b"m" * 32, ANCHORS, NOW_S)
    with pytest.raises(PeerProtocolError):
        verify_hello(hello + b"x", b"n" * 32, ANCHORS, NOW_S)


@pytest.mark.parametrize(
    ("spoken", "named"),
    [
        (b"mimo-fed/3", "mimo-fed/3"),
        (b"mimo-fed/1234567", "mimo-fed/1"),
        (certificate().encode(), "mimo-fed/1"),
    ],
)
def test_an_agent_of_another_version_is_told_so(spoken: bytes, named: str) -> None:
    """Version 1 had the certificate where the version now stands."""
    body = Writer().text("hello").blob(spoken).blob(certificate().encode()).bytes()
    with pytest.raises(PeerProtocolError, match=f"mimo-fed/2: {named}") as caught:
        verify_hello(body + KEY.sign("hello", body), b"", ANCHORS, NOW_S)
    assert "update the older" in caught.value.hint


@pytest.mark.parametrize("suite", SUITES)
def test_a_prekey_is_for_one_round_and_suite(suite: str) -> None:
    _, m0 = make_prekey(suite, KEY, certificate(), "round-1", ENTROPY)
    prekey = verify_prekey(m0, ANCHORS, suite, "round-1", NOW_S)
    assert (prekey.device_id, prekey.encoded) == ("fridge", m0)
    with pytest.raises(PeerProtocolError, match="another round"):
        verify_prekey(m0, ANCHORS, suite, "round-2", NOW_S)
    for other in {*SUITES, "mimo-fed/0"} - {suite}:
        with pytest.raises(PeerProtocolError, match="another suite"):
            verify_prekey(m0, ANCHORS, other, "round-1", NOW_S)


def test_a_prekey_of_an_unknown_suite_is_refused_though_it_was_asked_for() -> None:
    body = Writer().text("prekey").text("none").text("round-1").blob(certificate().encode()).blob(b"").bytes()
    with pytest.raises(PeerProtocolError, match="another suite: 'none'"):
        verify_prekey(body + KEY.sign("prekey", body), ANCHORS, "none", "round-1", NOW_S)


def test_a_prekey_of_another_length_is_refused() -> None:
    writer = Writer().text("prekey").text(HYBRID).text("round-1").blob(certificate().encode())
    body = writer.blob(bytes(32)).bytes()
    with pytest.raises(PeerProtocolError, match="another length: 32 bytes"):
        verify_prekey(body + KEY.sign("prekey", body), ANCHORS, HYBRID, "round-1", NOW_S)


def test_a_message_is_not_taken_for_another_kind() -> None:
    _, m0 = make_prekey(CLASSIC, KEY, certificate(), "round-1", ENTROPY)
    with pytest.raises(PeerProtocolError):
        verify_hello(m0, b"", ANCHORS, NOW_S)
    with pytest.raises(PeerProtocolError):
        verify_prekey(make_hello(KEY, certificate(), b""), ANCHORS, CLASSIC, "round-1", NOW_S)
    with pytest.raises(PeerProtocolError):
        Certificate.decode(m0)
