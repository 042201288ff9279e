"""Secrets in a log line, an exception, a repr or a file: looked for in all that a round leaves."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mimo_fed.codec import Reader
from mimo_fed.errors import MimoFedError
from mimo_fed.events import EventLog
from mimo_fed.round.coordinate import Coordination
from mimo_fed.secagg import Anchors, Member, SigningKey, verify_manifest
from mimo_fed.secagg.crypto import Box, Keystream, derive, open_file
from mimo_fed.secagg.messages import start
from mimo_fed.secagg.ring import RING, uniform
from mimo_fed.secagg.shamir import share
from mimo_fed.secagg.shares import restore_received
from mimo_fed_client.journal import FileJournal
from tests.simulators.fleet import SPEC, MemoryFleet, MemoryStore, Stream
from tests.unit.round.test_round import PLAN
from tests.unit.secagg.playing import KINDS, played, receiver

Secrets = dict[str, bytes]


class Watched:
    """Entropy that remembers what it gave: all but the nonces of 16 bytes is secret."""

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self.source, self.given = source, list[bytes]()

    def __call__(self, length: int) -> bytes:
        data = self.source(length)
        if length > 16:
            self.given.append(data)
        return data


class WatchedJournal(FileJournal):
    """The client's journal, on disk; it remembers in clear what it was given to seal."""

    def __init__(self, folder: Path, key: bytes, entropy: Callable[[int], bytes]) -> None:
        super().__init__(folder, key, entropy)
        self.clear: list[tuple[str, bytes]] = []

    def put(self, key: str, value: bytes) -> None:
        self.clear.append((key, value))
        super().put(key, value)


