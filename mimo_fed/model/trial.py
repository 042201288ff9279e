"""A release on trial: does it fit, does it compute, and is this device's own text as cheap as before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from mimo_fed.errors import AdapterError
from mimo_fed.model.installed import Installed
from mimo_fed.model.lora import Branches, Shared
from mimo_fed.model.loss import encode

PROMPTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Ciao! Che tempo fa oggi a Roma?",
    "1 2 3 4 5 6 7 8 9 10",
    "def main():\n    return 0\n",
    "今天天气很好。",
)
"""fixed prompts on which every logit must be finite"""


@dataclass(frozen=True, kw_only=True)
class TrialReport:
    """The verdict on a release."""

    ok: bool
    reason: str
    """why not; empty if ok"""
    loss_before: float
    """nats per token on the device's held-out text under the installed adapter; 0 if not measured"""
    loss_after: float
    """the same under the release; 0 if not measured"""


def try_adapter(
    branches: Branches,
    tokenizer: PreTrainedTokenizerBase,
    installed: Installed,
    candidate: bytes,
    *,
    branch: Shared,
    before: Callable[[], float] | None,
    after: Callable[[], float] | None,
    loss_bound: float,
) -> TrialReport:
    """Run `candidate` in a branch in place of what is installed, and put that back, whatever happens.

    `before` measures nats per token with what is installed, `after` is called while `candidate` is in place;
    both are None if there is no held-out text.
    """
    report = TrialReport(ok=False, reason="", loss_before=0.0, loss_after=0.0)
    try:
        adapter = installed.read(branch, candidate)
    except AdapterError as error:
        return replace(report, reason=error.message)
    if before is not None:
        report = replace(report, loss_before=before())
    with installed.replaced(branch, adapter):
        branches.use(branch)
        if not _finite(branches, tokenizer):
            return replace(report, reason="a logit is not finite on the fixed prompts")
        if after is not None:
            report = replace(report, loss_after=after())
    limit = report.loss_before * (1 + loss_bound)
    if not report.loss_after <= limit:
        return replace(
            report, reason=f"the loss on held-out text would be {report.loss_after:.3f}, above {limit:.3f}"
        )
    return replace(report, ok=True)


def _finite(branches: Branches, tokenizer: PreTrainedTokenizerBase) -> bool:
    model: Any = branches.model
    with torch.inference_mode():
        for prompt in PROMPTS:
            ids = torch.tensor([encode(tokenizer, prompt)], device=model.device)
            if not bool(torch.isfinite(model(input_ids=ids, use_cache=False).logits).all()):
                return False
    return True
