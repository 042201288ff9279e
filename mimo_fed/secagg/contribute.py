"""M2: a device's whole part of a round in one message (docs/protocol.md 5.6).

For each sum the device draws a fresh ring element s and masks its input with a s + e; then it shares all of
its ring elements among the members, with a proof that the shares fit together. Afterwards it may vanish: its
contribution counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mimo_fed.codec import Writer
from mimo_fed.errors import LocalProtocolError
from mimo_fed.secagg.backends import BINOMIAL, NO_ERROR, Backend, ErrorTerm, Run, choose, in_turn
from mimo_fed.secagg.consistency import prove
from mimo_fed.secagg.crypto import (
    KEY_BYTES,
    REFERENCE,
    Entropy,
    Keystream,
    SigningKey,
    derive,
    digest,
    digest_of,
    seal,
)
from mimo_fed.secagg.identity import Certificate
from mimo_fed.secagg.manifest import SignedManifest, SumSpec, num_words
from mimo_fed.secagg.merkle import leaf, root
from mimo_fed.secagg.messages import SHARE_NONCE_BYTES, Header, encode_statement, mask_of, seal_context
from mimo_fed.secagg.modular import MODULUS
from mimo_fed.secagg.ring import RING, public_key, uniform
from mimo_fed.secagg.shamir import SHARE_DTYPE, share


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """How masks are computed; the result is the same whatever is chosen, but for `error`.

    Attributes:
        backend: one of `backends`.
        run: executes independent pieces of work; a driver may give a thread pool's.
        error: what is added to each masked value; None: the suite's own. The seam for differential privacy,
            whose noise takes this place.
    """

    backend: Backend = field(default_factory=choose)
    run: Run = in_turn
    error: ErrorTerm | None = None

    def error_of(self, suite: str) -> ErrorTerm:
        """Return the error term in force."""
        return self.error or (NO_ERROR if suite == REFERENCE else BINOMIAL)


def contribute(
    signed: SignedManifest,
    key: SigningKey,
    certificate: Certificate,
    rank: int,
    inputs: Mapping[str, NDArray[np.uint32]],
    entropy: Entropy,
    arithmetic: Arithmetic | None = None,
) -> bytes:
    """Mask the inputs, share their keys, sign the whole.

    Args:
        signed: the verified manifest.
        key: the device's.
        certificate: the device's; in mode all the one its prekey in the manifest carries.
        rank: of the device's adapter.
        inputs: sum name to (dim,) residues below q; only the sums this device takes part in.
        entropy: random bytes; a second call for the same manifest must draw others.
        arithmetic: how masks are computed.

    Returns:
        M2. Store it before sending it: it must never be made twice for one manifest.

    Raises:
        LocalProtocolError: an input does not fit its sum, or the certificate is not the manifest's.
        PeerProtocolError: this device is not of the cohort.
    """
    arithmetic = arithmetic or Arithmetic()
    manifest = signed.manifest
    _check_own(signed, key, certificate)
    chosen = _choose(signed, certificate.device_id, inputs)
    secrets, words = [], []
    for _, spec in chosen:
        secret, data = _mask(signed, spec, inputs[spec.name], entropy(KEY_BYTES), arithmetic)
        secrets.append(secret)
        words.append(data)
    nonce, sums = entropy(SHARE_NONCE_BYTES), mask_of(index for index, _ in chosen)
    committee = manifest.committee
    stream = Keystream(derive(entropy(KEY_BYTES), "shares"))
    sharing = share(secrets, committee.size, committee.threshold, committee.packing, stream)
    sealed = _seal_rows(signed, certificate.device_id, nonce, sums, sharing.shares())
    tree, hashed = root([leaf(data) for data in sealed]), digest_of("words", words)
    statement = encode_statement(signed.mh, certificate, rank, nonce, sums, hashed, tree)
    header = Header(
        certificate=certificate,
        rank=rank,
        nonce=nonce,
        sums=sums,
        words=hashed,
        sealed=tree,
        proof=prove(sharing, digest("challenge", statement)),
    ).encode(signed.mh)
    return b"".join((Writer().blob(header).raw(key.sign("contribution", header)).bytes(), *sealed, *words))


def _check_own(signed: SignedManifest, key: SigningKey, certificate: Certificate) -> None:
    manifest, own = signed.manifest, certificate
    if manifest.mode == "all":
        own = manifest.members[manifest.index_of(certificate.device_id)].certificate
    if own != certificate or key.public_key != certificate.public_key:
        raise LocalProtocolError(f"certificate is not the one in the manifest: {certificate.device_id}")


def _choose(
    signed: SignedManifest, device_id: str, inputs: Mapping[str, NDArray[np.uint32]]
) -> list[tuple[int, SumSpec]]:
    """Find the sums of these inputs, in the manifest's order."""
    sums = signed.manifest.sums
    chosen = [(i, sums[i]) for i in signed.sums_open_to(device_id) if sums[i].name in inputs]
    if not chosen or len(chosen) != len(inputs):
        raise LocalProtocolError(
            f"inputs are not sums that are open to this device: {', '.join(sorted(inputs))}"
        )
    for _, spec in chosen:
        values = inputs[spec.name]
        if values.dtype != np.uint32 or values.shape != (spec.dim,):
            raise LocalProtocolError(f"input has another type or shape: {spec.name}, {values.shape}")
        if int(values.max()) >= MODULUS:
            raise LocalProtocolError(f"input holds a value of q or above: {spec.name}")
    return chosen


def _mask(
    signed: SignedManifest,
    spec: SumSpec,
    values: NDArray[np.uint32],
    seed: bytes,
    arithmetic: Arithmetic,
) -> tuple[NDArray[np.uint64], bytearray]:
    """Encrypt one input under a fresh key: (the key, words)."""
    secret = uniform(Keystream(derive(seed, "secret")), RING)
    padded_D = np.zeros(num_words(spec), np.uint32)
    padded_D[: spec.dim] = values
    words = arithmetic.backend.protect(
        public=public_key(signed.mh, spec.name),
        secret=secret,
        errors_key=derive(seed, "errors"),
        error=arithmetic.error_of(signed.manifest.suite),
        values_D=padded_D,
        word_bits=signed.manifest.word_bits,
        run=arithmetic.run,
    )
    return secret.astype(np.uint64), words


def _seal_rows(
    signed: SignedManifest, sender: str, nonce: bytes, sums: int, rows: NDArray[np.uint32]
) -> Sequence[bytes]:
    """Seal each member's row of shares to its prekey."""
    manifest, sealed = signed.manifest, []
    for member, row in zip(manifest.members, rows, strict=True):
        context = seal_context(signed.mh, sender, member.device_id, nonce, sums)
        sealed.append(seal(manifest.suite, member.public_key, context, row.astype(SHARE_DTYPE).tobytes()))
    return sealed