def forms(secret: bytes) -> Iterator[bytes]:
    """Raw, hexadecimal, base64 at each alignment, as Python shows bytes, and as numbers."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for lead in range(3):
        coded = base64.b64encode(bytes(lead) + secret)
        yield coded[4 if lead else 0 : len(coded) // 4 * 4 - 4]
        yield coded[4 if lead else 0 : len(coded) // 4 * 4 - 4].translate(bytes.maketrans(b"+/", b"-_"))
    yield repr(secret)[2:-1].encode()
    yield ", ".join(str(b) for b in secret[:12]).encode()
    numbers = np.frombuffer(secret[: len(secret) // 4 * 4], "<u4")[:4]
    yield ", ".join(str(n) for n in numbers).encode()
    yield " ".join(str(n) for n in numbers).encode()


def check_absent(secrets: Secrets, haystack: bytes) -> None:
    for name, secret in secrets.items():
        assert len(secret) >= 16, name
        for form in forms(secret):
            assert form not in haystack, name


@pytest.mark.parametrize("form", range(10))
def test_the_search_finds_a_secret_in_any_form(form: int) -> None:
    secret = bytes(range(7, 39))
    hidden = list(forms(secret))[form]
    with pytest.raises(AssertionError, match="planted"):
        check_absent({"planted": secret}, b"before " + hidden + b" after")
    check_absent({"planted": secret}, b"before after")


def derived(seed: bytes) -> Secrets:
    """What a device makes of a seed: the ring element, the keys of errors and of shares."""
    secret = uniform(Keystream(derive(seed, "secret")), RING)
    names = ("secret", "errors", "shares")
    return {f"key of {n}": derive(seed, n) for n in names} | {"ring element": secret[:8].tobytes()}


def member_secrets(state: bytes, mh: bytes) -> Secrets:
    """The prekey, and a piece of each contributor's shares, in a member's state."""
    reader = Reader(state, "member")
    start(reader, "member", mh)
    prekey, *_ = (reader.blob() for _ in range(6))
    received = restore_received(reader)
    found = {f"shares of {d}": item.shares[:8].tobytes() for d, item in received.items()}
    return found | ({"prekey in the member": prekey} if prekey else {})


def run_round(folder: Path) -> tuple[MemoryFleet, MemoryStore, Secrets]:
    """A whole round of eight devices with journals on disk, and every secret of it."""
    sealed: list[bytes] = []

    def tap(_: str, inputs: object) -> None:
        sealed.extend(values[:8].tobytes() for values in inputs.values() if values[:8].all())  # type: ignore[attr-defined]

    fleet, store = MemoryFleet(folder, tap=tap), MemoryStore()
    watched, journals = {}, {}
    for name, contributor in fleet.contributors.items():
        watched[name] = Watched(Stream(name))
        journals[name] = WatchedJournal(
            folder / name, Stream(f"{name} at rest")(32), Stream(f"{name} nonces")
        )
        contributor._entropy = contributor._membership._entropy = watched[name]
        contributor._membership.journal = journals[name]
    coordination = Coordination(
        fleet,
        store,
        key=fleet.key,
        anchors=fleet.anchors,
        spec=SPEC,
        entropy=Stream("cohort"),
        now_s=fleet.now_s,
        events=EventLog(folder / "coordinator.jsonl"),
    )
    result = coordination.run(PLAN).result
    assert len(result.survivors) == 8
    secrets = {f"input {i}": data for i, data in enumerate(sealed)}
    secrets |= {
        "key of the coordinator": fleet.key.to_bytes(),
        "key of the authority": fleet.authority.to_bytes(),
    }
    for name, contributor in fleet.contributors.items():
        secrets[f"{name}: signing key"] = contributor._membership.key.to_bytes()
        secrets[f"{name}: key at rest"] = journals[name]._key
        for i, given in enumerate(watched[name].given):
            secrets[f"{name}: random bytes {i}"] = given
            secrets |= {f"{name}: {what} {i}": data for what, data in derived(given[:32]).items()}
        for i, (key, value) in enumerate(journals[name].clear):
            if key.endswith("/secret"):
                secrets[f"{name}: {key}"] = value
            if key.endswith("/member"):
                mh = bytes.fromhex(key.split("/")[1])
                found = member_secrets(value, mh)
                secrets |= {f"{name}: {what} {i}": data for what, data in found.items()}
    return fleet, store, secrets


def test_a_whole_round_leaves_no_secret_in_files_logs_answers_or_reprs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    fleet, store, secrets = run_round(tmp_path)
    files = [path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert len(files) > 8 * 3
    shown = [
        repr(thing).encode()
        for contributor in fleet.contributors.values()
        for thing in (contributor, contributor._membership, vars(contributor._membership), fleet.key)
    ]
    printed = capfd.readouterr()
    records = [repr(record).encode() + record.data for record in store.kept]
    pieces = [*files, *shown, *records, *store.spool.files.values(), repr(caplog.records).encode()]
    check_absent(secrets, b"\n".join((*pieces, printed.out.encode(), printed.err.encode())))
    kinds = {name.split(": ")[-1].split(" ")[0] for name in secrets if ": " in name}
    assert {"signing", "random", "ring", "shares", "prekey", "key"} <= kinds
    assert any(name.startswith("input") for name in secrets)


def errors_of(kind: str) -> Iterator[BaseException]:
    """What a receiver of this kind says to bytes spoiled here and there."""
    rig, kept = played()
    take, good = receiver(rig, kept, kind), kept[kind]
    for at in {0, 5, 40, len(good) // 2, len(good) - 70, len(good) - 1}:
        for spoiled in (good[:at], good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], good + b"\0"):
            try:
                take(spoiled)
            except MimoFedError as error:
                yield error


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_stands_in_an_exception(kind: str) -> None:
    rig, kept = played()
    secrets: Secrets = {f"signing key of {d}": key.to_bytes() for d, key in rig.keys.items()}
    secrets |= {f"prekey of {d}": secret for d, secret in rig.secrets.items()}
    secrets |= member_secrets(kept["state"], rig.signed.mh)
    assert any(name.startswith("shares of") for name in secrets)
    errors = list(errors_of(kind))
    assert errors
    texts = "\n".join(
        "".join((str(error), repr(error), *traceback.format_exception(error))) for error in errors
    )
    check_absent(secrets, texts.encode())


def test_no_secret_stands_in_an_error_about_itself() -> None:
    """Keys of another length, states that are damaged: the message says how long, not what."""
    rig, kept = played()
    d = rig.ids[0]
    secret = Stream("one secret")(40)
    attempts: list[Callable[[], object]] = [
        lambda: SigningKey(secret),
        lambda: Box(rig.suite, secret),
        lambda: open_file(secret[:32], secret),
        lambda: Member.from_bytes(rig.signed, rig.keys[d], rig.certificates[d], kept["state"][:-1]),
        lambda: verify_manifest(secret * 3, rig.anchors, 0),
        lambda: Anchors.from_json(secret),
    ]
    said = []
    for attempt in attempts:
        with pytest.raises(MimoFedError) as caught:
            attempt()
        said.append(str(caught.value) + repr(caught.value))
    secrets = {"the secret": secret, **member_secrets(kept["state"], rig.signed.mh)}
    check_absent(secrets, "\n".join(said).encode())


def test_what_holds_secrets_has_no_repr_of_them() -> None:
    rig, _ = played()
    secret = uniform(Keystream(b"k" * 32), RING).astype(np.uint64)
    sharing = share([secret], 4, 3, 2, Keystream(b"s" * 32))
    member = rig.member(rig.ids[0])
    box = Box(rig.suite, rig.secrets[rig.ids[0]])
    shown = repr((sharing, member, box, rig.keys, rig.coordinator, rig.signed, rig.anchors))
    secrets = {
        "ring element": secret[:8].astype("<u4").tobytes(),
        "prekey": rig.secrets[rig.ids[0]],
        **{d: key.to_bytes() for d, key in rig.keys.items()},
    }
    check_absent(secrets, shown.encode())
