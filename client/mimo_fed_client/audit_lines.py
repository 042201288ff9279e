"""An audit in plain words, and as JSON: what it shows of a round, and what it does not."""

from __future__ import annotations

from typing import Any, Final

from mimo_fed.secagg.committee import committee_rule
from mimo_fed_client.audit import HINT, SAFE_N_MIN, Finding

NOT_SHOWN: Final = (
    "that the released adapter follows from these sums",
    "that the devices are different people's: whoever runs the enrolment authority decides who is a device",
    "that everybody is shown the same releases: there is no public log of them",
)


def lines(finding: Finding) -> list[str]:
    """Say in plain words what was shown, and what was not."""
    audit, info = finding.audit, finding.info
    rule = committee_rule(audit.mode, audit.num_members)
    of = f"release {info.number} of channel {info.channel}" if info else "a file, compared with no release"
    names = max(map(len, (*audit.opened, *audit.closed)))
    return [
        f"The evidence holds: {of}, round {audit.round_id}.",
        f"  votes      {len(audit.voters)} of the {audit.num_members} members of the committee, "
        f"mode {audit.mode}; {rule.quorum} were needed",
        f"  ballot     {len(audit.survivors)} devices in {len(audit.opened)} opened sums, "
        f"{len(audit.closed)} stayed closed",
        *(f"    {n:<{names}}  {size} devices, n_min {audit.n_min[n]}" for n, size in audit.opened.items()),
        *(f"    {name:<{names}}  closed" for name in audit.closed),
        f"  base       {_base_line(finding)}",
        f"  votes' hash  {audit.quorum_digest}",
        "Shown: the members voted for these sets of devices, and each opened sum has at least n_min of them.",
        f"No other sets can have been opened, unless more than {rule.corrupt} of the members are corrupt.",
        "Not shown:",
        *(f"  - {what}" for what in NOT_SHOWN),
        HINT[0].upper() + HINT[1:] + ".",
        *[test_only_line(finding)] * finding.test_only,
    ]


def test_only_line(finding: Finding) -> str:
    """Warn of a round whose sums may be too small."""
    least = min(finding.audit.n_min.values())
    return f"TEST ONLY: n_min is {least}, below {SAFE_N_MIN}; a sum of so few may show what one of them sent"


def _base_line(finding: Finding) -> str:
    base, info, digest = finding.base, finding.info, finding.audit.base_digest
    if info is None:
        return f"not checked: {digest}"
    if base is None:
        return f"not checked, since the release before this one is not listed any more: {digest}"
    late = f", with others since, up to {info.parent}" if base.number < info.parent else ""
    return f"release {base.number}{late}: {digest}"


def to_json(finding: Finding) -> dict[str, Any]:
    """Say the same as JSON values."""
    audit, info, base = finding.audit, finding.info, finding.base
    rule = committee_rule(audit.mode, audit.num_members)
    return {
        "holds": True,
        "release": info.number if info else None,
        "channel": info.channel if info else None,
        "round_id": audit.round_id,
        "quorum_digest": audit.quorum_digest,
        "mode": audit.mode,
        "members": audit.num_members,
        "quorum": rule.quorum,
        "corrupt": rule.corrupt,
        "voters": list(audit.voters),
        "survivors": list(audit.survivors),
        "opened": [
            {"name": name, "num_devices": size, "n_min": audit.n_min[name]}
            for name, size in audit.opened.items()
        ],
        "closed": list(audit.closed),
        "base_digest": audit.base_digest,
        "base_release": base.number if base else None,
        "test_only": finding.test_only,
        "not_shown": list(NOT_SHOWN),
    }
