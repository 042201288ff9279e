"""What can be said of a helper from its home alone, whether its service runs or not."""

from __future__ import annotations

from time import gmtime, strftime
from typing import Any

from mimo_fed.events import read_events
from mimo_fed_client.helper_log import read_log, rounds_of
from mimo_fed_client.helper_settings import TEST_ONLY, HelperSettings
from mimo_fed_client.identity import known_key, load_identity
from mimo_fed_client.lock import running_agent

SHOWN = 10
"""newest rounds in the text; JSON has all"""


def helper_status(settings: HelperSettings) -> dict[str, Any]:
    """Return a helper's state and every round it took part in, as JSON values; nothing is changed.

    Raises:
        ConfigError: the certificate is another's, or the round log is damaged.
    """
    home = settings.home
    identity, key = load_identity(settings), known_key(settings)
    last, trust = None, None
    for _, event in read_events(home / "events.jsonl"):
        last, trust = event, event if event["kind"] == "trust" else trust
    return {
        "helper": settings.helper_id,
        "pid": running_agent(home),
        "public_key": key.public_key.hex() if key else None,
        "enrolled": identity is not None,
        "certificate_serial": identity.certificate.serial if identity else None,
        "pinned": trust["pinned"] if trust else None,
        "revoked": trust["revoked"] if trust else None,
        "test_only": settings.policy.test_only,
        "rounds": rounds_of(read_log(home / "rounds.jsonl")),
        "last_event": last,
    }


def status_lines(found: dict[str, Any]) -> list[str]:
    """Write a status for people."""
    runs = f"runs as process {found['pid']}" if found["pid"] else "does not run"
    pinned = {True: "pinned", False: "not pinned", None: "never saw the registry"}[found["pinned"]]
    enrolled = "enrolled" if found["enrolled"] else "not enrolled"
    rounds = found["rounds"]
    lines = [
        f"{found['helper']}: {runs}, {enrolled}, {pinned}",
        f"  public key {found['public_key'] or 'not made yet'}",
        f"  {len(rounds)} rounds joined, {sum(r['opened_at'] is not None for r in rounds)} opened",
    ]
    lines += ["  its certificate is revoked"] * bool(found["revoked"])
    lines += [_round_line(one) for one in rounds[-SHOWN:]]
    return lines + [TEST_ONLY] * found["test_only"]


def _round_line(one: dict[str, Any]) -> str:
    joined = strftime("%Y-%m-%d %H:%M:%SZ", gmtime(one["joined_at"]))
    counts = ", ".join(f"{name} of {num}" for name, num in one["sums"].items())
    state = "opened" if one["opened_at"] else "voted" if one["voted_at"] else "joined"
    return f"  {joined}  {one['round_id']} ({one['round_kind']}): {state} {counts}".rstrip()
