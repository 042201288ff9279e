"""The record that travels with a release, inside signed metadata and in the registry's answers.

Signed metadata is canonical JSON, which has no floats; so that nothing depends on how a parser reads a
number, every value is a string there.
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, dataclass, fields, replace

from mimo_fed.errors import ReleaseError

CHANNELS = ("dev", "stable")
"""`dev` holds every round's result and is what the next round trains from; `stable` is what devices serve."""

ANCHORS_PATH = "keys/anchors.json"
"""Signed path of the public keys that devices trust."""

NO_PARENT = -1
"""`parent` of a release that was made from nothing."""

_FINGERPRINT_PREFIX = 12
_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"-1|0|[1-9][0-9]{0,17}")
_INTEGERS = ("number", "length", "basis_epoch", "parent", "evidence_length")


def adapter_path(channel: str, base_fingerprint: str, number: int) -> str:
    """Signed path of an adapter: each channel owns its own folder."""
    return f"adapters/{channel}/{base_fingerprint[:_FINGERPRINT_PREFIX]}/{number}/adapter.safetensors"


def pointer_path(channel: str) -> str:
    """Signed path of the small file that says which release a channel is on."""
    return f"channels/{channel}.json"


@dataclass(frozen=True, kw_only=True)
class ReleaseInfo:
    """One release as one channel offers it."""

    number: int
    """counts from 0 (the zero adapter) over the whole registry; never reused"""
    channel: str
    digest: str
    """SHA-256 of the adapter's bytes, hexadecimal"""
    length: int
    """bytes"""
    base_fingerprint: str
    """the base model that it fits"""
    basis_epoch: int
    spec_digest: str
    round_id: str
    """the round whose sum it was made from"""
    parent: int
    """the release that the round started from, or `NO_PARENT`"""
    quorum_digest: str
    """hash of the committee's votes on who is in the sums; empty for release 0"""
    evidence_digest: str = ""
    """SHA-256 of the round's evidence, hexadecimal; empty if none was published (docs/protocol.md 5.11)"""
    evidence_length: int = 0
    """bytes"""
    path: str
    """signed path of the adapter"""

    @property
    def evidence_path(self) -> str:
        """Signed path of the round's evidence, beside the adapter."""
        return f"{self.path.rpartition('/')[0]}/round.evidence"

    def to_custom(self) -> dict[str, str]:
        """Strings only, for signed metadata."""
        return {f.name: str(getattr(self, f.name)) for f in fields(self)}

    def to_json(self) -> bytes:
        """Write it as canonical bytes: sorted keys, no spaces."""
        return json.dumps(self.to_custom(), sort_keys=True, separators=(",", ":")).encode()

    def on_channel(self, channel: str) -> ReleaseInfo:
        """Return the same release under another channel's path."""
        return replace(self, channel=channel, path=adapter_path(channel, self.base_fingerprint, self.number))

    @classmethod
    def from_custom(cls, raw: object) -> ReleaseInfo:
        """Read what `to_custom` wrote; without the keys of evidence, it is of a release without evidence.

        Raises:
            ReleaseError: a key is missing or unknown, or a value is not what it must be.
        """
        names = {f.name for f in fields(cls)}
        needed = {f.name for f in fields(cls) if f.default is MISSING}
        if not isinstance(raw, dict) or not needed <= set(raw) <= names:
            raise ReleaseError(f"a release record has the wrong keys: {_keys(raw)}")
        for name, value in raw.items():
            if not isinstance(value, str):
                raise ReleaseError(f"a release record must hold strings only: {name}")
        values: dict[str, str | int] = dict(raw)
        for name in values.keys() & _INTEGERS:
            if not _NUMBER.fullmatch(raw[name]):
                raise ReleaseError(f"a release record's {name} is not a number: {raw[name][:40]!r}")
            values[name] = int(raw[name])
        return cls(**values)._checked()  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, data: bytes) -> ReleaseInfo:
        """Read what `to_json` wrote.

        Raises:
            ReleaseError: not JSON, or not a release record.
        """
        try:
            raw = json.loads(data)
        except (ValueError, RecursionError):
            raise ReleaseError(f"a release record is not JSON: {data[:40]!r}") from None
        return cls.from_custom(raw)

    def _checked(self) -> ReleaseInfo:
        if min(self.number, self.length, self.basis_epoch, self.evidence_length) < 0:
            raise ReleaseError(f"a release record has a negative number: {self.number}")
        if not _SHA256_HEX.fullmatch(self.digest):
            raise ReleaseError(f"a release's digest is not SHA-256 in hexadecimal: {self.digest[:80]!r}")
        if self.evidence_digest and not _SHA256_HEX.fullmatch(self.evidence_digest):
            raise ReleaseError(
                f"a round's evidence has no SHA-256 in hexadecimal: {self.evidence_digest[:80]!r}"
            )
        if self.path != adapter_path(self.channel, self.base_fingerprint, self.number):
            raise ReleaseError(
                f"release {self.number} is not where its channel keeps it: {self.path[:200]!r}"
            )
        return self


def _keys(raw: object) -> str:
    return ", ".join(sorted(map(str, raw)))[:200] if isinstance(raw, dict) else type(raw).__name__
