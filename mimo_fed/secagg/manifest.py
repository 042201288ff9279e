"""M1: what a round is, said once and signed by the coordinator (docs/protocol.md 5.5).

`mh`, the hash of the signed bytes, names the round from here on: every later message, derived key and seal
is bound to it. `verify_manifest` refuses what is wrong for everybody; `DevicePolicy` what an owner
does not want.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, cast

from mimo_fed.codec import Reader, Writer
from mimo_fed.errors import LocalProtocolError, PeerProtocolError
from mimo_fed.secagg.committee import (
    Committee,
    Mode,
    as_mode,
    beacon,
    committee_rule,
    lottery_bound,
    lottery_number,
)
from mimo_fed.secagg.crypto import HYBRID, REFERENCE, SIGNATURE_BYTES, SUITES, SigningKey, digest, verify
from mimo_fed.secagg.groups import MIN_GROUPS, assign_groups
from mimo_fed.secagg.identity import MAX_PREKEY, Anchors, Prekey, check_name, verify_prekey

NUM_CHECKS: Final = 64
"""coordinates appended to every sum that are zero in every honest input"""
MAX_SUMS: Final = 64
MAX_DIM: Final = 1 << 28
MAX_COHORT: Final = 1 << 20
MAX_APPLICATION: Final = 1 << 20
REFERENCE_BITS: Final = 32
"""word size of the reference suite: residues as they are"""


@dataclass(frozen=True, kw_only=True)
class SumSpec:
    """One secure sum.

    Attributes:
        name: unique in the round.
        dim: values of one input.
        n_min: fewest contributors for which it is opened.
        group: 0: open to all; g >= 1: to the devices of random group g alone (docs/protocol.md 5.12).
    """

    name: str
    dim: int
    n_min: int
    group: int = 0


def num_words(spec: SumSpec) -> int:
    """Count the words of a sum: its inputs and the check coordinates."""
    return spec.dim + NUM_CHECKS


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything a round fixes.

    Attributes:
        kind: "train" or "evaluate".
        suite: the choice of primitives, one of `SUITES`.
        round_id: unique.
        sequence: greater than that of every earlier round.
        base_digest: SHA-256 (hex) of the adapter the round works on.
        sums: what is summed.
        n_max: most contributors in one sum.
        word_bits: bits of an uploaded word, 16 or 24; 32 in the reference suite.
        mode: how the committee is chosen.
        lottery: in mode sampled, the number below which a device is eligible; else 0.
        members: prekeys of the committee, sorted by device id.
        cohort: ids of the devices that may contribute, sorted; empty: every enrolled device. In mode all it
            is empty and means the members.
        deadline_at_s: seconds since the epoch; afterwards the manifest is void.
        application: the round's settings; bound here, judged by the layers above.
    """

    kind: Literal["train", "evaluate"]
    suite: str = HYBRID
    round_id: str
    sequence: int
    base_digest: str
    sums: tuple[SumSpec, ...]
    n_max: int
    word_bits: int = 16
    mode: Mode = "all"
    lottery: int = 0
    members: tuple[Prekey, ...]
    cohort: tuple[str, ...] = ()
    deadline_at_s: int
    application: bytes = b""

    @property
    def committee(self) -> Committee:
        """The committee that the rule gives for these members."""
        return committee_rule(self.mode, len(self.members))

    @property
    def beacon(self) -> bytes:
        """What names this round's draws."""
        return beacon(self.base_digest)

    @property
    def num_groups(self) -> int:
        """How many random groups the round has; 0: none."""
        return max((spec.group for spec in self.sums), default=0)

    @cached_property
    def contributors(self) -> frozenset[str] | None:
        """Ids of the devices that may contribute; None: every enrolled device."""
        if self.mode == "all":
            return frozenset(member.device_id for member in self.members)
        return frozenset(self.cohort) or None

    def encode(self) -> bytes:
        """Return the canonical bytes, unsigned."""
        writer = Writer().text("manifest").text(self.suite).text(self.kind).text(self.round_id)
        writer.u64(self.sequence).text(self.base_digest).u16(len(self.sums))
        for spec in self.sums:
            writer.text(spec.name).u32(spec.dim).u32(spec.n_min).u16(spec.group)
        writer.u32(self.n_max).u8(self.word_bits).text(self.mode)
        committee = self.committee
        writer.u16(committee.size).u16(committee.quorum).u16(committee.threshold)
        writer.u16(committee.corrupt).u16(committee.packing).u64(self.lottery)
        for member in self.members:
            writer.blob(member.encoded)
        writer.u32(len(self.cohort))
        for device_id in self.cohort:
            writer.text(device_id)
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

    @cached_property
    def groups(self) -> dict[str, int]:
        """The random group, from 1, of each device of the cohort; empty in a round without groups."""
        manifest = self.manifest
        if not manifest.num_groups or manifest.contributors is None:
            return {}
        return assign_groups(manifest.contributors, manifest.beacon, manifest.num_groups)

    def sums_open_to(self, device_id: str) -> tuple[int, ...]:
        """Return the sums that a device may contribute to, by index.

        Raises:
            PeerProtocolError: the device is not of the cohort.
        """
        allowed = self.manifest.contributors
        if allowed is not None and device_id not in allowed:
            raise PeerProtocolError(f"not of this round's cohort: {device_id}")
        group = self.groups.get(device_id, 0)
        return tuple(i for i, spec in enumerate(self.manifest.sums) if spec.group in (0, group))

    def member_id(self, index: int) -> str:
        """Return the id of the member of that index."""
        return self.manifest.members[index].device_id


