"""`users.csv` and `results.json`: written whole or not at all, read strictly; errors name file and line."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_type_hints

from pydantic import TypeAdapter, ValidationError

from mimo_fed.errors import DataError
from mimo_fed.evaluate.records import FIELDS, Results, Row

ROWS: Final = "users.csv"
RESULTS: Final = "results.json"
DECIMALS: Final = 6
"""what is kept of a measured figure; far below what one more training run changes"""

_TYPES: Final = get_type_hints(Row)
_RESULTS: Final = TypeAdapter(Results)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write `users.csv`; figures are rounded to six decimals.

    Raises:
        DataError: two rows are for the same user, arm and seed.
    """
    _check_unique(rows, [""] * len(rows))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(FIELDS)
    writer.writerows([_cell(getattr(row, name)) for name in FIELDS] for row in rows)
    _write(path, buffer.getvalue())


def read_rows(path: Path) -> tuple[Row, ...]:
    """Read `users.csv`.

    Raises:
        DataError: the file is missing, its header is another, a line is malformed, or two lines are for the
            same user, arm and seed; the message names the line.
    """
    rows: list[Row] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(_read(path), newline=""), strict=True)
    try:
        if tuple(next(reader, ())) != FIELDS:
            raise DataError(f"the header is not: {','.join(FIELDS)}")
        for cells in reader:
            rows.append(_row(cells))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from None
    except DataError as error:
        raise DataError(f"{path}, line {max(reader.line_num, 1)}: {error.message}") from None
    _check_unique(rows, [f"{path}, line {line}: " for line in lines])
    return tuple(rows)


def write_results(path: Path, results: Results) -> None:
    """Write `results.json`."""
    document = json.dumps(dataclasses.asdict(results), indent=1, ensure_ascii=False, allow_nan=False)
    _write(path, document + "\n")


def read_results(path: Path) -> Results:
    """Read `results.json`.

    Raises:
        DataError: the file is missing, is no JSON (the message names the line), or a field is missing,
            unknown or of another type (the message names the field).
    """
    try:
        return _RESULTS.validate_json(_read(path), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: {where + ': ' if where else ''}{first['msg']}") from None
    except DataError as error:
        raise DataError(f"{path}: {error.message}") from None


def read_folder(folder: Path) -> tuple[Results, tuple[Row, ...]]:
    """Read both files and see that they are of the same run.

    Raises:
        DataError: a file is malformed, or a row is of another data set or base than the results.
    """
    results, rows = read_results(folder / RESULTS), read_rows(folder / ROWS)
    if not rows:
        raise DataError(f"no row in: {folder / ROWS}")
    for line, row in enumerate(rows, 2):
        if (row.dataset, row.base) != (results.dataset, results.base):
            raise DataError(
                f"{folder / ROWS}, line {line}: {row.dataset}/{row.base} is not of {RESULTS}'s {results.key}"
            )
    return results, rows


def write_folder(folder: Path, results: Results, rows: Sequence[Row]) -> None:
    """Write both files into a folder, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / ROWS, rows)
    write_results(folder / RESULTS, results)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(round(value, DECIMALS))
    return "" if value is None else str(value)


def _row(cells: Sequence[str]) -> Row:
    if len(cells) != len(FIELDS):
        raise DataError(f"{len(FIELDS)} cells are needed, not {len(cells)}")
    return Row(**{name: _value(name, cell) for name, cell in zip(FIELDS, cells, strict=True)})


def _value(name: str, cell: str) -> Any:
    kind = _TYPES[name]
    try:
        if kind is int:
            return int(cell)
        if kind is bool:
            return {"true": True, "false": False}[cell]
        if kind is float:
            return float(cell)
        if kind == float | None:
            return float(cell) if cell else None
    except (ValueError, KeyError):
        raise DataError(f"{name} cannot be: {cell!r}") from None
    return cell


def _check_unique(rows: Sequence[Row], places: Sequence[str]) -> None:
    seen: set[tuple[str, str, str, int, str]] = set()
    for row, place in zip(rows, places, strict=True):
        key = (row.dataset, row.base, row.arm, row.seed, row.user)
        if key in seen:
            raise DataError(f"{place}a second row for arm {row.arm}, seed {row.seed}, user {row.user}")
        seen.add(key)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from None


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
