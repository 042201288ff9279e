"""Keys, seals and streams."""

from __future__ import annotations

import pytest

from mimo_fed.errors import LocalProtocolError, PeerProtocolError
from mimo_fed.secagg import CLASSIC, HYBRID, REFERENCE, SUITES, SigningKey, open_file, seal_file, verify
from mimo_fed.secagg.crypto import (
    Box,
    Keystream,
    derive,
    digest,
    digest_of,
    public_bytes,
    seal,
    sealed_bytes,
    tagged,
)
from tests.unit.secagg.rig import SeededEntropy


def test_a_signature_holds_in_its_domain_alone() -> None:
    key = SigningKey.generate(SeededEntropy("key"))
    signature = key.sign("vote", b"message")
    verify(key.public_key, "vote", b"message", signature)
    for domain, message in (("opening", b"message"), ("vote", b"other")):
        with pytest.raises(PeerProtocolError):
            verify(key.public_key, domain, message, signature)


def test_bytes_that_are_no_key_verify_nothing() -> None:
    for key in (b"", b"short", b"\xff" * 32):
        with pytest.raises(PeerProtocolError, match="signature is not valid: vote"):
            verify(key, "vote", b"message", bytes(64))


def test_a_key_survives_its_bytes_and_shows_none_of_them() -> None:
    key = SigningKey.generate(SeededEntropy("key"))
    assert SigningKey.from_bytes(key.to_bytes()).public_key == key.public_key
    assert key.to_bytes().hex() not in repr(key)
    assert repr(key) == "SigningKey(...)"


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        SigningKey.from_bytes(b"short")


@pytest.mark.parametrize("suite", SUITES)
def test_a_seal_opens_for_its_owner_and_context_alone(suite: str) -> None:
    mine, other = (Box.generate(suite, SeededEntropy(name)) for name in "ab")
    sealed = seal(suite, mine.public, b"context", b"shares")
    assert len(sealed) == sealed_bytes(suite, len(b"shares"))
    assert mine.unseal(b"context", sealed) == b"shares"
    for box, info, data in (
        (other, b"context", sealed),
        (mine, b"another", sealed),
        (mine, b"context", sealed[:-1]),
        (mine, b"context", sealed[:-1] + bytes([sealed[-1] ^ 1])),
        (mine, b"context", bytes([sealed[0] ^ 1]) + sealed[1:]),
        (mine, b"context", b""),
    ):
        with pytest.raises(PeerProtocolError):
            box.unseal(info, data)


def test_a_hybrid_seal_needs_both_halves_of_the_secret() -> None:
    """Whoever has the curve's half alone, or the lattice's alone, opens nothing."""
    mine, other = (Box.generate(HYBRID, SeededEntropy(name)) for name in "ab")
    sealed = seal(HYBRID, mine.public, b"", b"shares")
    assert Box(HYBRID, mine.secret).unseal(b"", sealed) == b"shares"
    for secret in (other.secret[:-32] + mine.secret[-32:], mine.secret[:-32] + other.secret[-32:]):
        with pytest.raises(PeerProtocolError):
            Box(HYBRID, secret).unseal(b"", sealed)


@pytest.mark.parametrize("suite", SUITES)
def test_a_box_has_the_length_of_its_suite_and_no_repr(suite: str) -> None:
    box = Box.generate(suite, SeededEntropy("box"))
    assert len(box.public) == public_bytes(suite)
    assert repr(box) == "Box(...)"
    with pytest.raises(LocalProtocolError, match="another length: 7 bytes"):
        Box(suite, bytes(7))


@pytest.mark.parametrize("suite", SUITES)
def test_sealing_for_bytes_that_are_no_key_is_refused(suite: str) -> None:
    for public in (b"\x00" * 7, b"\xff" * (public_bytes(suite) - 32) + bytes(32)):
        with pytest.raises(PeerProtocolError, match="not a key"):
            seal(suite, public, b"", b"")


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


def test_a_hash_in_parts_is_the_hash_of_the_whole() -> None:
    assert digest_of("words", [b"ab", memoryview(b"c")]) == digest("words", b"abc")
    assert digest("words", b"abc") != digest("leaf", b"abc")


def test_certificates_and_files_keep_the_tag_of_the_version_they_were_made_in() -> None:
    assert tagged("certificate", b"x") == b"mimo-fed/1/certificate\0x"
    assert tagged("file", b"x") == b"mimo-fed/1/file\0x"
    assert tagged("vote", b"x") == b"mimo-fed/2/vote\0x"


def test_suites_have_distinct_names() -> None:
    assert len({HYBRID, CLASSIC, REFERENCE}) == len(SUITES) == 3
