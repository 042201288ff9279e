# mypy: disable-error-code="no-untyped-call"
"""What the texts of many devices cost, each under its own branches: windows of like length share a pass.

A row of a batch is one window and has the branches of its device, so that devices with one short text and
with many long ones fill a batch alike.

Shapes: N rows of a batch, T tokens of a row, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from mimo_fed.model.loss import Loss, Window, decoder_output, windows_of
from mimo_fed.model.stacked_base import StackedBase
from mimo_fed.model.stacked_jobs import Tokens
from mimo_fed.model.stacked_steps import head_cost

_LIKE = 0.85
"""a window shorter than this share of the longest goes into another pass, if this one is worth it"""
_WORTH_A_PASS = 0.25
"""share of the tokens of a pass from which on one is not filled with padding"""


def measure_stacked(
    base: StackedBase,
    tokens_of: Tokens,
    texts_per_device: Sequence[Sequence[str]],
    mount: Callable[[Sequence[int]], None],
    *,
    tokens_per_pass: int,
) -> list[Loss]:
    """Score every token of every text once, each text after an end-of-sequence token.

    Args:
        base: they run on.
        tokens_of: reads texts.
        texts_per_device: those of each device.
        mount: puts the branches of these devices, one a row, on the base.
        tokens_per_pass: most tokens in one forward pass, padding included; a longer window has its own.

    Returns:
        The cost of each device's texts, as `measure` would return it.
    """
    rows = [
        (device, window)
        for device, texts in enumerate(texts_per_device)
        for text in texts
        for window in windows_of(tokens_of.encode(text), tokens_of.eos)
    ]
    nats, tokens = [0.0] * len(texts_per_device), [0] * len(texts_per_device)
    with torch.inference_mode():
        for batch in _batches(rows, tokens_per_pass):
            mount([device for device, _ in batch])
            scores = _score(base, [window for _, window in batch])
            for (device, window), score in zip(batch, scores, strict=True):
                nats[device] += score
                tokens[device] += window.num_scored
    return [
        Loss(nats=nats[device], tokens=tokens[device], num_bytes=sum(len(text.encode()) for text in texts))
        for device, texts in enumerate(texts_per_device)
    ]


def _batches(rows: Sequence[tuple[int, Window]], tokens_per_pass: int) -> Iterator[list[tuple[int, Window]]]:
    batch: list[tuple[int, Window]] = []
    for device, window in sorted(rows, key=lambda row: len(row[1].tokens), reverse=True):
        if batch:
            longest = len(batch[0][1].tokens)
            full = (len(batch) + 1) * longest > tokens_per_pass
            worth = len(batch) * longest >= _WORTH_A_PASS * tokens_per_pass
            if full or (worth and len(window.tokens) < _LIKE * longest):
                yield batch
                batch = []
        batch.append((device, window))
    if batch:
        yield batch


def _score(base: StackedBase, windows: Sequence[Window]) -> list[float]:
    """Return the nats of each window's scored tokens."""
    model = base.model
    longest = len(windows[0].tokens) - 1
    rows_NT = torch.zeros(len(windows), longest, dtype=torch.long)
    for row, window in enumerate(windows):
        rows_NT[row, : len(window.tokens) - 1] = torch.tensor(window.tokens[:-1])
    hidden_NTH = decoder_output(model, rows_NT.to(model.device))
    states = torch.cat(
        [
            hidden_NTH[row, len(w.tokens) - 1 - w.num_scored : len(w.tokens) - 1]
            for row, w in enumerate(windows)
        ]
    )
    targets = torch.tensor(
        [token for w in windows for token in w.tokens[-w.num_scored :]], device=model.device
    )
    cost, _ = head_cost(model, states, targets, gradient=False)
    return [float(part.double().sum()) for part in cost.split([w.num_scored for w in windows])]
