"""What a text costs under the model: nats, tokens and bytes, so that arms and tokenizers can be compared."""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

WINDOW = 512
"""most tokens the model sees at once"""
STRIDE = 256
"""tokens a window scores; those before it are its context"""
_BATCH_TOKENS = 384
_WORTH_A_PASS = 96
_LIKE = 0.85
_HEAD_TOKENS = 256


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The cost of some texts."""

    nats: float
    """summed over tokens"""
    tokens: int
    num_bytes: int
    """of the texts, in UTF-8"""

    @property
    def bits_per_byte(self) -> float:
        """Bits for one byte of text; independent of the tokenizer."""
        return self.nats / math.log(2) / max(self.num_bytes, 1)

    @property
    def per_token(self) -> float:
        """Nats for one token."""
        return self.nats / max(self.tokens, 1)


@dataclass(frozen=True)
class Window:
    """Tokens that the model sees at once; the last `num_scored` of them are scored."""

    tokens: list[int]
    num_scored: int


def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Loss:
    """Score every token of every text once, each text after an end-of-sequence token.

    Texts longer than `WINDOW` are scored in windows that overlap, so that a token never lacks context.
    """
    windows = [
        window for text in texts for window in windows_of(encode(tokenizer, text), tokenizer.eos_token_id)
    ]
    nats = 0.0
    with torch.inference_mode():
        for batch in _batches(windows):
            nats += _score(model, batch)
    return Loss(
        nats=nats,
        tokens=sum(window.num_scored for window in windows),
        num_bytes=sum(len(text.encode()) for text in texts),
    )


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of `text`, with no special token added."""
    ids: Any = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return list(ids)


def decoder_output(model: PreTrainedModel, rows_BT: torch.Tensor) -> torch.Tensor:
    """Hidden states (B, T, H) before the head. Padding on the right needs no mask: attention is causal."""
    inner: Any = model
    hidden: torch.Tensor = inner.model(input_ids=rows_BT, use_cache=False).last_hidden_state
    return hidden


def windows_of(ids: list[int], eos: int) -> Iterator[Window]:
    """Cut a text's tokens into windows that score each of them once."""
    tokens = [eos, *ids]
    scored = 0
    while scored < len(ids):
        end = min(len(ids), WINDOW if scored == 0 else scored + STRIDE)
        yield Window(tokens[max(0, end - WINDOW) : end + 1], end - scored)
        scored = end


def _batches(windows: Sequence[Window]) -> Iterator[list[Window]]:
    """Group windows of like length: padding costs as much as text."""
    batch: list[Window] = []
    for window in sorted(windows, key=lambda item: len(item.tokens), reverse=True):
        if batch:
            longest = len(batch[0].tokens)
            full = (len(batch) + 1) * longest > _BATCH_TOKENS
            unlike = len(batch) * longest >= _WORTH_A_PASS and len(window.tokens) < _LIKE * longest
            if full or unlike:
                yield batch
                batch = []
        batch.append(window)
    if batch:
        yield batch


def _score(model: PreTrainedModel, batch: Sequence[Window]) -> float:
    longest = len(batch[0].tokens) - 1
    device = model.device
    rows_BT = torch.zeros(len(batch), longest, dtype=torch.long)
    for row, window in enumerate(batch):
        rows_BT[row, : len(window.tokens) - 1] = torch.tensor(window.tokens[:-1])
    hidden = decoder_output(model, rows_BT.to(device))
    picked = torch.cat(
        [hidden[row, len(w.tokens) - 1 - w.num_scored : len(w.tokens) - 1] for row, w in enumerate(batch)]
    )
    targets = torch.tensor([token for w in batch for token in w.tokens[-w.num_scored :]], device=device)
    head: Any = model.get_output_embeddings()
    nats = 0.0
    for states, wanted in zip(picked.split(_HEAD_TOKENS), targets.split(_HEAD_TOKENS), strict=True):
        nats += float(functional.cross_entropy(head(states).float(), wanted, reduction="sum"))
    return nats
