"""Files that an installed package carries; the package itself is not imported."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path

from mimo_fed.errors import DataError


@dataclass(kw_only=True)
class Packaged:
    """A package's folder, and what was read of it."""

    folder: Path
    version: str
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of every file read, by its path in the package"""

    def read(self, name: str) -> bytes:
        """Read a file.

        Raises:
            DataError: it cannot be read.
        """
        path = self.folder / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read a file of a package: {path}: {error.strerror}") from error
        self.digests[f"{self.folder.name}/{name}"] = hashlib.sha256(data).hexdigest()
        return data

    @property
    def files(self) -> list[dict[str, str]]:
        """What was read, for a manifest."""
        return [{"name": name, "sha256": digest} for name, digest in sorted(self.digests.items())]


def packaged(module: str, distribution: str, *, hint: str) -> Packaged:
    """Find an installed package.

    Args:
        module: as it is imported.
        distribution: as it is installed.
        hint: how to install it.

    Raises:
        DataError: it is not installed.
    """
    found = util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise DataError(f"a package with texts is not installed: {distribution}", hint=hint)
    return Packaged(
        folder=Path(next(iter(found.submodule_search_locations))), version=metadata.version(distribution)
    )
