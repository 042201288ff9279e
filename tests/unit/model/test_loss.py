from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mimo_fed.model import Base, Loss
from mimo_fed.model import loss as loss_module
from mimo_fed.model.loss import encode, measure


def alone(base: Base, text: str) -> float:
    """Nats of one short text, from its logits, with nothing shared with the code under test."""
    model: Any = base.model
    ids = torch.tensor([[base.tokenizer.eos_token_id, *encode(base.tokenizer, text)]])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0].double().log_softmax(-1)
    return -sum(float(logits[i, ids[0, i + 1]]) for i in range(ids.shape[1] - 1))


def test_texts_of_different_length_cost_what_each_costs_alone(nano: Base) -> None:
    texts = ["a", "The list is empty.", "", "però 你好", "x = [1, 2, 3]\n" * 9, "Return the value."]
    cost = measure(nano.model, nano.tokenizer, texts)
    assert cost.nats == pytest.approx(sum(alone(nano, text) for text in texts if text), rel=1e-5)
    assert cost.num_bytes == sum(len(text.encode()) for text in texts)
    assert cost.tokens == sum(len(encode(nano.tokenizer, text)) for text in texts)


def test_a_long_text_is_scored_once_and_with_context(nano: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "The function returns the sum of the numbers. " * 12
    ids = [nano.tokenizer.eos_token_id, *encode(nano.tokenizer, text)]
    model: Any = nano.model
    exact = 0.0
    with torch.inference_mode():
        for position in range(1, len(ids)):
            context = ids[max(0, position - 64) : position]
            logits = model(input_ids=torch.tensor([context])).logits[0, -1].double().log_softmax(-1)
            exact -= float(logits[ids[position]])
    monkeypatch.setattr(loss_module, "WINDOW", 64)
    costs = {}
    for stride in (1, 32, 64):
        monkeypatch.setattr(loss_module, "STRIDE", stride)
        costs[stride] = measure(nano.model, nano.tokenizer, [text])
        assert costs[stride].tokens == len(ids) - 1
    assert costs[1].nats == pytest.approx(exact, rel=1e-5)
    assert costs[32].nats == pytest.approx(exact, rel=0.05)


def test_units() -> None:
    cost = Loss(nats=math.log(2) * 10, tokens=4, num_bytes=5)
    assert cost.bits_per_byte == pytest.approx(2)
    assert cost.per_token == pytest.approx(math.log(2) * 2.5)
    assert Loss(nats=0.0, tokens=0, num_bytes=0).bits_per_byte == 0
