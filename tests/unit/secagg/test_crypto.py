"""Keys, seals and streams."""

from __future__ import annotations

import pytest

from mimo_fed.errors import LocalProtocolError, PeerProtocolError
from mimo_fed.secagg import SigningKey, open_file, seal_file, verify
from mimo_fed.secagg.crypto import Keystream, derive, make_box, seal, unseal
from tests.unit.secagg.rig import SeededEntropy


def test_a_signature_holds_in_its_domain_alone() -> None:
    key = SigningKey.generate(SeededEntropy("key"))
    signature = key.sign("vote", b"message")
    verify(key.public_key, "vote", b"message", signature)
    for domain, message in (("opening", b"message"), ("vote", b"other")):
        with pytest.raises(PeerProtocolError):
            verify(key.public_key, domain, message, signature)


def test_a_key_survives_its_bytes_and_shows_none_of_them() -> None:
    key = SigningKey.generate(SeededEntropy("key"))
    assert SigningKey.from_bytes(key.to_bytes()).public_key == key.public_key
    assert key.to_bytes().hex() not in repr(key)
    assert repr(key) == "SigningKey(...)"


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        SigningKey.from_bytes(b"short")


def test_a_seal_opens_for_its_owner_and_context_alone() -> None:
    secret, public = make_box(SeededEntropy("a"))
    other, _ = make_box(SeededEntropy("b"))
    sealed = seal(public, b"context", b"shares")
    assert unseal(secret, b"context", sealed) == b"shares"
    for key, info, data in (
        (other, b"context", sealed),
        (secret, b"another", sealed),
        (secret, b"context", sealed[:-1]),
        (secret, b"context", sealed[:-1] + bytes([sealed[-1] ^ 1])),
        (secret, b"context", b""),
    ):
        with pytest.raises(PeerProtocolError):
            unseal(key, info, data)


def test_sealing_for_bytes_that_are_no_key_is_refused() -> None:
    with pytest.raises(PeerProtocolError):
        seal(b"\x00" * 7, b"", b"")


def test_a_file_opens_with_its_key_alone() -> None:
    entropy = SeededEntropy("file")
    key = entropy(32)
    sealed = seal_file(key, b"state", entropy)
    assert open_file(key, sealed) == b"state"
    for wrong_key, data in ((bytes(32), sealed), (key, sealed[:-1]), (key, b"")):
        with pytest.raises(LocalProtocolError):
            open_file(wrong_key, data)


def test_a_stream_is_the_same_however_it_is_drawn() -> None:
    whole = Keystream(b"k" * 32, 3).take(600_000)
    parts = Keystream(b"k" * 32, 3)
    # counter mode keeps its place inside a block
    assert whole == b"".join(parts.take(n) for n in (1, 299_999, 300_000))
    assert Keystream(b"k" * 32, 4).take(32) != whole[:32]


def test_derived_keys_differ_by_domain_and_context() -> None:
    assert len({derive(b"k" * 32, d, c) for d in ("a", "b") for c in (b"", b"x")}) == 4
