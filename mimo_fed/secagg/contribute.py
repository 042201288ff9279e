"""M2: a device's whole part of a round in one message (docs/protocol.md 5.6).

For each sum the device draws a fresh ring element s, masks its input with a s + e, rounds to words, and
shares s among the members. Afterwards it may vanish: its contribution counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mimo_fed.codec import Writer
from mimo_fed.errors import LocalProtocolError
from mimo_fed.secagg.crypto import KEY_BYTES, Entropy, Keystream, SigningKey, derive, digest, seal
from mimo_fed.secagg.identity import Certificate
from mimo_fed.secagg.manifest import SignedManifest, SumSpec, num_words
from mimo_fed.secagg.messages import SHARE_NONCE_BYTES, Header, seal_context
from mimo_fed.secagg.modular import MODULUS
from mimo_fed.secagg.ring import RING, Expander, binomial, public_key, uniform
from mimo_fed.secagg.shamir import SHARE_DTYPE, share
from mimo_fed.secagg.words import round_to_words


def contribute(
    signed: SignedManifest,
    key: SigningKey,
    certificate: Certificate,
    rank: int,
    inputs: Mapping[str, NDArray[np.uint32]],
    entropy: Entropy,
) -> bytes:
    """Mask the inputs, share their keys, sign the whole.

    Args:
        signed: the verified manifest.
        key: the device's.
        certificate: the device's, the one its prekey in the manifest carries.
        rank: of the device's adapter.
        inputs: sum name to (dim,) residues below q; only the sums this device takes part in.
        entropy: random bytes; a second call for the same manifest must draw others.

    Returns:
        M2. Store it before sending it: it must never be made twice for one manifest.

    Raises:
        LocalProtocolError: an input does not fit its sum, or the certificate is not the manifest's.
        PeerProtocolError: this device is not a member.
    """
    manifest = signed.manifest
    own = manifest.members[manifest.index_of(certificate.device_id)].certificate
    if own != certificate or key.public_key != certificate.public_key:
        raise LocalProtocolError(f"certificate is not the one in the manifest: {certificate.device_id}")
    chosen = _choose(manifest.sums, inputs)
    words: dict[int, bytes] = {}
    shares: list[NDArray[np.uint32]] = []
    for index, spec in chosen:
        words[index], shared = _mask(signed, spec, inputs[spec.name], entropy(KEY_BYTES))
        shares.append(shared)
    nonce = entropy(SHARE_NONCE_BYTES)
    sealed = []
    for j, member in enumerate(manifest.members):
        context = seal_context(signed.mh, certificate.device_id, member.device_id, nonce, list(words))
        plain = b"".join(shared[j].astype(SHARE_DTYPE).tobytes() for shared in shares)
        sealed.append(seal(member.public_key, context, plain))
    header = Header(
        certificate=certificate.encode(),
        rank=rank,
        nonce=nonce,
        words={index: digest("words", data) for index, data in words.items()},
        sealed=tuple(digest("sealed", data) for data in sealed),
    ).encode(signed.mh)
    writer = Writer().blob(header).raw(key.sign("contribution", header))
    for data in (*sealed, *words.values()):
        writer.blob(data)
    return writer.bytes()


def _choose(sums: tuple[SumSpec, ...], inputs: Mapping[str, NDArray[np.uint32]]) -> list[tuple[int, SumSpec]]:
    """Find the sums of these inputs, in the manifest's order."""
    chosen = [(index, spec) for index, spec in enumerate(sums) if spec.name in inputs]
    if not chosen or len(chosen) != len(inputs):
        raise LocalProtocolError(f"inputs are not sums of the manifest: {', '.join(sorted(inputs))}")
    for _, spec in chosen:
        values = inputs[spec.name]
        if values.dtype != np.uint32 or values.shape != (spec.dim,):
            raise LocalProtocolError(f"input has another type or shape: {spec.name}, {values.shape}")
        if int(values.max()) >= MODULUS:
            raise LocalProtocolError(f"input holds a value of q or above: {spec.name}")
    return chosen


def _mask(
    signed: SignedManifest, spec: SumSpec, values: NDArray[np.uint32], seed: bytes
) -> tuple[bytes, NDArray[np.uint32]]:
    """Encrypt one input under a fresh key: (words, the key's shares (C, G))."""
    secret = uniform(Keystream(derive(seed, "secret")), RING).astype(np.uint64)
    errors = Keystream(derive(seed, "errors"))
    padded = np.zeros(num_words(spec), np.uint32)
    padded[: spec.dim] = values
    parts = []
    for where, mask in Expander(public_key(signed.mh, spec.name), secret).blocks(len(padded)):
        mask += padded[where]
        mask += binomial(errors, len(mask))
        mask -= np.floor(mask * (1.0 / MODULUS)) * MODULUS
        parts.append(round_to_words(mask.astype(np.uint64), signed.manifest.word_bits))
    committee = signed.manifest.committee
    stream = Keystream(derive(seed, "shares"))
    shares = share(secret, committee.size, committee.threshold, committee.packing, stream)
    return b"".join(parts), shares
