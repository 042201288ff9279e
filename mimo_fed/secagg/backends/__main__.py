"""Prepare the back end of this machine: `python -m mimo_fed.secagg.backends [name]`.

Run it when a device's image is built: numba then finds its loops compiled.
"""

from __future__ import annotations

import sys
from time import perf_counter

from mimo_fed.errors import ConfigError
from mimo_fed.secagg.backends import choose


def main(arguments: list[str]) -> int:
    """Prepare the back end named, or the usual one; print its name and how long it took."""
    start_s = perf_counter()
    try:
        backend = choose(*arguments[:1])
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    backend.prepare()
    print(f"{backend.name}: ready after {perf_counter() - start_s:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
