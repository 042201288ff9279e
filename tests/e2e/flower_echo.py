"""Programs of `test_flower.py`: a device that answers with what it was sent, and a coordinator that asks."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from pathlib import Path

from mimo_fed.flower import FlowerFleet
from mimo_fed.secagg import Certificate
from mimo_fed_client.node import EmbeddedNode

DEVICES = ("device-1", "device-2")
REST_S = 8.0


def device(name: str, superlink: str) -> None:
    """Serve until killed; the stage `slow` takes three seconds, and `later` sends it away for eight."""

    def handler(stage: str, payload: bytes) -> bytes:
        if stage == "hello":
            return payload + name.encode()
        if stage == "slow":
            time.sleep(3)
        if stage == "later":
            node.rest(REST_S)
        return hashlib.sha256(payload).digest() + payload

    node = EmbeddedNode(superlink, handler)
    node.run(threading.Event())


def identify(nonce: bytes, answer: bytes) -> Certificate:
    """Believe the name; what a certificate proves is tested elsewhere."""
    assert answer.startswith(nonce)
    return Certificate(
        device_id=answer[len(nonce) :].decode(),
        public_key=bytes(32),
        serial=1,
        not_before_s=0,
        not_after_s=1,
        signature=bytes(64),
    )


def there(fleet: FlowerFleet, seconds: float = 5.0) -> tuple[str, ...]:
    """Ids of the devices that say hello."""
    return tuple(c.device_id for c in fleet.discover(deadline_at_s=time.time() + seconds))


def coordinate(grid: object, folder: Path) -> None:
    """Ask twice for 5 MB, quickly and slowly; write down what came back and how long it took."""
    (folder / "started").touch()
    fleet = FlowerFleet(grid, identify)  # type: ignore[arg-type]
    while there(fleet) != DEVICES:
        time.sleep(0.2)
    results = {}
    for stage in ("quick", "slow"):
        started, payload = time.monotonic(), bytes(range(256)) * 20_000
        (folder / f"asking-{stage}").touch()
        answers = {
            a.device_id: a.payload == hashlib.sha256(payload).digest() + payload
            for a in fleet.ask(
                stage, dict.fromkeys(DEVICES, payload), deadline_at_s=time.time() + 150, stop=lambda: False
            )
        }
        results[stage] = {"right": answers, "seconds": round(time.monotonic() - started, 2)}
    results["rest"] = rest(fleet)
    (folder / "part").write_text(json.dumps(results))
    (folder / "part").rename(folder / "results.json")


def rest(fleet: FlowerFleet) -> dict[str, object]:
    """Send the first device away, see it leave and come back; for how long it was not there."""
    away, stay = DEVICES
    for _ in fleet.ask("later", {away: b""}, deadline_at_s=time.time() + 20, stop=lambda: False):
        pass
    started = time.monotonic()
    while there(fleet) != (stay,):
        time.sleep(0.2)
    while there(fleet) != DEVICES:
        time.sleep(0.2)
    return {"seconds": round(time.monotonic() - started, 2)}


if __name__ == "__main__":
    device(sys.argv[1], sys.argv[2])
