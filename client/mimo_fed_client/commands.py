"""What the commands of a device and of a helper organisation have in common.

Imports are inside the functions, so that `--help` needs no network library.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    import threading

    from mimo_fed.secagg import Certificate


def tell(value: Any, lines: list[str], as_json: bool) -> None:
    """Print one JSON value, or the lines for people."""
    typer.echo(json.dumps(value) if as_json else "\n".join(lines))


def tell_enrolled(who: Literal["device", "helper"], certificate: Certificate, as_json: bool) -> None:
    """Print what the enrolment authority has signed."""
    made = {
        who: certificate.device_id,
        "serial": certificate.serial,
        "public_key": certificate.public_key.hex(),
        "not_after_s": certificate.not_after_s,
    }
    tell(made, [f"{certificate.device_id} is enrolled, certificate {certificate.serial}"], as_json)


def stop_on_signals() -> threading.Event:
    """Return an event that Ctrl-C and SIGTERM set, in place of ending the process."""
    import signal
    import threading
    from types import FrameType

    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop
