from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers.models.qwen2.modeling_qwen2 import Qwen2Config, Qwen2ForCausalLM

from mimo_fed.config import TARGETS
from mimo_fed.model import Base, load_base
from mimo_fed.model.base import NANO
from mimo_fed.model.mimo import MiMoForCausalLM

HIDDEN, INTER, LAYERS, HEADS, KV, HEAD_DIM, VOCAB = 64, 96, 3, 4, 2, 32, 512


def block(prefix: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (HIDDEN,),
        "post_attention_layernorm.weight": (HIDDEN,),
        "self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
        "mlp.gate_proj.weight": (INTER, HIDDEN),
        "mlp.up_proj.weight": (INTER, HIDDEN),
        "mlp.down_proj.weight": (HIDDEN, INTER),
    }
    for letter, heads in (("q", HEADS), ("k", KV), ("v", KV)):
        shapes[f"self_attn.{letter}_proj.weight"] = (heads * HEAD_DIM, HIDDEN)
        shapes[f"self_attn.{letter}_proj.bias"] = (heads * HEAD_DIM,)
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


@pytest.fixture
def mimo_7b_layout(tmp_path: Path) -> Path:
    """A random checkpoint with MiMo-7B's parameter names, settings and sharding; only smaller."""
    shapes = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "lm_head.weight": (VOCAB, HIDDEN)}
    shapes["model.norm.weight"] = (HIDDEN,)  # type: ignore[assignment]
    for layer in range(LAYERS):
        shapes |= block(f"model.layers.{layer}")  # type: ignore[arg-type]
    mtp = "model.mtp_layers.0"
    shapes |= block(mtp)  # type: ignore[arg-type]
    shapes[f"{mtp}.input_proj.weight"] = (HIDDEN, 2 * HIDDEN)
    for norm in ("token", "hidden", "final"):
        shapes[f"{mtp}.{norm}_layernorm.weight"] = (HIDDEN,)  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(5)
    tensors = {
        name: (torch.randn(shape, generator=generator) * 0.1 + ("norm" in name)).to(torch.bfloat16)
        for name, shape in shapes.items()
    }
    shards = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}  # type: ignore[var-annotated]
    for index, name in enumerate(sorted(tensors)):
        shards[sorted(shards)[index * 2 // len(tensors)]][name] = tensors[name]
    for file, members in shards.items():
        save_file(members, tmp_path / file, metadata={"format": "pt"})
    weight_map = {name: file for file, members in shards.items() for name in members}
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map})
    )
    config: dict[str, Any] = {
        "architectures": ["MiMoForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_mimo.MiMoConfig",
            "AutoModel": "modeling_mimo.MiMoModel",
            "AutoModelForCausalLM": "modeling_mimo.MiMoForCausalLM",
        },
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INTER,
        "max_position_embeddings": 32768,
        "max_window_layers": LAYERS,
        "model_type": "mimo",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV,
        "num_nextn_predict_layers": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 640000,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.40.1",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": VOCAB,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "configuration_mimo.py").write_text("raise SystemExit('a model folder ran its code')\n")
    (tmp_path / "modeling_mimo.py").write_text("raise SystemExit('a model folder ran its code')\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((NANO / name).read_text())
    return tmp_path


def test_mimo_7b_layout_loads_whole_and_without_its_code(mimo_7b_layout: Path) -> None:
    base = load_base(str(mimo_7b_layout))
    assert isinstance(base.model, MiMoForCausalLM)
    assert base.model.config.rope_parameters["rope_theta"] == 640000
    assert base.model.dtype == torch.float32
    assert load_base(str(mimo_7b_layout), dtype="auto").model.dtype == torch.bfloat16
    modules = base.modules(TARGETS)
    assert len(modules) == 7 * LAYERS
    assert not [module for module in modules if "mtp" in module.name]


def test_the_forward_pass_is_qwen2s_and_skips_the_mtp_layers(mimo_7b_layout: Path) -> None:
    mimo = load_base(str(mimo_7b_layout)).model
    settings = {key: value for key, value in mimo.config.to_dict().items() if key != "model_type"}
    qwen = Qwen2ForCausalLM(Qwen2Config(**settings)).eval()
    state = {name: tensor for name, tensor in mimo.state_dict().items() if "mtp_layers" not in name}
    assert len(state) < len(mimo.state_dict())
    qwen.load_state_dict(state)
    ids = torch.arange(40).reshape(2, 20)
    with torch.inference_mode():
        assert torch.equal(mimo(input_ids=ids).logits, qwen(input_ids=ids).logits)


def test_nano_has_learnt_to_write(nano: Base) -> None:
    from mimo_fed.model.loss import measure

    text = "Return the number of items in the list. If the file does not exist, an exception is raised."
    assert measure(nano.model, nano.tokenizer, [text]).bits_per_byte < 2.2
    ids = nano.tokenizer("però, 你好 🚋")["input_ids"]
    assert nano.tokenizer.decode(ids) == "però, 你好 🚋"
    size = sum(path.stat().st_size for path in NANO.iterdir())
    assert size < 600_000
