"""One-shot committee secure aggregation: bytes in, bytes out (docs/protocol.md; unaudited).

Goes in: vectors of integers modulo q on each device, random bytes, the time, and the others' messages.
Comes out: messages to send, and on the coordinator the sum over at least n_min devices, once.

It does not know what the numbers mean (`mimo_fed.privacy` does), how bytes travel (`mimo_fed.round` and
`mimo_fed.flower` do), nor where state is kept. It never reads a clock, a file, a socket or a random source,
except that sealing draws its ephemeral keys from the operating system.

Read in this order: `manifest`, `contribute`, `member`, `coordinator` are the protocol, `evidence` what
outsiders check of it; `committee`, `groups`, `messages`, `intake`, `shares` and `opening` its steps;
`shamir`, `consistency`, `decoding`, `ring`, `words`, `modular` and `backends` its arithmetic; `identity`,
`merkle` and `crypto` its keys and hashes.
"""

from mimo_fed.secagg.backends import BINOMIAL, NO_ERROR, Backend, ErrorTerm, choose
from mimo_fed.secagg.committee import (
    HELPER_SIZES,
    MAX_MEMBERS,
    MIN_MEMBERS,
    MODES,
    SAMPLED_SIZE,
    Committee,
    Mode,
    beacon,
    committee_rule,
    lottery_bound,
    lottery_number,
)
from mimo_fed.secagg.contribute import Arithmetic, contribute
from mimo_fed.secagg.coordinator import Coordinator
from mimo_fed.secagg.crypto import (
    CLASSIC,
    HYBRID,
    REFERENCE,
    SUITES,
    VERSION,
    Entropy,
    SigningKey,
    open_file,
    seal_file,
    verify,
)
from mimo_fed.secagg.evidence import Audit, verify_evidence
from mimo_fed.secagg.groups import MIN_GROUPS, assign_groups
from mimo_fed.secagg.identity import (
    Anchors,
    Certificate,
    Prekey,
    check_name,
    issue_certificate,
    make_hello,
    make_prekey,
    verify_hello,
    verify_prekey,
)
from mimo_fed.secagg.intake import verify_quorum
from mimo_fed.secagg.manifest import (
    NUM_CHECKS,
    DevicePolicy,
    Manifest,
    SignedManifest,
    SumSpec,
    make_manifest,
    verify_manifest,
)
from mimo_fed.secagg.member import Member
from mimo_fed.secagg.modular import MODULUS
from mimo_fed.secagg.opening import OpenedSum, RoundResult
from mimo_fed.secagg.ring import RING
from mimo_fed.secagg.spool import MemorySpool, Spool

__all__ = [
    "BINOMIAL",
    "CLASSIC",
    "HELPER_SIZES",
    "HYBRID",
    "MAX_MEMBERS",
    "MIN_GROUPS",
    "MIN_MEMBERS",
    "MODES",
    "MODULUS",
    "NO_ERROR",
    "NUM_CHECKS",
    "REFERENCE",
    "RING",
    "SAMPLED_SIZE",
    "SUITES",
    "VERSION",
    "Anchors",
    "Arithmetic",
    "Audit",
    "Backend",
    "Certificate",
    "Committee",
    "Coordinator",
    "DevicePolicy",
    "Entropy",
    "ErrorTerm",
    "Manifest",
    "Member",
    "MemorySpool",
    "Mode",
    "OpenedSum",
    "Prekey",
    "RoundResult",
    "SignedManifest",
    "SigningKey",
    "Spool",
    "SumSpec",
    "assign_groups",
    "beacon",
    "check_name",
    "choose",
    "committee_rule",
    "contribute",
    "issue_certificate",
    "lottery_bound",
    "lottery_number",
    "make_hello",
    "make_manifest",
    "make_prekey",
    "open_file",
    "seal_file",
    "verify",
    "verify_evidence",
    "verify_hello",
    "verify_manifest",
    "verify_prekey",
    "verify_quorum",
]
