# mypy: disable-error-code="no-untyped-call"
"""Training one device after another with stock PEFT: what training many at once is measured against.

Both train lora_B alone, at the full rank, from the batches that a job would draw.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from mimo_fed.config import AdapterConfig, TrainConfig
from mimo_fed.model.base import NANO, Base, cache_folder
from mimo_fed.model.learn import DRAW_GLOBAL
from mimo_fed.model.smol import build_smol
from mimo_fed.model.stacked_jobs import Job
from mimo_fed.model.train import batches


class WarmPeft:
    """One PEFT model for all devices: each begins with lora_B zero and a fresh AdamW.

    Args:
        base: its tensors are shared.
        adapter: rank and targets.
    """

    def __init__(self, base: Base, adapter: AdapterConfig) -> None:
        torch.set_num_threads(1)
        self._base = base
        shared = {id(tensor): tensor for tensor in (*base.model.parameters(), *base.model.buffers())}
        self._model, self._weights = _peft(copy.deepcopy(base.model, shared), adapter)

    def train(self, jobs: Sequence[Job], config: TrainConfig) -> int:
        """Train every job in turn; return how many steps were taken."""
        for job in jobs:
            with torch.no_grad():
                for weight in self._weights:
                    weight.zero_()
            _train(self._model, self._weights, self._base, job, config)
        return sum(job.num_steps for job in jobs)


class FreshPeft:
    """A model a message, as Flower's examples do: load the base, wrap it, train, drop it.

    The tokenizer is the one that is already there: those examples load it, too.

    Args:
        base: says what is loaded.
        adapter: rank and targets.
    """

    def __init__(self, base: Base, adapter: AdapterConfig) -> None:
        torch.set_num_threads(1)
        self._base, self._adapter = base, adapter
        named = {"mimo-nano": lambda: NANO, "mimo-smol": lambda: build_smol(cache_folder())}
        self._folder: Path = named.get(base.name, lambda: Path(base.name))()

    def train(self, jobs: Sequence[Job], config: TrainConfig) -> int:
        """Train every job on a model of its own; return how many steps were taken."""
        for job in jobs:
            any_model: Any = AutoModelForCausalLM
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                loaded = any_model.from_pretrained(
                    self._folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False
                )
            model, weights = _peft(loaded, self._adapter)
            _train(model, weights, self._base, job, config)
        return sum(job.num_steps for job in jobs)


def _peft(model: PreTrainedModel, adapter: AdapterConfig) -> tuple[Any, list[nn.Parameter]]:
    config = LoraConfig(
        r=adapter.rank, lora_alpha=adapter.rank, target_modules=adapter.targets, task_type="CAUSAL_LM"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        peft_model: Any = get_peft_model(model, config)
    for name, parameter in peft_model.named_parameters():
        parameter.requires_grad_("lora_B" in name)
    return peft_model, [p for p in peft_model.parameters() if p.requires_grad]


def _train(model: Any, weights: list[nn.Parameter], base: Base, job: Job, config: TrainConfig) -> None:
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=0.0, fused=True)
    shape = {"batch_size": config.batch_size, "seq_len": config.seq_len}
    stream = batches(base.tokenizer, job.texts, seed=(job.seed, DRAW_GLOBAL), **shape)
    for _ in range(job.num_steps):
        rows_BT = next(stream)
        optimizer.zero_grad(set_to_none=True)
        output = model(input_ids=rows_BT[:, :-1], use_cache=False)
        cost = nn.functional.cross_entropy(output.logits.flatten(0, 1), rows_BT[:, 1:].flatten())
        cost.backward()
        optimizer.step()
