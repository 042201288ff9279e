"""Certificates, anchors, hello and prekey."""

from __future__ import annotations

import pytest

from mimo_fed.errors import ConfigError, LocalProtocolError, PeerProtocolError
from mimo_fed.secagg import (
    Anchors,
    Certificate,
    SigningKey,
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


def test_a_revoked_certificate_is_refused() -> None:
    with pytest.raises(PeerProtocolError, match="revoked"):
        ANCHORS.check(certificate(serial=9), NOW_S)


@pytest.mark.parametrize("device_id", ["", "../etc", ".hidden", "a b", "x" * 65])
def test_a_device_id_must_be_safe_as_a_file_name(device_id: str) -> None:
    with pytest.raises(PeerProtocolError):
        certificate(device_id=device_id)


def test_a_key_of_another_length_is_not_certified() -> None:
    with pytest.raises(LocalProtocolError):
        issue_certificate(AUTHORITY, device_id="a", public_key=b"x", serial=1, not_before_s=0, not_after_s=1)


def test_anchors_survive_their_json() -> None:
    assert Anchors.from_json(ANCHORS.to_json()) == ANCHORS


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"coordinator":"00","authority":"00","revoked":[]}', b"\xff"]
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


def test_a_prekey_is_for_one_round() -> None:
    _, m0 = make_prekey(KEY, certificate(), "round-1", ENTROPY)
    prekey = verify_prekey(m0, ANCHORS, "round-1", NOW_S)
    assert (prekey.device_id, prekey.encoded) == ("fridge", m0)
    with pytest.raises(PeerProtocolError, match="another round"):
        verify_prekey(m0, ANCHORS, "round-2", NOW_S)


def test_a_message_is_not_taken_for_another_kind() -> None:
    _, m0 = make_prekey(KEY, certificate(), "round-1", ENTROPY)
    with pytest.raises(PeerProtocolError):
        verify_hello(m0, b"", ANCHORS, NOW_S)
    with pytest.raises(PeerProtocolError):
        verify_prekey(make_hello(KEY, certificate(), b""), ANCHORS, "round-1", NOW_S)
    with pytest.raises(PeerProtocolError):
        Certificate.decode(m0)
