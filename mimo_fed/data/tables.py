"""What a set holds, as figures for programs and as tables for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mimo_fed.data.corpus import SPLITS, DemoDevice

if TYPE_CHECKING:
    from rich.table import Table


def summary(device: DemoDevice) -> dict[str, Any]:
    """Say what a device holds, without the texts."""
    splits = {
        split: {
            "texts": sum(text.split == split for text in device.texts),
            "characters": sum(len(text.text) for text in device.texts if text.split == split),
        }
        for split in SPLITS
    }
    return {
        "name": device.name,
        "author": device.author,
        "language": device.language,
        "translated": device.translated,
        "device_class": device.device_class,
        "rank": device.rank,
        "splits": splits,
    }


def by_language(devices: Iterable[DemoDevice]) -> dict[str, dict[str, Any]]:
    """Say for every language how many users it has and how many characters they have in each split."""
    found: dict[str, list[DemoDevice]] = {}
    for device in devices:
        found.setdefault(language_of(device), []).append(device)
    order = sorted(found, key=lambda language: (-len(found[language]), language))
    return {language: sizes(found[language]) for language in order}


def sizes(devices: Sequence[DemoDevice]) -> dict[str, Any]:
    """Say how many users there are, and their characters by split: the median user's, and all together."""
    splits = [summary(device)["splits"] for device in devices]
    characters = {name: [one[name]["characters"] for one in splits] for name in SPLITS}
    return {
        "users": len(devices),
        "splits": {
            name: {"median": round(statistics.median(found)), "total": sum(found)}
            for name, found in characters.items()
        },
    }


def language_of(device: DemoDevice) -> str:
    """Return the language, in brackets if the texts are translations."""
    return f"({device.language})" if device.translated else device.language


def users_table(devices: Sequence[DemoDevice]) -> Table:
    """Draw one line a user."""
    table = _table("device", "author", "text", "class", right=("rank", *SPLITS))
    for device in devices:
        splits = summary(device)["splits"]
        sizes = [f"{splits[name]['texts']} / {splits[name]['characters']}" for name in SPLITS]
        row = (device.name, device.author, language_of(device), device.device_class, str(device.rank))
        table.add_row(*row, *sizes)
    table.caption = "texts / characters in each split"
    return table


def languages_table(devices: Sequence[DemoDevice]) -> Table:
    """Draw one line a language, and one for all."""
    table = _table("text", right=("users", *SPLITS))
    for language, found in by_language(devices).items():
        table.add_row(language, *_cells(found))
    table.add_section()
    table.add_row("all", *_cells(sizes(devices)))
    table.caption = "characters: of the median user / of all users"
    return table


def classes_table(devices: Sequence[DemoDevice]) -> Table:
    """Draw one line a device class and rank."""
    table = _table("class", right=("rank", "users"))
    kinds = [(device.device_class, device.rank) for device in devices]
    for kind in sorted(set(kinds), key=lambda kind: (kind[1], kind[0])):
        table.add_row(kind[0], str(kind[1]), str(kinds.count(kind)))
    return table


def _cells(found: dict[str, Any]) -> list[str]:
    splits = found["splits"]
    return [str(found["users"]), *(f"{splits[name]['median']} / {splits[name]['total']}" for name in SPLITS)]


def _table(*left: str, right: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, show_edge=False, pad_edge=False)
    for heading in left:
        table.add_column(heading, no_wrap=True)
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
