"""Files inside Debian packages, without installing them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

from mimo_fed.errors import DataError


def unpack(package: bytes, *, what: str) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the bytes of every regular file of a package, in the order of their paths.

    Args:
        package: a `.deb`: an `ar` archive that holds a `tar` archive of the files.
        what: its name, for messages.

    Raises:
        DataError: it is not a package, is damaged, or the library that reads it is not installed.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(_data(package, what))) as archive:
            members = [member for member in archive.getmembers() if member.isfile()]
            for member in sorted(members, key=lambda one: one.name):
                file = archive.extractfile(member)
                if file is not None:
                    yield member.name.removeprefix("./"), file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"cannot unpack a package: {what}") from error


def _data(package: bytes, what: str) -> bytes:
    """Return the member that holds the files; it is named by its compression: `data.tar.xz`."""
    try:
        import arpy  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise DataError("unpacking packages needs arpy", hint="pip install 'mimo-fed[data]'") from error
    try:
        with arpy.Archive(fileobj=io.BytesIO(package)) as archive:
            for name in archive.namelist():
                if name.startswith(b"data.tar"):
                    return bytes(archive.open(name).read())
    except (arpy.ArchiveFormatError, arpy.ArchiveAccessError) as error:
        raise DataError(f"cannot unpack a package: {what}") from error
    raise DataError(f"a package without files: {what}")
