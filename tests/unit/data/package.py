"""A package as it lies on disk after installing, small enough for a test."""

from importlib import metadata
from pathlib import Path

import pytest


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, version: str) -> Path:
    """Make an empty package that can be found; return its folder."""
    made = folder / module
    made.mkdir(parents=True)
    (made / "__init__.py").write_text('raise RuntimeError("a package with texts is not imported")\n')
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(folder))
    assert metadata.version(name) == version
    return made