def make_manifest(key: SigningKey, manifest: Manifest) -> bytes:
    """Sign a manifest: M1.

    Raises:
        LocalProtocolError: the word size is none of the suite's.
    """
    if not _fits(manifest):
        raise LocalProtocolError(f"suite and word size do not go together: {manifest.word_bits} bits")
    body = manifest.encode()
    return body + key.sign("manifest", body)


def verify_manifest(data: bytes, anchors: Anchors, now_s: int) -> SignedManifest:
    """Check everything about a manifest that does not depend on an owner's policy.

    Raises:
        PeerProtocolError: malformed, not the coordinator's, an unknown suite, past its deadline, a committee
            that breaks the rule or the lottery, a member twice, not certified or not pinned, or impossible
            sums.
        LocalProtocolError: it draws lots, and the anchors do not say from how many.
    """
    signed = _verify(data, anchors, now_s)
    if now_s > signed.manifest.deadline_at_s:
        raise PeerProtocolError(f"manifest is past its deadline: {signed.manifest.deadline_at_s}")
    return signed


def verify_past_manifest(data: bytes, anchors: Anchors) -> SignedManifest:
    """Check the manifest of a round that is over, as at its deadline; the anchors' population is today's.

    Raises:
        PeerProtocolError: as `verify_manifest`, but for the deadline and the lottery's threshold.
    """
    return _verify(data, anchors, None)


def _verify(data: bytes, anchors: Anchors, now_s: int | None) -> SignedManifest:
    if len(data) < SIGNATURE_BYTES:
        raise PeerProtocolError(f"manifest: cut short at byte {len(data)}")
    body = data[:-SIGNATURE_BYTES]
    verify(anchors.coordinator, "manifest", body, data[-SIGNATURE_BYTES:])
    manifest = _decode(body, anchors, now_s)
    _check_members(manifest, anchors)
    _check_lottery(manifest, anchors.population if now_s is not None else None)
    _check_sums(manifest)
    _check_cohort(manifest)
    if manifest.encode() != body:
        raise PeerProtocolError(f"manifest's committee breaks the rule: {manifest.round_id}")
    return SignedManifest(manifest=manifest, mh=digest("manifest", data), encoded=data)


def _decode(body: bytes, anchors: Anchors, now_s: int | None) -> Manifest:
    reader = Reader(body, "manifest")
    if reader.text(max_len=32) != "manifest":
        raise PeerProtocolError("manifest: another kind of message")
    if (suite := reader.text(max_len=160)) not in SUITES:
        raise PeerProtocolError(
            f"manifest asks for an unknown suite: {suite!r}",
            hint="this agent is older or newer than the coordinator; it keeps serving its model",
        )
    if (kind := reader.text(max_len=16)) not in ("train", "evaluate"):
        raise PeerProtocolError(f"manifest is of an unknown kind: {kind!r}")
    round_id = check_name(reader.text(max_len=64), "manifest: round id")
    sequence, base_digest = reader.u64(), reader.text(max_len=64)
    sums = tuple(_decode_sum(reader) for _ in range(_count(reader.u16(), MAX_SUMS, "sums")))
    n_max, word_bits, mode = reader.u32(), reader.u8(), reader.text(max_len=16)
    size, *stated = (reader.u16() for _ in range(5))
    del stated  # compared when the decoded manifest is encoded again
    committee_rule(mode, size)
    lottery = reader.u64()
    encoded = [reader.blob(max_len=MAX_PREKEY) for _ in range(size)]
    cohort = tuple(
        check_name(reader.text(max_len=64), "manifest: device id")
        for _ in range(_count(reader.u32(), MAX_COHORT, "devices"))
    )
    deadline_at_s, application = reader.u64(), reader.blob(max_len=MAX_APPLICATION)
    reader.finish()
    at_s = deadline_at_s if now_s is None else now_s
    return Manifest(
        kind=cast("Literal['train', 'evaluate']", kind),
        suite=suite,
        round_id=round_id,
        sequence=sequence,
        base_digest=base_digest,
        sums=sums,
        n_max=n_max,
        word_bits=word_bits,
        mode=as_mode(mode),
        lottery=lottery,
        members=tuple(verify_prekey(m0, anchors, suite, round_id, at_s) for m0 in encoded),
        cohort=cohort,
        deadline_at_s=deadline_at_s,
        application=application,
    )


