from __future__ import annotations

from typing import Any

import pytest
import torch

from mimo_fed.errors import ConfigError
from mimo_fed.model import DeviceModel

ASK = [{"role": "user", "content": "What does the function return?"}]


def slowly(device: DeviceModel, num_tokens: int) -> str:
    """Greedy decoding that runs the whole sequence again for every token."""
    base: Any = device.base
    text = base.tokenizer.apply_chat_template(ASK, add_generation_prompt=True, tokenize=False)
    ids = list(base.tokenizer(text, add_special_tokens=False)["input_ids"])
    start = len(ids)
    with torch.inference_mode():
        for _ in range(num_tokens):
            ids.append(int(base.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return str(base.tokenizer.decode(ids[start:], skip_special_tokens=True))


def test_the_cache_changes_no_token_and_the_pieces_are_the_answer(device: DeviceModel) -> None:
    pieces: list[str] = []
    answer = device.generate(ASK, "base", max_new_tokens=24, on_token=pieces.append)
    assert len(pieces) > 5
    assert "".join(pieces) == answer == slowly(device, 24)


def test_it_stops_at_the_end_of_sequence(device: DeviceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = device.generate(ASK, "base", max_new_tokens=24)
    base: Any = device.base
    fifth = base.tokenizer(answer, add_special_tokens=False)["input_ids"][4]
    inner: Any = device._branches.model
    monkeypatch.setattr(inner.config, "eos_token_id", [fifth])
    shorter = device.generate(ASK, "base", max_new_tokens=24)
    assert answer.startswith(shorter)
    assert len(shorter) < len(answer)


def test_a_character_is_never_handed_on_in_parts(
    device: DeviceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mimo_fed.model import chat

    base: Any = device.base
    ids = base.tokenizer("naïve 你好 🚋!", add_special_tokens=False)["input_ids"]
    pieces: list[str] = []
    text = ""
    for end in range(1, len(ids) + 1):
        text = chat._emit(base.tokenizer, ids[:end], text, pieces.append)
    assert "".join(pieces) == "naïve 你好 🚋!"
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_long_conversation_loses_its_beginning(device: DeviceModel) -> None:
    long = [{"role": "user", "content": "What is a list? " * 400}]
    assert isinstance(device.generate(long, "global", max_new_tokens=2), str)


def test_messages_are_checked(device: DeviceModel) -> None:
    for bad in ([], [{"role": "user"}]):
        with pytest.raises(ConfigError, match="message"):
            device.generate(bad, "base", max_new_tokens=2)
    with pytest.raises(ConfigError, match="context"):
        device.generate(ASK, "base", max_new_tokens=5000)
