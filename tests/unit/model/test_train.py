from __future__ import annotations

import copy
from itertools import islice
from typing import Any

import pytest
import torch
from torch.nn import functional

from mimo_fed.errors import DataError
from mimo_fed.model import Base, TrainingStopped
from mimo_fed.model import train as train_module
from mimo_fed.model.loss import encode
from mimo_fed.model.train import Plan, batch_loss, batches, run_steps


def test_little_text_still_fills_every_batch(nano: Base) -> None:
    stream = batches(nano.tokenizer, ["Hi.", ""], batch_size=3, seq_len=20, seed=1)
    allowed = {nano.tokenizer.eos_token_id, *encode(nano.tokenizer, "Hi.")}
    for rows in islice(stream, 4):
        assert rows.shape == (3, 21)
        assert set(rows.flatten().tolist()) == allowed


def test_every_text_is_seen_once_before_any_is_seen_again(nano: Base) -> None:
    texts = [f"text number {n}" for n in range(7)]
    length = sum(len(encode(nano.tokenizer, text)) + 1 for text in texts)
    first = next(batches(nano.tokenizer, texts, batch_size=1, seq_len=length - 1, seed=3)).flatten()
    again = next(batches(nano.tokenizer, texts, batch_size=1, seq_len=length - 1, seed=3)).flatten()
    other = next(batches(nano.tokenizer, texts, batch_size=1, seq_len=length - 1, seed=4)).flatten()
    seen = nano.tokenizer.decode(first.tolist()).split(nano.tokenizer.eos_token)
    assert sorted(filter(None, seen)) == texts
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_text_is_an_error(nano: Base) -> None:
    with pytest.raises(DataError, match="no text"):
        next(batches(nano.tokenizer, ["", ""], batch_size=1, seq_len=8, seed=0))


@pytest.mark.parametrize("micro_tokens", [1, 1000])
def test_gradients_are_those_of_the_plain_loss(
    nano: Base, monkeypatch: pytest.MonkeyPatch, micro_tokens: int
) -> None:
    monkeypatch.setattr(train_module, "MICRO_TOKENS", micro_tokens)
    monkeypatch.setattr(train_module, "HEAD_TOKENS", 13)
    model: Any = copy.deepcopy(nano.model)
    weight = model.model.layers[0].mlp.up_proj.weight.requires_grad_(True)
    rows = next(batches(nano.tokenizer, ["The value of the key."], batch_size=3, seq_len=30, seed=0))
    plain = functional.cross_entropy(
        model(input_ids=rows[:, :-1]).logits.flatten(0, 1), rows[:, 1:].flatten()
    )
    (wanted,) = torch.autograd.grad(plain, weight)
    assert batch_loss(model, rows, backward=True) == pytest.approx(float(plain.detach()), rel=1e-5)
    assert torch.allclose(weight.grad, wanted, rtol=1e-3, atol=1e-6)
    assert batch_loss(model, rows, backward=False) == pytest.approx(float(plain.detach()), rel=1e-5)


def test_stop_is_asked_before_every_step(nano: Base) -> None:
    model: Any = copy.deepcopy(nano.model)
    weight = model.model.layers[1].mlp.up_proj.weight.requires_grad_(True)
    stream = batches(nano.tokenizer, ["some text"], batch_size=1, seq_len=8, seed=0)
    plan = Plan(parameters=[weight], num_steps=9, learning_rate=1e-3)
    seen: list[tuple[int, int]] = []
    with pytest.raises(TrainingStopped, match="step 4 of 9"):
        run_steps(
            model,
            stream,
            plan,
            progress=lambda done, total, loss: seen.append((done, total)),
            stop=lambda: len(seen) == 3,
        )
    assert seen == [(1, 9), (2, 9), (3, 9)]
