"""A child of the demo: loads the base model once, so that it is in the cache, and writes the adapter's shape.

It is a process of its own because it needs torch, and the demo's process stays light beside eight agents.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mimo_fed.adapter import AdapterSpec
from mimo_fed.config import AdapterConfig


def prepare(base: str, spec_file: Path) -> None:
    """Write the spec of the global adapter for the base model of that name."""
    from mimo_fed.model import load_base

    loaded = load_base(base)
    config = AdapterConfig()
    spec = AdapterSpec(
        base_fingerprint=loaded.fingerprint, modules=loaded.modules(config.targets), config=config
    )
    spec_file.write_bytes(spec.to_json())


def main() -> None:
    """Read the arguments and prepare."""
    parser = argparse.ArgumentParser(prog="python -m mimo_fed.demo.prepare", description=__doc__)
    parser.add_argument("--base", required=True)
    parser.add_argument("--spec", required=True, type=Path)
    arguments = parser.parse_args()
    prepare(arguments.base, arguments.spec)


if __name__ == "__main__":
    main()
