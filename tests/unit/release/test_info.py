"""Release records: they survive the trip through strings, and nothing else passes for one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from mimo_fed.errors import ReleaseError
from mimo_fed.release import NO_PARENT, ReleaseInfo, adapter_path

DIGEST = hashlib.sha256(b"adapter").hexdigest()
FINGERPRINT = "0123456789abcdef" * 4


def _info() -> ReleaseInfo:
    return ReleaseInfo(
        number=7,
        channel="dev",
        digest=DIGEST,
        length=7,
        base_fingerprint=FINGERPRINT,
        basis_epoch=0,
        spec_digest="5" * 64,
        round_id="round-7",
        parent=NO_PARENT,
        quorum_digest="ab" * 32,
        evidence_digest="cd" * 32,
        evidence_length=9,
        path=adapter_path("dev", FINGERPRINT, 7),
    )


def test_a_record_survives_strings_and_json() -> None:
    info = _info()
    assert all(isinstance(value, str) for value in info.to_custom().values())
    assert ReleaseInfo.from_custom(info.to_custom()) == info
    assert ReleaseInfo.from_json(info.to_json()) == info


def test_another_channel_keeps_the_bytes_under_its_own_path() -> None:
    moved = _info().on_channel("stable")
    assert (moved.digest, moved.number) == (_info().digest, 7)
    assert moved.path == "adapters/stable/0123456789ab/7/adapter.safetensors"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", "-2"),
        ("number", "7.0"),
        ("number", "07"),
        ("number", "-1"),
        ("length", ""),
        ("evidence_length", "-1"),
        ("evidence_length", "many"),
        ("evidence_digest", "short"),
        ("digest", "short"),
        ("digest", DIGEST.upper()),
        ("path", "adapters/stable/0123456789ab/7/adapter.safetensors"),
        ("path", "../../etc/passwd"),
        ("channel", "stable"),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: str) -> None:
    with pytest.raises(ReleaseError):
        ReleaseInfo.from_custom({**_info().to_custom(), name: value})


def test_a_number_where_a_string_must_be_is_refused() -> None:
    with pytest.raises(ReleaseError, match="strings only"):
        ReleaseInfo.from_custom({**_info().to_custom(), "number": 7})


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"nonsense", b"[" * 100_000, b'{"number": "1"}'])
def test_what_is_not_a_record_is_refused(data: bytes) -> None:
    with pytest.raises(ReleaseError):
        ReleaseInfo.from_json(data)


def test_evidence_lies_beside_the_adapter_of_each_channel() -> None:
    assert _info().evidence_path == "adapters/dev/0123456789ab/7/round.evidence"
    assert _info().on_channel("stable").evidence_path == "adapters/stable/0123456789ab/7/round.evidence"


def test_a_record_kept_since_before_there_was_evidence_is_of_a_release_without() -> None:
    kept = {k: v for k, v in _info().to_custom().items() if not k.startswith("evidence")}
    assert ReleaseInfo.from_custom(kept) == replace(_info(), evidence_digest="", evidence_length=0)


def test_an_extra_key_is_refused() -> None:
    raw = json.loads(_info().to_json()) | {"extra": "1"}
    with pytest.raises(ReleaseError, match="extra"):
        ReleaseInfo.from_custom(raw)


def test_records_are_equal_only_if_all_of_them_is() -> None:
    assert replace(_info(), parent=6) != _info()
