"""A program that holds 32 MiB for a moment and prints its peak."""

from __future__ import annotations

import json

from mimo_fed.bench.memory import peak_bytes, raised_by

if __name__ == "__main__":
    begun = peak_bytes()
    print(json.dumps({"peak": begun, "raised": raised_by(lambda: bytearray(b"\1") * (32 << 20))}))
