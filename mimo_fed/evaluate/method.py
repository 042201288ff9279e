"""How the arms were run, as tables: what each spends its steps on, and how its learning rates were chosen."""

from __future__ import annotations

from typing import Final

from mimo_fed.evaluate.records import Json, Results
from mimo_fed.evaluate.tables import Table

PARTS: Final = {"shared": "global and cohort", "personal": "personal"}


def method_tables(results: Results) -> tuple[Table, ...]:
    """Return the tables that the settings of a run have something for."""
    arms: Json = results.settings.get("arms", {})
    made = (_steps(arms), _rates(arms, results))
    return tuple(table for table in made if table.rows)


def _steps(arms: Json) -> Table:
    rows = []
    for name, arm in arms.items():
        clipped = arm.get("clipped")
        shown = "" if clipped is None else f"{100 * clipped:.3g} %"
        rows.append((name, *(str(count) for count in arm["steps"]), shown, arm["says"]))
    head = ("arm", "global", "cohort", "personal", "most clipped", "what it is")
    return Table(title="The arms: a user's steps by adapter", head=head, rows=tuple(rows))


def _rates(arms: Json, results: Results) -> Table:
    rows = []
    grid = [float(rate) for rate in results.settings.get("rates", ())]
    for name, arm in arms.items():
        for curve in arm["curves"]:
            points = {float(rate): float(value) for rate, value in curve["points"]}
            best = float(arm["rates"][curve["part"]])
            values = tuple(f"{points[rate]:.3f}" if rate in points else "" for rate in grid)
            edge = " (end of the grid)" if curve["at_edge"] else ""
            rows.append((name, PARTS[curve["part"]], *values, f"{best:g}{edge}"))
    tuning = results.settings.get("users", {}).get("tuning", 0)
    return Table(
        title=f"Learning rates: bits per byte on the validation text of the {tuning} tuning users, by rate",
        head=("arm", "of", *(f"{rate:g}" for rate in grid), "chosen"),
        rows=tuple(rows),
    )
