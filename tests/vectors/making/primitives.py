"""primitives.json: encoding, hashes, keys, streams, masks, words, trees, shares (docs/protocol.md 2-4)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from mimo_fed.codec import Writer
from mimo_fed.secagg import CLASSIC, HYBRID, MODULUS, SigningKey
from mimo_fed.secagg.crypto import Keystream, seal
from mimo_fed.secagg.shamir import NUM_MASKS
from tests.vectors.making.book import ABORTED, LOCAL, Arguments, Book, seeded

DOMAINS = [
    "certificate",
    "file",
    "hello",
    "prekey",
    "manifest",
    "contribution",
    "words",
    "leaf",
    "node",
    "challenge",
    "fold",
    "complaints",
    "ballot",
    "vote",
    "quorum",
    "opening",
    "beacon",
    "lottery",
    "group",
]
MH = seeded("mh", 32)


def make(previous: Mapping[str, Any] | None) -> Book:
    """Collect the file."""
    book = Book("Primitives: docs/protocol.md 2, 3 and 4.", previous)
    _codec(book)
    _hashes_and_keys(book)
    _streams(book)
    _masks(book)
    _words(book)
    _trees(book)
    _shares(book)
    _decoding(book)
    _sealing(book)
    return book


def _codec(book: Book) -> None:
    fields = [
        ["u8", 255], ["u16", 258], ["u32", 2**31], ["u64", 2**63 + 1], ["f64", -1.5],
        ["text", "h\u00e9"], ["blob", "00ff"], ["raw", "abcd"],
    ]  # fmt: skip
    kinds = [["u8"], ["u16"], ["u32"], ["u64"], ["f64"], ["text", 3], ["blob", 2], ["raw", 2]]
    book.do("codec.write", "write one of each", fields=fields)
    data = Writer().u8(255).u16(258).u32(2**31).u64(2**63 + 1).f64(-1.5).text("h\u00e9").blob(b"\0\xff")
    encoded = data.raw(b"\xab\xcd").bytes().hex()
    book.do("codec.read", "read one of each", data=encoded, fields=kinds)
    book.do("codec.read", "read an empty text", data="00000000", fields=[["text", 0]])
    book.bad("codec.write", "integer too large", error=LOCAL, fields=[["u16", 65536]])
    book.bad("codec.write", "integer negative", error=LOCAL, fields=[["u8", -1]])
    book.bad("codec.read", "left over", data=encoded + "00", fields=kinds)
    book.bad("codec.read", "cut short", data=encoded[:-2], fields=kinds)
    book.bad("codec.read", "blob cut short", data="00000002ff", fields=[["blob", 2]])
    book.bad("codec.read", "blob too long for its field", data="00000002ffff", fields=[["blob", 1]])
    book.bad("codec.read", "length cut short", data="000000", fields=[["blob", 1]])
    book.bad("codec.read", "text is not UTF-8", data="00000001ff", fields=[["text", 4]])


def _hashes_and_keys(book: Book) -> None:
    book.do("tag", "tag of a message", domain="ballot", message="00")
    book.do("tag", "tag of what outlives a version", domain="certificate", message="00")
    for domain in DOMAINS:
        book.do("hash", f"hash in domain {domain}", domain=domain, message="6162")
    key = seeded("signer", 32)
    public = book.do("public_key", "public key", key=key.hex())
    signature = book.do("sign", "signature", key=key.hex(), domain="vote", message="6162")
    stated: Arguments = {"public": public.hex(), "message": "6162", "signature": signature.hex()}
    book.do("signature.check", "signature is accepted", domain="vote", **stated)
    book.bad("signature.check", "signature in another domain", domain="opening", **stated)
    book.bad(
        "signature.check", "signature of another message", domain="vote", **{**stated, "message": "6163"}
    )
    other = SigningKey(seeded("other signer", 32)).public_key.hex()
    book.bad("signature.check", "signature of another key", domain="vote", **{**stated, "public": other})
    short = signature[:-1].hex()
    book.bad("signature.check", "signature cut short", domain="vote", **{**stated, "signature": short})
    for domain, context in (
        ("secret", b""),
        ("errors", b""),
        ("shares", b""),
        ("public polynomials", b"r1-4"),
    ):
        key = seeded("derive", 32)
        book.do("derive", f"derived key {domain}", key=key.hex(), domain=domain, context=context.hex())


def _streams(book: Book) -> None:
    key = seeded("stream", 32).hex()
    book.do("stream", "stream 0", key=key, which=0, skip=0, length=48)
    book.do("stream", "stream 0 further on", key=key, which=0, skip=4096, length=32)
    book.do("stream", "stream 2", key=key, which=2, skip=0, length=32)
    book.do("uniform", "uniform residues", key=key, which=0, count=8)
    label = next(i for i in range(1000) if _refusals(seeded(f"refused/{i}", 32)) > 1)
    refused = seeded(f"refused/{label}", 32).hex()
    book.do("uniform", "uniform residues, two or more words refused", key=refused, which=0, count=2048)
    q, bad = MODULUS, 2**31 - 1
    words = [0, q - 1, q, bad, q - 1 + 2**31, q + 2**31, bad, 5, bad, q, 1, bad, 2, 3, q, 4, 6, 7, 8, 9]
    data = struct.pack(f"<{len(words)}I", *words).hex()
    book.do("uniform.words", "refused words, refused replacements, three draws of them", stream=data, count=8)
    book.do("errors", "errors", key=key, which=0, count=64)
    book.do("errors", "errors of block 3", key=key, which=3, count=64)


def _refusals(key: bytes) -> int:
    words = struct.unpack("<2048I", Keystream(key).take(8192))
    return sum(word & 0x7FFFFFFF >= MODULUS for word in words)


def _masks(book: Book) -> None:
    one, seed = "01000000", seeded("mask", 32).hex()
    book.do("ring.root", "psi")
    stated: Arguments = {"mh": MH.hex(), "sum": "r1-4"}
    # times the secret 1 and X, a mask is the public polynomial, and the same turned by one coefficient
    book.do("mask", "public polynomial", **stated, secret=one, length=16)
    book.do("mask", "public polynomial times X", **stated, secret="0000000001000000", length=16)
    book.do("mask", "public polynomials of a block of one lane", **stated, secret=one, length=2048)
    book.do("mask", "public polynomials of a block of three lanes", **stated, secret=one, length=2 * 2048 + 1)
    book.do("mask", "public polynomials of another sum", mh=MH.hex(), sum="r5-8", secret=one, length=16)
    for bits in (16, 24, 32):
        few = [0, 1, MODULUS - 1, 12345678]
        book.do(
            "protect", f"protect a short vector, {bits} bits", **stated, seed=seed, bits=bits,
            errors=bits != 32, values=few,
        )  # fmt: skip
        book.do(
            "protect", f"protect two blocks, {bits} bits", **stated, seed=seed, bits=bits, errors=bits != 32,
            values={"count": 66_000, "factor": 1_000_003},
        )  # fmt: skip
    book.do(
        "protect", "protect two lanes", **stated, seed=seed, bits=16, errors=True,
        values={"count": 3000, "factor": 7},
    )  # fmt: skip


def _words(book: Book) -> None:
    q = MODULUS
    values = [
        0,
        1,
        16382,
        16383,
        16384,
        q // 2,
        q // 2 + 1,
        q - 16384,
        q - 16383,
        q - 2,
        q - 1,
        1_234_567_890,
    ]
    for bits in (16, 24, 32):
        book.do("round", f"residues become words of {bits} bits", values=values, bits=bits)
        words = [0, 1, 2 ** (bits - 1), 2**bits - 1, 5 * 2 ** (bits - 1) + 3 if bits < 32 else 3 * q + 1]
        if bits == 16:
            words[-1] %= 2**16
        book.do(
            "unmask", f"summed words of {bits} bits without their mask", mh=MH.hex(), sum="r1-4",
            seed=seeded("unmask", 32).hex(), words=words, bits=bits,
        )  # fmt: skip


def _trees(book: Book) -> None:
    entries = [bytes([i] * (i % 3)).hex() for i in range(7)]
    for size in (1, 2, 3, 5, 7):
        root = book.do("tree.root", f"root of {size}", entries=entries[:size])
        for index in {0, size // 2, size - 1}:
            path = book.do("tree.path", f"path of {index} of {size}", entries=entries[:size], index=index)
            stated: Arguments = {
                "root": root.hex(),
                "entry": entries[index],
                "size": size,
                "path": path.hex(),
            }
            book.do("tree.check", f"path of {index} of {size} is accepted", **stated, index=index)
    book.bad("tree.check", "another entry", **{**stated, "entry": "ff"}, index=index)
    book.bad("tree.check", "another index", **stated, index=index - 1)
    book.bad("tree.check", "path cut short", **{**stated, "path": path[:-32].hex()}, index=index)
    book.bad("tree.check", "path too long", **{**stated, "path": (path + path[:32]).hex()}, index=index)
    book.bad(
        "tree.check",
        "path in another order",
        **{**stated, "path": path[32:].hex() + path[:32].hex()},
        index=index,
    )


def _shares(book: Book) -> None:
    for mode, size, num_sums in (("all", 3, 1), ("all", 15, 2), ("sampled", 64, 1), ("helper", 5, 1)):
        stated: Arguments = {
            "mode": mode, "size": size, "sharing": seeded(f"sharing/{mode}/{size}", 32).hex(),
            "seeds": [seeded(f"shared/{mode}/{size}/{i}", 32).hex() for i in range(num_sums)],
        }  # fmt: skip
        where = f"{mode}, {size}"
        for member in (0, size - 1):
            book.do("share", f"share of member {member}: {where}", **stated, member=member)
            book.do("share", f"first values of member {member}: {where}", **stated, member=member, take=4)
        book.do("proof", f"proof: {where}", **stated, challenge=seeded("challenge", 32).hex())
    _proofs(book)


def _proofs(book: Book) -> None:
    stated: Arguments = {
        "mode": "all", "size": 15, "sharing": seeded("sharing/proofs", 32).hex(),
        "seeds": [seeded("shared/proofs", 32).hex()],
    }  # fmt: skip
    challenge = seeded("challenge", 32).hex()
    row = book.package.execute({"op": "share", **stated, "member": 3}, book.store)
    proof = book.package.execute({"op": "proof", **stated, "challenge": challenge}, book.store)
    given, proven = book.put("row", row), book.put("proof", proof)
    asked: Arguments = {"mode": "all", "size": 15, "challenge": challenge}
    book.do("proof.check", "row and proof fit", **asked, row=given, member=3, proof=proven)
    book.bad("proof.check", "row of another member", **asked, row=given, member=4, proof=proven)
    asked_other: Arguments = {**asked, "challenge": seeded("another challenge", 32).hex()}
    book.bad("proof.check", "another challenge", **asked_other, row=given, member=3, proof=proven)
    for what, at in (("value", 40), ("mask", len(row) - 4 * NUM_MASKS)):
        changed = book.edited(f"row with another {what}", given, _plus(row, at))
        book.bad("proof.check", f"row with another {what}", **asked, row=changed, member=3, proof=proven)
    large = book.edited("row with a value plus q", given, _plus(row, 8, MODULUS))
    book.bad("proof.check", "row with a value plus q", **asked, row=large, member=3, proof=proven)
    wrong = book.edited("another proof", proven, _plus(proof, 8))
    book.bad("proof.check", "another proof", **asked, row=given, member=3, proof=wrong)
    large = book.edited("proof with a value plus q", proven, _plus(proof, 8, MODULUS))
    book.bad("proof.check", "proof with a value plus q", **asked, row=given, member=3, proof=large)


def _plus(data: bytes, at: int, more: int = 1) -> bytes:
    """Add to one of the residues; q more is the same residue, and no longer below q."""
    value = int.from_bytes(data[at : at + 4], "little") + more
    return data[:at] + value.to_bytes(4, "little") + data[at + 4 :]


def _decoding(book: Book) -> None:
    """Answers of a committee of 15, of which 11 are needed."""
    stated: Arguments = {
        "mode": "all", "size": 15, "sharing": seeded("sharing/decoding", 32).hex(),
        "seeds": [seeded("shared/decoding", 32).hex()],
    }  # fmt: skip
    honest: dict[int, str] = {}
    lying: dict[int, str] = {}
    for member in range(15):
        row = book.package.execute({"op": "share", **stated, "member": member}, book.store)
        answer = row[: -4 * NUM_MASKS]
        honest[member] = book.put(f"answer {member}", answer)
        if member in (2, 7, 11):
            # in one column, or in all
            lie = bytes(b ^ 1 for b in answer) if member == 7 else _plus(answer, 4 * (100 + member))
            lying[member] = book.edited(f"lie {member}", honest[member], lie)

    def answers(count: int, *liars: int) -> dict[str, str]:
        return {str(m): lying[m] if m in liars else honest[m] for m in range(count)}

    asked: Arguments = {"mode": "all", "size": 15}
    book.do("reconstruct", "as many answers as are needed", **asked, answers=answers(11))
    book.do("reconstruct", "all answers are right", **asked, answers=answers(15))
    some = {m: a for m, a in answers(15).items() if m not in ("0", "1", "9")}
    book.do("reconstruct", "other answers give the same", **asked, answers=some)
    book.do("reconstruct", "one of 13 lies", **asked, answers=answers(13, 2))
    book.do("reconstruct", "one of 15 lies", **asked, answers=answers(15, 7))
    book.do("reconstruct", "two of 15 lie", **asked, answers=answers(15, 2, 7))
    book.do("reconstruct", "a lie without surplus is not seen", **asked, answers=answers(11, 2))
    book.bad("reconstruct", "too few answers", error=ABORTED, **asked, answers=answers(10))
    book.bad("reconstruct", "one of 12 lies", error=ABORTED, **asked, answers=answers(12, 2))
    book.bad("reconstruct", "three of 15 lie", error=ABORTED, **asked, answers=answers(15, 2, 7, 11))


def _sealing(book: Book) -> None:
    for name, suite, secret_length in (("hybrid", HYBRID, 96), ("classic", CLASSIC, 32)):
        key = seeded(f"box/{name}", secret_length).hex()
        public = book.do("prekey.public", f"public half of a prekey: {name}", suite=suite, key=key)
        asked: Arguments = {"suite": suite, "key": key}
        # HPKE draws by itself: bytes that were recorded are kept as long as they open
        recorded = book.recorded(f"sealed {name}")
        try:
            opened = book.package.execute(
                {"op": "unseal", **asked, "info": "6162", "sealed": recorded.hex()}, book.store
            )
        except Exception as error:
            if getattr(error, "code", None) is None:
                raise
            opened = b""
        if opened != b"shares":
            recorded = seal(suite, public, b"ab", b"shares")
        sealed = book.put(f"sealed {name}", recorded)
        book.do("unseal", f"sealed bytes open: {name}", **asked, info="6162", sealed=sealed)
        book.bad("unseal", f"sealed in another context: {name}", **asked, info="6163", sealed=sealed)
        for what, changed in (
            ("tag changed", recorded[:-1] + bytes([recorded[-1] ^ 1])),
            ("encapsulated key changed", bytes([recorded[0] ^ 1]) + recorded[1:]),
            ("cut short", recorded[:-1]),
            ("left over", recorded + b"\0"),
        ):
            given = book.edited(f"sealed {name}, {what}", sealed, changed)
            book.bad("unseal", f"sealed bytes: {what}: {name}", **asked, info="6162", sealed=given)
