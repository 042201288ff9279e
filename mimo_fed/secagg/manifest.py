"""M1: what a round is, said once and signed by the coordinator (docs/protocol.md 5.5, 6).

`mh`, the hash of the signed bytes, names the round from here on: every later message, derived key and seal
is bound to it. `verify_manifest` refuses what is wrong for everybody; `DevicePolicy` what an owner
does not want.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, cast

from mimo_fed.codec import Reader, Writer
from mimo_fed.errors import LocalProtocolError, PeerProtocolError
from mimo_fed.secagg.crypto import SIGNATURE_BYTES, SUITE, SigningKey, digest, verify
from mimo_fed.secagg.identity import MAX_PREKEY, Anchors, Prekey, check_name, verify_prekey
from mimo_fed.secagg.words import WORD_BITS

NUM_CHECKS: Final = 64
"""coordinates appended to every sum that are zero in every honest input"""
MAX_MEMBERS: Final = 64
MIN_MEMBERS: Final = 3
MAX_SUMS: Final = 64
MAX_DIM: Final = 1 << 28
MAX_APPLICATION: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class SumSpec:
    """One secure sum: its name, its length, and the fewest contributors for which it is opened."""

    name: str
    dim: int
    n_min: int


def num_words(spec: SumSpec) -> int:
    """Count the words of a sum: its inputs and the check coordinates."""
    return spec.dim + NUM_CHECKS


@dataclass(frozen=True, kw_only=True)
class Committee:
    """How the sum keys are shared: size C, quorum Q of votes, threshold r, f corrupt members, packing l."""

    size: int
    quorum: int
    threshold: int
    corrupt: int
    packing: int


def committee_rule(mode: str, n: int) -> Committee:
    """Fix the committee from the number of members alone; both ends evaluate this (docs/protocol.md 6.1).

    Raises:
        PeerProtocolError: unknown mode, or a size it does not allow.
    """
    if mode != "all":
        raise PeerProtocolError(f"committee mode is not known: {mode[:40]!r}")
    if not MIN_MEMBERS <= n <= MAX_MEMBERS:
        raise PeerProtocolError(f"committee must have {MIN_MEMBERS} to {MAX_MEMBERS} members: {n}")
    threshold = (7 * n + 9) // 10
    corrupt = 2 * threshold - n - 1
    return Committee(
        size=n, quorum=threshold, threshold=threshold, corrupt=corrupt, packing=threshold - corrupt
    )


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything a round fixes.

    Attributes:
        kind: "train" or "evaluate".
        suite: must be `SUITE`.
        round_id: unique.
        sequence: greater than that of every earlier round.
        base_digest: SHA-256 (hex) of the adapter the round works on.
        sums: what is summed.
        n_max: most contributors in one sum.
        word_bits: bits of an uploaded word, 16 or 24.
        mode: how the committee is chosen; "all": every member contributes.
        members: prekeys, sorted by device id.
        deadline_at_s: seconds since the epoch; afterwards the manifest is void.
        application: the round's settings; bound here, judged by the layers above.
    """

    kind: Literal["train", "evaluate"]
    suite: str = SUITE
    round_id: str
    sequence: int
    base_digest: str
    sums: tuple[SumSpec, ...]
    n_max: int
    word_bits: int = 16
    mode: Literal["all"] = "all"
    members: tuple[Prekey, ...]
    deadline_at_s: int
    application: bytes = b""

    @property
    def committee(self) -> Committee:
        """The committee that the rule gives for these members."""
        return committee_rule(self.mode, len(self.members))

    def encode(self) -> bytes:
        """Return the canonical bytes, unsigned."""
        writer = Writer().text("manifest").text(self.suite).text(self.kind).text(self.round_id)
        writer.u64(self.sequence).text(self.base_digest).u16(len(self.sums))
        for spec in self.sums:
            writer.text(spec.name).u32(spec.dim).u16(spec.n_min)
        writer.u16(self.n_max).u8(self.word_bits).text(self.mode)
        committee = self.committee
        writer.u16(committee.size).u16(committee.quorum).u16(committee.threshold)
        writer.u16(committee.corrupt).u16(committee.packing)
        for member in self.members:
            writer.blob(member.encoded)
        return writer.u64(self.deadline_at_s).blob(self.application).bytes()

    def index_of(self, device_id: str) -> int:
        """Return a member's index.

        Raises:
            PeerProtocolError: it is not a member.
        """
        for index, member in enumerate(self.members):
            if member.device_id == device_id:
                return index
        raise PeerProtocolError(f"not a member of this round: {device_id}")


@dataclass(frozen=True, kw_only=True)
class SignedManifest:
    """A manifest whose signature and rules were checked.

    Attributes:
        manifest: the content.
        mh: its name from here on, 32 bytes.
        encoded: the signed bytes.
    """

    manifest: Manifest
    mh: bytes
    encoded: bytes

    def device(self, index: int) -> str:
        """Return the id of the member of that index."""
        return self.manifest.members[index].device_id


