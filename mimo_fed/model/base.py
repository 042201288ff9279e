"""The frozen base model and its tokenizer: one loader for what ships, what is built once, and a folder.

Nothing is downloaded and no code from a model folder is run.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from mimo_fed.adapter import Module
from mimo_fed.errors import ConfigError, DataError
from mimo_fed.model import mimo
from mimo_fed.model.fingerprint import fingerprint, shards
from mimo_fed.model.smol import build_smol

NANO = Path(__file__).parent / "nano"


def cache_folder() -> Path:
    """Where built models are kept: $MIMO_FED_CACHE, or ~/.cache/mimo-fed."""
    return Path(os.environ.get("MIMO_FED_CACHE") or Path.home() / ".cache" / "mimo-fed")


@dataclass(frozen=True, kw_only=True)
class Base:
    """A frozen base: nothing in this project changes its tensors after loading."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    """SHA-256, hexadecimal; what an adapter is bound to"""
    name: str

    def modules(self, targets: str) -> tuple[Module, ...]:
        """Return the linear layers whose full name matches `targets`, in the model's order.

        Raises:
            ConfigError: nothing matches, or the expression is wrong.
        """
        try:
            pattern = re.compile(targets)
        except re.error as error:
            raise ConfigError(f"the target expression is wrong ({error}): {targets}") from None
        found = tuple(
            Module(name, module.out_features, module.in_features)
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear) and pattern.fullmatch(name)
        )
        if not found:
            raise ConfigError(f"no linear layer of {self.name} matches the targets: {targets}")
        return found


def load_base(name: str, *, dtype: str = "float32") -> Base:
    """Load a base model.

    Args:
        name: "mimo-nano" (in this package), "mimo-smol" (built once into the cache), or a folder in the
            transformers layout, MiMo-7B's among them.
        dtype: of the loaded tensors. "auto" keeps the stored type. "fast" is bfloat16 where this CPU computes
            with it (about 1.4 times as fast, but its copy is not shared between processes), else float32; on
            a CPU that does not, bfloat16 is many times slower. Adapters are float32 in any case.

    Raises:
        DataError: the folder is missing, damaged, or does not fit its architecture.
    """
    if name == "mimo-nano":
        folder = NANO
    elif name == "mimo-smol":
        folder = build_smol(cache_folder())
    else:
        folder = Path(name)
    digest = fingerprint(folder, cache_folder())
    model = _load_model(folder, _fast_dtype() if dtype == "fast" else dtype)
    return Base(model=model, tokenizer=_load_tokenizer(folder), fingerprint=digest, name=name)


def _load_model(folder: Path, dtype: str) -> PreTrainedModel:
    mimo.register()
    transformers_logging.disable_progress_bar()
    shards(folder)
    any_model: Any = AutoModelForCausalLM
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            model, report = any_model.from_pretrained(
                folder,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                attn_implementation="sdpa",
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(f"the base model cannot be loaded ({_first_line(error)}): {folder}") from error
    if wrong := sorted({*report["missing_keys"], *report["unexpected_keys"]}):
        raise DataError(
            f"{len(wrong)} tensors of {folder} do not fit {type(model).__name__}, the first: {wrong[0]}",
            hint="the folder is of another architecture, or was saved without some of its layers",
        )
    model.requires_grad_(False)
    assert isinstance(model, PreTrainedModel)  # noqa: S101 - for the type checker
    model.eval()
    return model


def _fast_dtype() -> str:
    abilities = torch.cpu.get_capabilities()
    return "bfloat16" if abilities.get("avx512_bf16") or abilities.get("amx_bf16") else "float32"


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    any_tokenizer: Any = AutoTokenizer
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            tokenizer = any_tokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(f"the tokenizer cannot be loaded ({_first_line(error)}): {folder}") from error
    if tokenizer.eos_token_id is None:
        raise DataError(f"the tokenizer names no end-of-sequence token: {folder}")
    assert isinstance(tokenizer, PreTrainedTokenizerBase)  # noqa: S101 - for the type checker
    return tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
