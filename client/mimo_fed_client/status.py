"""What can be said of a device from its home alone, whether its agent runs or not."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from mimo_fed.errors import ConfigError
from mimo_fed.events import read_events
from mimo_fed_client.identity import load_identity
from mimo_fed_client.lock import running_agent
from mimo_fed_client.settings import AgentSettings
from mimo_fed_client.slots import Slots
from mimo_fed_client.usage import Usage


def status(settings: AgentSettings) -> dict[str, Any]:
    """Return a device's state as JSON values; nothing is changed."""
    home = settings.home
    damage: list[str] = []
    identity = load_identity(settings)
    slots = Slots(home / "slots", damage.append)
    current = slots.current()
    last = deque((event for _, event in read_events(home / "events.jsonl")), maxlen=1)
    usage = Usage(home / "usage.json")
    return {
        "device": settings.device_id,
        "pid": running_agent(home),
        "enrolled": identity is not None,
        "certificate_serial": identity.certificate.serial if identity else None,
        "release": current.info.number if current else None,
        "digest": current.info.digest if current else None,
        "bad_releases": {str(number): reason for number, reason in slots.bad().items()},
        "damage": damage,
        "test_only": settings.policy.test_only,
        "bytes_up": usage.bytes_up,
        "bytes_down": usage.bytes_down,
        "last_event": last[0] if last else None,
    }


def status_lines(found: dict[str, Any]) -> list[str]:
    """Write a status for people."""
    runs = f"runs as process {found['pid']}" if found["pid"] else "does not run"
    release = "no release yet" if found["release"] is None else f"release {found['release']}"
    lines = [
        f"{found['device']}: {runs}, {'enrolled' if found['enrolled'] else 'not enrolled'}, serves {release}",
        f"  sent {found['bytes_up'] / 1e6:.2f} MB, received {found['bytes_down'] / 1e6:.2f} MB",
    ]
    lines += [f"  release {number} is bad here: {why}" for number, why in found["bad_releases"].items()]
    lines += [f"  {what}" for what in found["damage"]]
    if found["last_event"]:
        lines.append(f"  last event: {found['last_event'].get('kind')}")
    return lines + [TEST_ONLY] * found["test_only"]


def read_report(settings: AgentSettings) -> dict[str, Any]:
    """Read what the device measured about itself.

    Raises:
        ConfigError: there is no report yet.
    """
    path = settings.home / "report.json"
    try:
        report: dict[str, Any] = json.loads(path.read_bytes())
    except OSError:
        raise ConfigError(
            f"device has not reported yet: {path}",
            hint="it does after the last release of a run, or after each with install.measure = true",
        ) from None
    return report


def report_lines(report: dict[str, Any]) -> list[str]:
    """Write a report for people."""
    bpb = report["bpb"]
    seconds = ", ".join(f"{part} {value:.1f}" for part, value in report["seconds"].items())
    return [
        f"{report['name']}, release {report['release']}: bits per byte on its own test text",
        f"  base {bpb['base']:.4f}   global {bpb['global']:.4f}   personal {bpb['personal']:.4f}"
        f"   (share {report['lambda']:g})",
        f"  sent {report['bytes_up'] / 1e6:.2f} MB, received {report['bytes_down'] / 1e6:.2f} MB",
        f"  seconds: {seconds}",
    ]


TEST_ONLY = (
    "TEST ONLY: this device accepts sums of fewer than 16 devices; such a sum may show what one of them sent"
)
