"""One-shot committee secure aggregation: bytes in, bytes out (docs/protocol.md; unaudited).

Goes in: vectors of integers modulo q on each device, random bytes, the time, and the others' messages.
Comes out: messages to send, and on the coordinator the sum over at least n_min devices, once.

It does not know what the numbers mean (`mimo_fed.privacy` does), how bytes travel (`mimo_fed.round` and
`mimo_fed.flower` do), nor where state is kept. It never reads a clock, a file, a socket or a random source,
except that sealing draws its ephemeral keys from the operating system.

Read in this order: `manifest`, `contribute`, `member`, `coordinator` are the protocol; `messages`, `intake`,
`shares` and `opening` its steps; `ring`, `words`, `shamir`, `modular` its arithmetic; `identity` and `crypto`
its keys.
"""

from mimo_fed.secagg.contribute import contribute
from mimo_fed.secagg.coordinator import Coordinator
from mimo_fed.secagg.crypto import SUITE, Entropy, SigningKey, open_file, seal_file, verify
from mimo_fed.secagg.identity import (
    Anchors,
    Certificate,
    Prekey,
    issue_certificate,
    make_hello,
    make_prekey,
    verify_hello,
    verify_prekey,
)
from mimo_fed.secagg.intake import verify_quorum
from mimo_fed.secagg.manifest import (
    NUM_CHECKS,
    Committee,
    DevicePolicy,
    Manifest,
    SignedManifest,
    SumSpec,
    committee_rule,
    make_manifest,
    verify_manifest,
)
from mimo_fed.secagg.member import Member
from mimo_fed.secagg.modular import MODULUS
from mimo_fed.secagg.opening import OpenedSum, RoundResult
from mimo_fed.secagg.ring import RING
from mimo_fed.secagg.spool import MemorySpool, Spool

__all__ = [
    "MODULUS",
    "NUM_CHECKS",
    "RING",
    "SUITE",
    "Anchors",
    "Certificate",
    "Committee",
    "Coordinator",
    "DevicePolicy",
    "Entropy",
    "Manifest",
    "Member",
    "MemorySpool",
    "OpenedSum",
    "Prekey",
    "RoundResult",
    "SignedManifest",
    "SigningKey",
    "Spool",
    "SumSpec",
    "committee_rule",
    "contribute",
    "issue_certificate",
    "make_hello",
    "make_manifest",
    "make_prekey",
    "open_file",
    "seal_file",
    "verify",
    "verify_hello",
    "verify_manifest",
    "verify_prekey",
    "verify_quorum",
]