def make_manifest(key: SigningKey, manifest: Manifest) -> bytes:
    """Sign a manifest: M1."""
    if manifest.word_bits not in WORD_BITS:
        raise LocalProtocolError(f"words have 16 or 24 bits, not: {manifest.word_bits}")
    body = manifest.encode()
    return body + key.sign("manifest", body)


def verify_manifest(data: bytes, anchors: Anchors, now_s: int) -> SignedManifest:
    """Check everything about a manifest that does not depend on an owner's policy.

    Raises:
        PeerProtocolError: malformed, not the coordinator's, another suite, past its deadline, a member twice
            or not certified, a committee that breaks the rule, or an n_min above n_max.
    """
    if len(data) < SIGNATURE_BYTES:
        raise PeerProtocolError(f"manifest: cut short at byte {len(data)}")
    body = data[:-SIGNATURE_BYTES]
    verify(anchors.coordinator, "manifest", body, data[-SIGNATURE_BYTES:])
    manifest = _decode(body, lambda message, round_id: verify_prekey(message, anchors, round_id, now_s))
    if now_s > manifest.deadline_at_s:
        raise PeerProtocolError(f"manifest is past its deadline: {manifest.deadline_at_s}")
    _check_members(manifest.members)
    _check_sums(manifest)
    if manifest.encode() != body:
        raise PeerProtocolError(f"manifest's committee breaks the rule: {manifest.round_id}")
    return SignedManifest(manifest=manifest, mh=digest("manifest", data), encoded=data)


def _decode(body: bytes, prekey: Callable[[bytes, str], Prekey]) -> Manifest:
    reader = Reader(body, "manifest")
    if reader.text(max_len=32) != "manifest":
        raise PeerProtocolError("manifest: another kind of message")
    if (suite := reader.text(max_len=128)) != SUITE:
        raise PeerProtocolError(f"manifest asks for an unknown suite: {suite!r}")
    if (kind := reader.text(max_len=16)) not in ("train", "evaluate"):
        raise PeerProtocolError(f"manifest is of an unknown kind: {kind!r}")
    round_id = check_name(reader.text(max_len=64), "manifest: round id")
    sequence, base_digest, num_sums = reader.u64(), reader.text(max_len=64), reader.u16()
    if num_sums > MAX_SUMS:
        raise PeerProtocolError(f"manifest has too many sums: {num_sums}")
    sums = tuple(
        SumSpec(name=check_name(reader.text(max_len=64), "sum"), dim=reader.u32(), n_min=reader.u16())
        for _ in range(num_sums)
    )
    n_max, word_bits, mode = reader.u16(), reader.u8(), reader.text(max_len=16)
    size, *stated = (reader.u16() for _ in range(5))
    del stated  # compared when the decoded manifest is encoded again
    committee_rule(mode, size)
    members = tuple(prekey(reader.blob(max_len=MAX_PREKEY), round_id) for _ in range(size))
    manifest = Manifest(
        kind=cast("Literal['train', 'evaluate']", kind),
        suite=suite,
        round_id=round_id,
        sequence=sequence,
        base_digest=base_digest,
        sums=sums,
        n_max=n_max,
        word_bits=word_bits,
        mode=cast("Literal['all']", mode),
        members=members,
        deadline_at_s=reader.u64(),
        application=reader.blob(max_len=MAX_APPLICATION),
    )
    reader.finish()
    return manifest


def _check_members(members: tuple[Prekey, ...]) -> None:
    ids = [member.device_id for member in members]
    if ids != sorted(set(ids)):
        raise PeerProtocolError("manifest's members are not distinct and in order")
    for keys in (
        {m.certificate.public_key for m in members},
        {m.certificate.serial for m in members},
        {m.public_key for m in members},
    ):
        if len(keys) != len(members):
            raise PeerProtocolError("manifest names one key or certificate twice")


def _check_sums(manifest: Manifest) -> None:
    names = [spec.name for spec in manifest.sums]
    if not names or len(set(names)) != len(names):
        raise PeerProtocolError(f"manifest's sums are not distinct: {', '.join(names)[:200]}")
    if manifest.word_bits not in WORD_BITS:
        raise PeerProtocolError(f"manifest's words have another size: {manifest.word_bits}")
    for spec in manifest.sums:
        if not 1 <= spec.n_min <= manifest.n_max:
            raise PeerProtocolError(f"manifest's n_min is not within 1 and n_max: {spec.name}, {spec.n_min}")
        if not 1 <= spec.dim <= MAX_DIM:
            raise PeerProtocolError(f"manifest's sum has an impossible length: {spec.name}, {spec.dim}")


@dataclass(frozen=True, kw_only=True)
class DevicePolicy:
    """What a device's owner demands beyond the rules.

    Attributes:
        n_min_floor: no sum may be opened for fewer devices; below 16 is for tests alone.
    """

    n_min_floor: int = 16

    def check(self, manifest: Manifest) -> None:
        """Refuse a manifest that would open a sum of too few.

        Raises:
            PeerProtocolError: some sum's n_min is below the floor.
        """
        for spec in manifest.sums:
            if spec.n_min < self.n_min_floor:
                raise PeerProtocolError(
                    f"manifest would open {spec.name} for fewer than {self.n_min_floor}: {spec.n_min}"
                )
