"""Files that are whole after a power cut: written aside, flushed, renamed, and the folder flushed too."""

from __future__ import annotations

import os
from pathlib import Path

from mimo_fed.errors import InstallError

ASIDE = ".new"
"""ending of a file that is not finished; what a kill leaves is overwritten or removed, never read"""


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file's content at once and for good; only its owner may read it.

    Raises:
        InstallError: the disk is full or read-only; the old content is still there.
    """
    aside = path.with_name(path.name + ASIDE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        aside.replace(path)
        sync(path.parent)
    except OSError as error:
        _forget(aside)
        raise InstallError(
            f"a file cannot be written ({error.strerror}): {path}",
            hint="what is installed goes on; free some disk space, or check the folder's rights",
        ) from error


def remove_durably(path: Path) -> None:
    """Remove a file for good; nothing happens if there is none.

    Raises:
        InstallError: the folder is read-only.
    """
    try:
        path.unlink(missing_ok=True)
        sync(path.parent)
    except OSError as error:
        raise InstallError(f"a file cannot be removed ({error.strerror}): {path}") from error


def sync(path: Path) -> None:
    """Make a file's content, or the renames and removals in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forget(aside: Path) -> None:
    try:
        aside.unlink(missing_ok=True)
    except OSError:
        return
