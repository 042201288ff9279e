"""A folder of devices' texts: one file of texts a device, and a manifest that says where they come from.

The manifest holds the digest of every file. Texts that are not what the manifest says are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mimo_fed.data.corpus import DemoDevice, from_lines, to_lines
from mimo_fed.errors import DataError

MANIFEST = "manifest.json"
FORMAT = "mimo-fed devices 1"
DEMO_FOLDER = Path(__file__).parent / "demo"


def load_demo() -> tuple[DemoDevice, ...]:
    """Load the eight devices that come with the package."""
    return load_extract(DEMO_FOLDER)


def load_extract(folder: Path) -> tuple[DemoDevice, ...]:
    """Load the devices of a folder.

    Raises:
        DataError: the manifest or a file is missing or malformed, or a file is not what the manifest says.
    """
    manifest = load_manifest(folder)
    try:
        return tuple(_load_device(folder, record) for record in manifest["devices"])
    except (KeyError, TypeError) as error:
        raise DataError(f"manifest of devices is malformed: {folder / MANIFEST}: {error}") from error


def load_manifest(folder: Path) -> dict[str, Any]:
    """Load what a folder says about itself.

    Raises:
        DataError: there is no manifest, or it is not one.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"no manifest of devices: {path}", hint="build one with `mimo-fed data build debian`"
        ) from error
    except ValueError as error:
        raise DataError(f"manifest is not JSON: {path}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"not a manifest of devices: {path}")
    return manifest


def write_extract(
    folder: Path,
    devices: Sequence[DemoDevice],
    provenance: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write devices and where their texts come from; the manifest goes last.

    Args:
        folder: it is made.
        devices: whose names become the names of files.
        provenance: where the texts come from.
        facts: what else the manifest says; `task` and `labels`, for instance.

    Raises:
        DataError: a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        records = [_write_device(folder, device) for device in devices]
        manifest = {"format": FORMAT, **(facts or {}), "devices": records, "provenance": dict(provenance)}
        text = json.dumps(manifest, ensure_ascii=False, indent=1) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"cannot write devices: {folder}: {error.strerror}") from error


def _write_device(folder: Path, device: DemoDevice) -> dict[str, Any]:
    data = to_lines(device.texts).encode()
    file = f"{device.name}.jsonl"
    (folder / file).write_bytes(data)
    return {
        "name": device.name,
        "author": device.author,
        "language": device.language,
        "translated": device.translated,
        "label": device.label,
        "device_class": device.device_class,
        "rank": device.rank,
        "file": file,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _load_device(folder: Path, record: Mapping[str, Any]) -> DemoDevice:
    path = folder / Path(record["file"]).name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read texts: {path}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise DataError(f"texts are not those of the manifest: {path}")
    return DemoDevice(
        name=record["name"],
        author=record["author"],
        language=record["language"],
        translated=record["translated"],
        label=record.get("label", ""),
        device_class=record["device_class"],
        rank=record["rank"],
        texts=from_lines(data.decode("utf-8", errors="replace"), what=str(path)),
    )
