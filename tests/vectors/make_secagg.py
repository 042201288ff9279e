"""Write `secagg/*.json`: vectors of docs/protocol.md, good and `bad_*`, as lists of operations.

The package does each operation, and what came of it is written down; `verify_secagg` then does the same with
a second implementation. All randomness comes from seeds, and so the files are the same in every run, with one
exception: HPKE draws its ephemeral keys by itself. So sealed bytes are recorded. Those in the files are kept
as long as they open, with the recipient's key and the context that belongs to them, to what is to be sealed
there; where they do not, fresh ones are sealed and recorded. `--fresh` keeps none. Run

    python -m tests.vectors.make_secagg

after the protocol changes on purpose, and never to make a failing test pass.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from tests.vectors import store
from tests.vectors.making import (
    committees,
    identity,
    manifests,
    primitives,
    round_all,
    round_groups,
    round_helper,
    round_reference,
    round_sampled,
)
from tests.vectors.making.book import Book

MAKERS: dict[str, Callable[[Mapping[str, Any] | None], Book]] = {
    "committees": committees.make,
    "identity": identity.make,
    "manifests": manifests.make,
    "primitives": primitives.make,
    "round_all": round_all.make,
    "round_groups": round_groups.make,
    "round_helper": round_helper.make,
    "round_reference": round_reference.make,
    "round_sampled": round_sampled.make,
}


def text(name: str, *, fresh: bool = False) -> str:
    """A file, made anew; sealed bytes that are on disk are kept unless `fresh`."""
    path = store.FOLDER / f"{name}.json"
    return MAKERS[name](store.load(path) if path.exists() and not fresh else None).text()


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description="Write the vectors of the aggregation protocol.")
    parser.add_argument("--fresh", action="store_true", help="seal everything anew")
    fresh = parser.parse_args().fresh
    store.FOLDER.mkdir(exist_ok=True)
    for name in MAKERS:
        (store.FOLDER / f"{name}.json").write_text(text(name, fresh=fresh))


if __name__ == "__main__":
    main()