def _decode_sum(reader: Reader) -> SumSpec:
    name = check_name(reader.text(max_len=64), "sum")
    return SumSpec(name=name, dim=reader.u32(), n_min=reader.u32(), group=reader.u16())


def _count(count: int, bound: int, what: str) -> int:
    if count > bound:
        raise PeerProtocolError(f"manifest has too many {what}: {count}")
    return count


def _check_members(manifest: Manifest, anchors: Anchors) -> None:
    members = manifest.members
    ids = [member.device_id for member in members]
    if ids != sorted(set(ids)):
        raise PeerProtocolError("manifest's members are not distinct and in order")
    keys = {m.certificate.public_key for m in members}
    for values in (keys, {m.certificate.serial for m in members}, {m.public_key for m in members}):
        if len(values) != len(members):
            raise PeerProtocolError("manifest names one key or certificate twice")
    if manifest.mode == "helper" and keys != anchors.helpers:
        raise PeerProtocolError(f"manifest's helpers are not the pinned ones: {', '.join(ids)}")


def _check_lottery(manifest: Manifest, population: int | None) -> None:
    """Accept members that won; without a population the threshold is taken as it is."""
    if manifest.mode != "sampled":
        if manifest.lottery:
            raise PeerProtocolError(f"manifest draws lots in a mode without: {manifest.mode}")
        return
    if population is not None and manifest.lottery > lottery_bound(population):
        raise PeerProtocolError(f"manifest makes too many devices eligible: {manifest.lottery}")
    drawn, ids = manifest.beacon, [member.device_id for member in manifest.members]
    if lost := [i for i in ids if lottery_number(drawn, i) >= manifest.lottery]:
        raise PeerProtocolError(f"manifest names a member that did not win the lottery: {lost[0]}")


def _check_sums(manifest: Manifest) -> None:
    names = [spec.name for spec in manifest.sums]
    if not names or len(set(names)) != len(names):
        raise PeerProtocolError(f"manifest's sums are not distinct: {', '.join(names)[:200]}")
    if not _fits(manifest):
        raise PeerProtocolError(f"manifest's words have another size: {manifest.word_bits}")
    for spec in manifest.sums:
        if not 1 <= spec.n_min <= manifest.n_max:
            raise PeerProtocolError(f"manifest's n_min is not within 1 and n_max: {spec.name}, {spec.n_min}")
        if not 1 <= spec.dim <= MAX_DIM:
            raise PeerProtocolError(f"manifest's sum has an impossible length: {spec.name}, {spec.dim}")


def _check_cohort(manifest: Manifest) -> None:
    """Accept a sorted cohort, and groups that are all there with room for n_min devices in each."""
    if list(manifest.cohort) != sorted(set(manifest.cohort)):
        raise PeerProtocolError("manifest's cohort is not distinct and in order")
    if manifest.mode == "all" and manifest.cohort:
        raise PeerProtocolError(f"manifest names a cohort beside its members: {len(manifest.cohort)}")
    groups = manifest.num_groups
    if not groups:
        return
    if groups < MIN_GROUPS or {s.group for s in manifest.sums} - {0} != set(range(1, groups + 1)):
        raise PeerProtocolError(f"manifest's groups are fewer than {MIN_GROUPS} or not all there: {groups}")
    n_min = max(spec.n_min for spec in manifest.sums if spec.group)
    if len(manifest.contributors or ()) < groups * n_min:
        raise PeerProtocolError(f"manifest's cohort is too small for groups of {n_min}: {groups} groups")


def _fits(manifest: Manifest) -> bool:
    sizes = (REFERENCE_BITS,) if manifest.suite == REFERENCE else (16, 24)
    return manifest.word_bits in sizes


@dataclass(frozen=True, kw_only=True)
class DevicePolicy:
    """What a device's owner demands beyond the rules.

    Attributes:
        n_min_floor: no sum may be opened for fewer devices; below 16 is for tests alone.
        suites: which suites it takes part in; the reference suite is for tests alone.
        modes: which committees it trusts.
    """

    n_min_floor: int = 16
    suites: tuple[str, ...] = (HYBRID,)
    modes: tuple[str, ...] = ("all", "sampled", "helper")

    def check(self, manifest: Manifest) -> None:
        """Refuse a manifest that the owner does not want.

        Raises:
            PeerProtocolError: some sum's n_min is below the floor, or suite or mode is not allowed.
        """
        for spec in manifest.sums:
            if spec.n_min < self.n_min_floor:
                raise PeerProtocolError(
                    f"manifest would open {spec.name} for fewer than {self.n_min_floor}: {spec.n_min}"
                )
        if manifest.suite not in self.suites:
            raise PeerProtocolError(f"this device does not take part in the suite: {manifest.suite!r}")
        if manifest.mode not in self.modes:
            raise PeerProtocolError(f"this device does not trust a committee of mode: {manifest.mode}")
