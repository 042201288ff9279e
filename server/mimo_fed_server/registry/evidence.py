"""What the registry looks at in a round's evidence: its form, and which votes are in it.

It has no keys to trust and verifies no signature; whoever has the anchors does (`mimo-fed round verify`).
"""

from __future__ import annotations

from mimo_fed.errors import PeerProtocolError
from mimo_fed.secagg.evidence import decode_evidence, quorum_digest
from mimo_fed_server.registry.problems import BadRequest


def read_quorum_digest(evidence: bytes) -> str:
    """Return the hash of the quorum certificate in a round's evidence, hexadecimal.

    Raises:
        BadRequest: it is not the form of evidence.
    """
    try:
        _, _, certificate = decode_evidence(evidence)
    except PeerProtocolError as error:
        raise BadRequest(f"not the evidence of a round: {error.message}") from None
    return quorum_digest(certificate)
