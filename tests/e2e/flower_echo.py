"""Programs of `test_flower.py`: a device that answers with what it was sent, and a coordinator that asks."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from pathlib import Path

from mimo_fed.flower import FlowerFleet
from mimo_fed_client.node import EmbeddedNode

DEVICES = ("device-1", "device-2")


def device(name: str, superlink: str) -> None:
    """Serve until killed; the stage `slow` takes three seconds."""

    def handler(stage: str, payload: bytes) -> bytes:
        if stage == "hello":
            return payload + name.encode()
        if stage == "slow":
            time.sleep(3)
        return hashlib.sha256(payload).digest() + payload

    EmbeddedNode(superlink, handler).run(threading.Event())


def identify(nonce: bytes, answer: bytes) -> str:
    assert answer.startswith(nonce)
    return answer[len(nonce) :].decode()


def coordinate(grid: object, folder: Path) -> None:
    """Ask twice for 5 MB, quickly and slowly; write down what came back and how long it took."""
    (folder / "started").touch()
    fleet = FlowerFleet(grid, identify)  # type: ignore[arg-type]
    while fleet.discover(deadline_at_s=time.time() + 5) != DEVICES:
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
    (folder / "part").write_text(json.dumps(results))
    (folder / "part").rename(folder / "results.json")


if __name__ == "__main__":
    device(sys.argv[1], sys.argv[2])
