from __future__ import annotations

from collections.abc import Callable

from mimo_fed.model import Loss
from mimo_fed.model.costs import Costs


def counter() -> tuple[Callable[[], Loss], list[int]]:
    calls: list[int] = []

    def measure() -> Loss:
        calls.append(len(calls))
        return Loss(nats=float(len(calls)), tokens=1, num_bytes=1)

    return measure, calls


def test_a_cost_is_measured_once_for_one_text_and_one_state() -> None:
    costs, (measure, calls) = Costs(), counter()
    first = costs.get(["a", "b"], "state", measure)
    assert costs.get(("a", "b"), "state", measure) is first
    others = [costs.get(texts, "state", measure) for texts in (["ab"], ["a"], ["b", "a"], ["a", "b", ""])]
    assert costs.get(["a", "b"], "other", measure) is not first
    assert len(calls) == 2 + len(others)


def test_the_oldest_costs_are_forgotten() -> None:
    costs, (measure, calls) = Costs(size=2), counter()
    for text in ("a", "b", "c", "b", "c"):
        costs.get([text], "state", measure)
    assert len(calls) == 3
    costs.get(["a"], "state", measure)
    assert len(calls) == 4
