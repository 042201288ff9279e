"""Check the vectors of docs/protocol.md with a second implementation of it: `second`.

It prints for each file how many operations went as stated, and fails if one did not. Run

    python tests/vectors/verify_secagg.py [--json] [FILE ...]

It needs `cryptography` and nothing else; nothing of the package under test is imported.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.vectors import store
from tests.vectors.second.operations import Sessions


def main() -> int:
    """Check the files, print, and return how the process should end."""
    parser = argparse.ArgumentParser(description="Check the vectors of the aggregation protocol.")
    parser.add_argument("files", nargs="*", type=Path, default=store.paths())
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    reports = {path.name: store.check(store.load(path), Sessions().execute) for path in arguments.files}
    if arguments.json:
        print(json.dumps({name: vars(report) for name, report in reports.items()}, indent=1))
    else:
        for name, report in reports.items():
            print(f"{name}: {report.passed} passed, {len(report.failed)} failed")
            for wrong in report.failed:
                print(f"  {wrong}")
    return 1 if not reports or any(report.failed for report in reports.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
