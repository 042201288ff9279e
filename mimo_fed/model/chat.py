"""Answers to chat messages: greedy, token by token, with a key-value cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mimo_fed.errors import ConfigError

OnToken = Callable[[str], None]
"""called with each new piece of text, in order; the pieces joined are the answer"""


def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, str]],
    *,
    max_new_tokens: int,
    on_token: OnToken | None,
) -> str:
    """Return the assistant's next message.

    A conversation longer than the model's context loses its beginning.

    Raises:
        ConfigError: the base has no chat template, or a message has no role or content.
    """
    ids = _prompt(model, tokenizer, messages, max_new_tokens)
    stops = _stops(model, tokenizer)
    any_model: Any = model
    produced: list[int] = []
    text = ""
    with torch.inference_mode():
        state = any_model(
            input_ids=torch.tensor([ids], device=model.device), use_cache=True, logits_to_keep=1
        )
        for _ in range(max_new_tokens):
            token = int(state.logits[0, -1].argmax())
            if token in stops:
                break
            produced.append(token)
            text = _emit(tokenizer, produced, text, on_token)
            state = any_model(
                input_ids=torch.tensor([[token]], device=model.device),
                past_key_values=state.past_key_values,
                use_cache=True,
                logits_to_keep=1,
            )
    whole = _text(tokenizer, produced)
    if on_token is not None and len(whole) > len(text):
        on_token(whole[len(text) :])
    return whole


def _prompt(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, str]],
    max_new_tokens: int,
) -> list[int]:
    if not all({"role", "content"} <= set(message) for message in messages) or not messages:
        raise ConfigError("every chat message needs a role and a content")
    if not tokenizer.chat_template:
        raise ConfigError("this base has no chat template", hint="use an instruction-tuned base")
    any_tokenizer: Any = tokenizer
    text = any_tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
    ids = list(any_tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    room = int(model.config.max_position_embeddings) - max_new_tokens
    if room < 1:
        raise ConfigError(f"the answer would not fit the model's context: {max_new_tokens}")
    return ids[-room:]


def _stops(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    named: Any = model.config.eos_token_id
    stops = {tokenizer.eos_token_id} | (set(named) if isinstance(named, list | tuple) else {named})
    return {int(token) for token in stops if token is not None}


def _emit(
    tokenizer: PreTrainedTokenizerBase, produced: Sequence[int], text: str, on_token: OnToken | None
) -> str:
    """Hand on what is new; a character whose bytes are still incomplete waits for its next token."""
    if on_token is None:
        return text
    now = _text(tokenizer, produced)
    if now.endswith("\ufffd") or len(now) <= len(text):
        return text
    on_token(now[len(text) :])
    return now


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    any_tokenizer: Any = tokenizer
    return str(any_tokenizer.decode(list(ids), skip_special_tokens=True))
