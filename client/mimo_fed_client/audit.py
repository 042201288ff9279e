"""Auditing a round: that one family of sets was opened for a release, each of at least n_min devices.

All that is trusted is the pinned root of the registry's signed metadata. It leads to the keys, to the record
of a release, and to the evidence of the round that made it (docs/protocol.md 5.11).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mimo_fed.errors import ConfigError, ProtocolError, ReleaseError, VerificationError
from mimo_fed.release import NO_PARENT, ReleaseInfo
from mimo_fed.secagg import DevicePolicy
from mimo_fed.secagg.evidence import MAX_EVIDENCE, Audit, verify_evidence
from mimo_fed_client.updater import Updater, read_floors

SAFE_N_MIN: Final = DevicePolicy().n_min_floor
"""below it a sum is for tests alone"""

LOOK_BACK: Final = 16
"""releases before this one among which the round's base is looked for"""

HINT: Final = (
    "what counts are the keys and revocations that the registry signs today: "
    "a certificate revoked since the round does not count any more"
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where releases are looked for, and what is trusted.

    Attributes:
        url: the registry, or any mirror of it.
        root: its pinned root metadata.
        floor: channel to the lowest release number that is believed.
    """

    url: str
    root: bytes
    floor: Mapping[str, int] = field(default_factory=dict)

    @contextmanager
    def open(self) -> Iterator[Updater]:
        """Follow the registry for a while, in a folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="mimo-fed-audit-") as folder:
            updater = Updater(Path(folder), self.url, self.root, floor=self.floor)
            try:
                yield updater
            finally:
                updater.close()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A round whose evidence holds.

    Attributes:
        audit: what the evidence says.
        info: the release that it was checked against; None for a file that was checked alone.
        base: the release that the round worked on; None if the release before `info` is not listed any more.
    """

    audit: Audit
    info: ReleaseInfo | None = None
    base: ReleaseInfo | None = None

    @property
    def test_only(self) -> bool:
        """Whether some sum could be opened that is too small to hide one device."""
        return min(self.audit.n_min.values()) < SAFE_N_MIN


def device_source(home: Path) -> Source:
    """Take registry, root and floors from a device's settings; its files are read, not changed.

    Raises:
        ConfigError: there is no `agent.toml` in `home`, or a file that it names cannot be read.
    """
    from mimo_fed_client.settings import load_settings

    settings = load_settings(home / "agent.toml")
    floor = read_floors(settings.home / "updater")
    return Source(url=settings.registry_url, root=read_bounded(settings.root_file), floor=floor)


def read_bounded(path: Path) -> bytes:
    """Read a file that is no longer than evidence may be.

    Raises:
        ConfigError: it cannot be read, or is longer.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_EVIDENCE + 1)
    except OSError as error:
        raise ConfigError(f"a file cannot be read ({error.strerror}): {path}") from None
    if len(data) > MAX_EVIDENCE:
        raise ConfigError(f"a file is longer than {MAX_EVIDENCE} bytes: {path}")
    return data


def verify_file(updater: Updater, evidence: bytes) -> Finding:
    """Check evidence against the keys that the registry signs, whatever release it belongs to.

    Raises:
        VerificationError: the evidence does not hold.
        TransportError: the registry cannot be reached.
    """
    return Finding(audit=_verify(evidence, updater, "the file"))


def verify_release(
    updater: Updater, channel: str, number: int | None, evidence: bytes | None = None
) -> Finding:
    """Check the evidence of the round that made a release.

    Args:
        updater: follows the registry, from a pinned root.
        channel: where the release is listed.
        number: of the release; None: what the channel points to.
        evidence: a copy of the published evidence; None: fetch it.

    Raises:
        ReleaseError: there is no such release here, or no round made it.
        VerificationError: evidence is missing, forged, of too few devices or votes, or of another round.
        TransportError: the registry cannot be reached.
    """
    info = _find(updater, channel, number)
    published = _published(updater, info) if evidence is None else evidence
    audit = _verify(published, updater, f"release {info.number}")
    for what, said, signed in (
        ("round", audit.round_id, info.round_id),
        ("quorum certificate", audit.quorum_digest, info.quorum_digest),
    ):
        if said != signed:
            raise VerificationError(f"release {info.number} is signed with another {what}, {signed}: {said}")
    return Finding(audit=audit, info=info, base=_base(updater, info, audit.base_digest))


def _find(updater: Updater, channel: str, number: int | None) -> ReleaseInfo:
    latest = updater.latest(channel)
    if latest is None:
        raise ReleaseError(f"channel has no release: {channel}")
    number = latest.number if number is None else number
    info = updater.find(latest, number)
    if info is None:
        raise ReleaseError(
            f"channel {channel} does not list the release: {number}",
            hint="a channel lists its newest releases; older evidence can be checked with --file alone",
        )
    if number == latest.number and info != latest:
        raise VerificationError(f"channel {channel} points to other facts than it lists: {info.digest}")
    if info.parent == NO_PARENT and not info.quorum_digest:
        raise ReleaseError(
            f"no round made the release, so there is nothing to verify: {info.number}",
            hint="release 0 is the zero adapter, which every round's result goes back to",
        )
    return info


def _published(updater: Updater, info: ReleaseInfo) -> bytes:
    if not info.evidence_digest:
        raise VerificationError(
            f"no evidence of a round was published with the release: {info.number}",
            hint="nothing shows how many devices are in it; ask whoever published it",
        )
    return updater.evidence(info)


def _verify(evidence: bytes, updater: Updater, what: str) -> Audit:
    try:
        return verify_evidence(evidence, updater.anchors())
    except ProtocolError as error:
        raise VerificationError(f"evidence of {what} does not hold: {error.message}", hint=HINT) from error


def _base(updater: Updater, info: ReleaseInfo, digest: str) -> ReleaseInfo | None:
    """Find the release that the round worked on: the parent, or one before it if the round was late.

    Raises:
        VerificationError: it worked on something else than the releases before this one.
    """
    is_listed = False
    for number in range(info.parent, max(info.parent - LOOK_BACK, NO_PARENT), -1):
        before = updater.find(info, number) or updater.find(info.on_channel("dev"), number)
        if before is None:
            break
        if before.digest == digest:
            return before
        is_listed = True
    if is_listed:
        raise VerificationError(f"the round worked on no release listed before {info.number}: {digest}")
    return None
