from itertools import product
from pathlib import Path

import pytest

from mimo_fed.errors import InstallError, LocalProtocolError
from mimo_fed_client.states import INSTALL, TABLES, TRAINING, Machine, Row, page

DOCS = Path(__file__).parents[3] / "docs" / "states.md"


def path_to(rows: tuple[Row, ...], state: str) -> list[str]:
    """Find events that lead from the first state to another."""
    paths: dict[str, list[str]] = {rows[0].state: []}
    while state not in paths:
        before = len(paths)
        for row in rows:
            if row.state in paths:
                paths.setdefault(row.then, [*paths[row.state], row.event])
        assert len(paths) > before, f"no way to {state}"
    return paths[state]


def machine_in(rows: tuple[Row, ...], state: str) -> Machine:
    machine = Machine(rows)
    for event in path_to(rows, state):
        machine.move(event)
    assert machine.state == state
    return machine


@pytest.mark.parametrize("rows", TABLES.values(), ids=TABLES.keys())
def test_every_row_and_every_thing_that_is_no_row(rows: tuple[Row, ...]) -> None:
    states = {row.state for row in rows} | {row.then for row in rows}
    events = {row.event for row in rows}
    legal = {(row.state, row.event): row.then for row in rows}
    assert len(legal) == len(rows)
    for state, event in product(sorted(states), sorted(events)):
        machine = machine_in(rows, state)
        if (state, event) in legal:
            assert machine.move(event) == legal[state, event] == machine.state
        else:
            with pytest.raises(LocalProtocolError, match=state):
                machine.move(event)
            assert machine.state == state


@pytest.mark.parametrize("rows", [INSTALL, TRAINING])
def test_every_state_has_a_way_back(rows: tuple[Row, ...]) -> None:
    for state in {row.then for row in rows}:
        seen, new = {state}, {state}
        while new:
            new = {row.then for row in rows if row.state in new} - seen
            seen |= new
        assert rows[0].state in seen


def test_what_cannot_be_stored_is_not_entered() -> None:
    def full(state: str) -> None:
        raise InstallError("disk is full")

    machine = Machine(INSTALL, full)
    with pytest.raises(InstallError):
        machine.move("look")
    assert machine.state == "IDLE"


def test_the_page_is_the_table() -> None:
    assert DOCS.read_text() == page(), "run: python -m mimo_fed_client.states > docs/states.md"
