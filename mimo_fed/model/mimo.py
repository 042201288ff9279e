"""MiMo as a transformers architecture of our own: Qwen2 plus multi-token-prediction layers.

The layers under `model.mtp_layers` predict further tokens for speculative decoding. They are loaded and saved
with the checkpoint, so that nothing of it is lost, and take no part in the forward pass or in the federation.
Importing this module registers the type "mimo", so that a MiMo folder loads without running code it carries.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.qwen2.configuration_qwen2 import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import (
    Qwen2Attention,
    Qwen2ForCausalLM,
    Qwen2MLP,
    Qwen2Model,
    Qwen2RMSNorm,
)


class MiMoConfig(Qwen2Config):
    """Qwen2's settings and the number of multi-token-prediction layers."""

    model_type = "mimo"

    num_nextn_predict_layers: int = 1


class MiMoMTPLayer(nn.Module):
    """One multi-token-prediction layer: holds its parameters; this project never runs it.

    Args:
        config: sizes; the layer attends like the first decoder layer.
    """

    def __init__(self, config: MiMoConfig) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.rms_norm_eps
        self.token_layernorm = Qwen2RMSNorm(hidden, eps=eps)
        self.hidden_layernorm = Qwen2RMSNorm(hidden, eps=eps)
        self.input_proj = nn.Linear(2 * hidden, hidden, bias=False)
        self.input_layernorm = Qwen2RMSNorm(hidden, eps=eps)
        self.self_attn = Qwen2Attention(config, layer_idx=0)
        self.post_attention_layernorm = Qwen2RMSNorm(hidden, eps=eps)
        self.mlp = Qwen2MLP(config)
        self.final_layernorm = Qwen2RMSNorm(hidden, eps=eps)


class MiMoModel(Qwen2Model):
    """Qwen2's decoder, carrying `mtp_layers` beside it."""

    config_class = MiMoConfig

    def __init__(self, config: MiMoConfig) -> None:
        super().__init__(config)
        self.mtp_layers = nn.ModuleList(MiMoMTPLayer(config) for _ in range(config.num_nextn_predict_layers))
        self.post_init()


class MiMoForCausalLM(Qwen2ForCausalLM):
    """MiMo with its language-model head."""

    config_class = MiMoConfig

    def __init__(self, config: MiMoConfig) -> None:
        super(Qwen2ForCausalLM, self).__init__(config)
        self.model = MiMoModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


def seeded_mtp(config: MiMoConfig, seed: int) -> dict[str, torch.Tensor]:
    """Tensors for `model.mtp_layers` of a base that has none of its own.

    Returns:
        float32, by full parameter name: norms one, biases zero, matrices from N(0, initializer_range^2).
    """
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for index in range(config.num_nextn_predict_layers):
        with torch.device("meta"):
            layer = MiMoMTPLayer(config)
        for name, parameter in layer.named_parameters():
            if name.endswith("norm.weight"):
                value = torch.ones(parameter.shape)
            elif parameter.ndim == 1:
                value = torch.zeros(parameter.shape)
            else:
                value = torch.randn(parameter.shape, generator=generator) * config.initializer_range
            tensors[f"model.mtp_layers.{index}.{name}"] = value
    return tensors


def register() -> None:
    """Make AutoConfig and AutoModelForCausalLM know the type "mimo"; harmless when done twice."""
    any_config: Any = AutoConfig
    any_model: Any = AutoModelForCausalLM
    any_config.register("mimo", MiMoConfig, exist_ok=True)
    any_model.register(MiMoConfig, MiMoForCausalLM, exist_ok=True)


register()
